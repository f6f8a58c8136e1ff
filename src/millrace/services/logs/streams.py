"""Make, list and delete log streams."""

import asyncio
from collections.abc import Mapping
from typing import Any

from millrace.ports.logs import LogStore, LogStream, NoSuchLogStream
from millrace.protocol.message import Context, Handler, Params, Result
from millrace.services.logs.faults import InvalidParameter, LogResourceExists, LogResourceMissing, group_name
from millrace.services.logs.groups import group_arn
from millrace.services.logs.pages import cut_page

__all__ = ["StreamHandlers"]

_MAX_STREAMS = 50


class StreamHandlers:
    """The operations on log streams as such."""

    def __init__(self, log_store: LogStore, *, account: str) -> None:
        self._log_store = log_store
        self._account = account

    def table(self) -> Mapping[str, Handler]:
        """Return the handlers by operation."""
        return {
            "CreateLogStream": self.create,
            "DeleteLogStream": self.delete,
            "DescribeLogStreams": self.describe,
        }

    async def create(self, ctx: Context, params: Params) -> None:
        """Make a stream in a group that exists."""
        group, stream = params["logGroupName"], params["logStreamName"]
        await self._list(group, stream)
        if not await asyncio.to_thread(self._log_store.create, group, stream):
            raise LogResourceExists("The specified log stream already exists")

    async def delete(self, ctx: Context, params: Params) -> None:
        """Delete a stream and its events."""
        group, stream = params["logGroupName"], params["logStreamName"]
        await self._list(group, stream)
        try:
            await asyncio.to_thread(self._log_store.delete, group, stream)
        except NoSuchLogStream:
            raise LogResourceMissing("The specified log stream does not exist.") from None

    async def describe(self, ctx: Context, params: Params) -> Result:
        """List streams by name or by the time of their last event."""
        group, prefix = group_name(params), params.get("logStreamNamePrefix")
        by_time = params.get("orderBy") == "LastEventTime"
        if by_time and prefix:
            raise InvalidParameter("Cannot order by LastEventTime with a logStreamNamePrefix.")
        streams = await self._list(group, prefix or "")
        if by_time:
            streams.sort(key=lambda stream: (stream.last_event_ms or 0, stream.name))
        by_position = by_time or bool(params.get("descending"))
        if params.get("descending"):
            streams.reverse()
        page, token = cut_page(
            streams,
            token=params.get("nextToken"),
            limit=min(params.get("limit") or _MAX_STREAMS, _MAX_STREAMS),
            name=None if by_position else lambda stream: stream.name,
        )
        arn = group_arn(group, region=ctx.region, account=self._account)
        return {"logStreams": [_described(stream, arn) for stream in page], "nextToken": token}

    async def _list(self, group: str, prefix: str) -> list[LogStream]:
        try:
            return await asyncio.to_thread(self._log_store.list_streams, group, prefix)
        except NoSuchLogStream:
            raise LogResourceMissing("The specified log group does not exist.") from None


def _described(stream: LogStream, arn: str) -> dict[str, Any]:
    return {
        "logStreamName": stream.name,
        "creationTime": stream.created_ms,
        "firstEventTimestamp": stream.first_event_ms,
        "lastEventTimestamp": stream.last_event_ms,
        "lastIngestionTime": stream.last_event_ms,
        "arn": f"{arn}:log-stream:{stream.name}",
        "storedBytes": stream.stored_bytes,
    }
