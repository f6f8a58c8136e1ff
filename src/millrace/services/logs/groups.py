"""Make, list, label and delete log groups."""

import asyncio
from collections.abc import Mapping
from typing import Any

from millrace.ports.logs import LogGroup, LogStore, NoSuchLogStream
from millrace.protocol.message import Context, Handler, Params, Result
from millrace.services.logs.faults import (
    InvalidParameter,
    LogResourceExists,
    LogResourceMissing,
    arn_group,
    group_name,
)
from millrace.services.logs.pages import cut_page

__all__ = ["GroupHandlers", "group_arn"]

_RETENTION_DAYS = (
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653
)  # fmt: skip


class GroupHandlers:
    """The operations on log groups. Retention is kept and told back; nothing is deleted by it."""

    def __init__(self, log_store: LogStore, *, account: str) -> None:
        self._log_store = log_store
        self._account = account

    def table(self) -> Mapping[str, Handler]:
        """Return the handlers by operation."""
        return {
            "CreateLogGroup": self.create,
            "DeleteLogGroup": self.delete,
            "DeleteRetentionPolicy": self.delete_retention,
            "DescribeLogGroups": self.describe,
            "ListTagsForResource": self.list_tags,
            "ListTagsLogGroup": self.list_tags,
            "PutRetentionPolicy": self.put_retention,
            "TagLogGroup": self.tag,
            "TagResource": self.tag,
            "UntagLogGroup": self.untag,
            "UntagResource": self.untag,
        }

    async def create(self, ctx: Context, params: Params) -> None:
        """Make a group."""
        name = params["logGroupName"]
        if not await asyncio.to_thread(self._log_store.create, name):
            raise LogResourceExists("The specified log group already exists")
        if params.get("tags"):
            await asyncio.to_thread(self._log_store.configure, name, tags=params["tags"])

    async def delete(self, ctx: Context, params: Params) -> None:
        """Delete a group and all of its streams."""
        try:
            await asyncio.to_thread(self._log_store.delete, params["logGroupName"])
        except NoSuchLogStream:
            raise _missing() from None

    async def describe(self, ctx: Context, params: Params) -> Result:
        """List groups by name."""
        prefix, pattern = params.get("logGroupNamePrefix"), params.get("logGroupNamePattern")
        if prefix is not None and pattern is not None:
            raise InvalidParameter("logGroupNamePrefix and logGroupNamePattern are mutually exclusive, got both")
        named = {arn_group(text) for text in params.get("logGroupIdentifiers") or ()}
        groups = await asyncio.to_thread(self._log_store.list_groups, prefix or "")
        chosen = [
            group
            for group in groups
            # "The string is case insensitive": a pattern is looked for anywhere in the name.
            if (not pattern or pattern.lower() in group.name.lower()) and (not named or group.name in named)
        ]
        page, token = cut_page(
            chosen, token=params.get("nextToken"), limit=params.get("limit") or 50, name=lambda group: group.name
        )
        return {"logGroups": [self._described(ctx, group) for group in page], "nextToken": token}

    async def put_retention(self, ctx: Context, params: Params) -> None:
        """Keep how long events should stay."""
        days = params["retentionInDays"]
        if days not in _RETENTION_DAYS:
            raise InvalidParameter(f"retentionInDays must be one of {', '.join(map(str, _RETENTION_DAYS))}, got {days}")
        await self._configure(params["logGroupName"], retention_days=days)

    async def delete_retention(self, ctx: Context, params: Params) -> None:
        """Let events stay for ever."""
        await self._configure(params["logGroupName"], retention_days=None)

    async def list_tags(self, ctx: Context, params: Params) -> Result:
        """Tell a group's tags."""
        return {"tags": dict((await self._find(_tagged(params))).tags)}

    async def tag(self, ctx: Context, params: Params) -> None:
        """Add tags to a group."""
        name = _tagged(params)
        await self._configure(name, tags={**(await self._find(name)).tags, **params["tags"]})

    async def untag(self, ctx: Context, params: Params) -> None:
        """Remove tags from a group."""
        name = _tagged(params)
        removed = set(params.get("tagKeys") or params.get("tags") or ())
        tags = (await self._find(name)).tags
        await self._configure(name, tags={key: value for key, value in tags.items() if key not in removed})

    async def _configure(self, name: str, **changes: Any) -> None:
        group = await self._find(name)
        settings = {"retention_days": group.retention_days, "tags": group.tags, **changes}
        await asyncio.to_thread(self._log_store.configure, name, **settings)

    async def _find(self, name: str) -> LogGroup:
        for group in await asyncio.to_thread(self._log_store.list_groups, name):
            if group.name == name:
                return group
        raise _missing()

    def _described(self, ctx: Context, group: LogGroup) -> dict[str, Any]:
        arn = group_arn(group.name, region=ctx.region, account=self._account)
        return {
            "logGroupName": group.name,
            "creationTime": group.created_ms,
            "retentionInDays": group.retention_days,
            "metricFilterCount": 0,
            "arn": f"{arn}:*",
            "storedBytes": group.stored_bytes,
            "logGroupClass": "STANDARD",
            "logGroupArn": arn,
        }


def group_arn(name: str, *, region: str, account: str) -> str:
    """Return a group's ARN."""
    return f"arn:aws:logs:{region}:{account}:log-group:{name}"


def _tagged(params: Params) -> str:
    if "resourceArn" in params:
        return arn_group(params["resourceArn"])
    return group_name(params)


def _missing() -> LogResourceMissing:
    return LogResourceMissing("The specified log group does not exist.")
