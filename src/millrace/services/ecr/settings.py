"""What a repository is told about itself and tells back: tags, policies, mutability, scanning.

Tag mutability and policies are kept and told; nothing here enforces them, as only `millrace image build` writes images.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from millrace.protocol.message import Context, Handler, Params, Result
from millrace.services.ecr.faults import (
    InvalidParameter,
    LifecyclePolicyNotFound,
    RepositoryPolicyNotFound,
    TooManyTags,
)
from millrace.services.ecr.repositories import Repositories

__all__ = ["SettingHandlers"]

MAX_TAGS = 50


class SettingHandlers:
    """The operations on a repository's settings."""

    def __init__(self, repositories: Repositories) -> None:
        self._repositories = repositories

    def table(self) -> Mapping[str, Handler]:
        """Return the handlers by operation."""
        return {
            "DeleteLifecyclePolicy": self.delete_lifecycle_policy,
            "DeleteRepositoryPolicy": self.delete_policy,
            "GetLifecyclePolicy": self.get_lifecycle_policy,
            "GetRepositoryPolicy": self.get_policy,
            "ListTagsForResource": self.list_tags,
            "PutImageScanningConfiguration": self.put_scanning,
            "PutImageTagMutability": self.put_mutability,
            "PutLifecyclePolicy": self.put_lifecycle_policy,
            "SetRepositoryPolicy": self.set_policy,
            "TagResource": self.tag,
            "UntagResource": self.untag,
        }

    async def set_policy(self, ctx: Context, params: Params) -> Result:
        """Keep a repository's policy."""
        _check_json("policyText", params["policyText"])
        return await self._set(ctx, params, "policy", params["policyText"], told="policyText")

    async def get_policy(self, ctx: Context, params: Params) -> Result:
        """Tell the policy that was kept."""
        facts = await self._repositories.find(ctx.region, params)
        text = facts.get("policy")
        if text is None:
            raise RepositoryPolicyNotFound(self._missing("Repository policy", params))
        return {**self._names(params), "policyText": text}

    async def delete_policy(self, ctx: Context, params: Params) -> Result:
        """Forget the policy."""
        told = await self.get_policy(ctx, params)
        await self._repositories.change(ctx.region, params, lambda facts: {**facts, "policy": None})
        return told

    async def put_lifecycle_policy(self, ctx: Context, params: Params) -> Result:
        """Keep a lifecycle policy; nothing is expired by it."""
        text = params["lifecyclePolicyText"]
        _check_json("lifecyclePolicyText", text)
        return await self._set(ctx, params, "lifecycle_policy", text, told="lifecyclePolicyText")

    async def get_lifecycle_policy(self, ctx: Context, params: Params) -> Result:
        """Tell the lifecycle policy that was kept."""
        facts = await self._repositories.find(ctx.region, params)
        text = facts.get("lifecycle_policy")
        if text is None:
            raise LifecyclePolicyNotFound(self._missing("Lifecycle policy", params))
        evaluated = datetime.fromtimestamp(facts["created_at"], UTC)
        return {**self._names(params), "lifecyclePolicyText": text, "lastEvaluatedAt": evaluated}

    async def delete_lifecycle_policy(self, ctx: Context, params: Params) -> Result:
        """Forget the lifecycle policy."""
        told = await self.get_lifecycle_policy(ctx, params)
        await self._repositories.change(ctx.region, params, lambda facts: {**facts, "lifecycle_policy": None})
        return told

    async def put_mutability(self, ctx: Context, params: Params) -> Result:
        """Keep whether tags may be given to other images."""
        value = params["imageTagMutability"]
        return await self._set(ctx, params, "tag_mutability", value, told="imageTagMutability")

    async def put_scanning(self, ctx: Context, params: Params) -> Result:
        """Keep whether images should be scanned; none is."""
        value = bool(params["imageScanningConfiguration"].get("scanOnPush"))
        await self._repositories.change(ctx.region, params, lambda facts: {**facts, "scan_on_push": value})
        return {**self._names(params), "imageScanningConfiguration": {"scanOnPush": value}}

    async def list_tags(self, ctx: Context, params: Params) -> Result:
        """Tell a repository's tags."""
        facts = await self._repositories.find(ctx.region, self._named(ctx, params))
        return {"tags": [{"Key": key, "Value": value} for key, value in (facts.get("tags") or {}).items()]}

    async def tag(self, ctx: Context, params: Params) -> Result:
        """Add tags to a repository."""
        added = {tag["Key"]: tag.get("Value", "") for tag in params["tags"]}

        def merge(facts: Mapping[str, Any]) -> Mapping[str, Any]:
            tags = {**(facts.get("tags") or {}), **added}
            if len(tags) > MAX_TAGS:
                raise TooManyTags(f"a repository has at most {MAX_TAGS} tags, it would have {len(tags)}")
            return {**facts, "tags": tags}

        await self._repositories.change(ctx.region, self._named(ctx, params), merge)
        return {}

    async def untag(self, ctx: Context, params: Params) -> Result:
        """Remove tags from a repository."""
        gone = frozenset(params["tagKeys"])

        def without(facts: Mapping[str, Any]) -> Mapping[str, Any]:
            return {
                **facts,
                "tags": {key: value for key, value in (facts.get("tags") or {}).items() if key not in gone},
            }

        await self._repositories.change(ctx.region, self._named(ctx, params), without)
        return {}

    async def _set(self, ctx: Context, params: Params, fact: str, value: str, *, told: str) -> Result:
        await self._repositories.change(ctx.region, params, lambda facts: {**facts, fact: value})
        return {**self._names(params), told: value}

    def _names(self, params: Params) -> dict[str, Any]:
        return {"registryId": self._repositories.account, "repositoryName": params["repositoryName"]}

    def _missing(self, what: str, params: Params) -> str:
        return (
            f"{what} does not exist for the repository with name '{params['repositoryName']}' in the registry with id "
            f"'{self._repositories.account}'"
        )

    def _named(self, ctx: Context, params: Params) -> Params:
        """Return the request as one that names its repository, instead of by ARN."""
        arn = params["resourceArn"]
        prefix = self._repositories.arn(ctx.region, "")
        if not arn.startswith(prefix):
            raise InvalidParameter(f"resourceArn must begin with {prefix}, got {arn!r}")
        return {"repositoryName": arn.removeprefix(prefix)}


def _check_json(member: str, text: str) -> None:
    try:
        json.loads(text)
    except ValueError as exc:
        raise InvalidParameter(
            f"Invalid parameter at '{member}' failed to satisfy constraint: not JSON: {exc}"
        ) from exc
