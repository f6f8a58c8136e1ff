"""What a policy's conditions may ask about a request."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from millrace.protocol.message import Context, Params
from millrace.services.s3.bucket_policy import Subject
from millrace.services.s3.object_meta import parse_tagging, tags_of
from millrace.services.s3.policy_conditions import Facts

__all__ = ["request_facts", "subject_of"]

_LISTING = {"Prefix": "s3:prefix", "Delimiter": "s3:delimiter", "MaxKeys": "s3:max-keys"}


def subject_of(ctx: Context, canonical_id: str | None) -> Subject:
    """Return the caller as policies name it."""
    principal = ctx.principal
    if principal is None:
        return Subject()
    return Subject(account=principal.account, arns=(principal.arn, principal.role_arn), canonical_id=canonical_id)


def request_facts(
    ctx: Context, params: Params, action: str, *, now: datetime, existing_tags: Mapping[str, str]
) -> Facts:
    """Return the values of all condition keys that the request has."""
    facts: dict[str, tuple[str, ...]] = {
        "aws:currenttime": (now.isoformat(),),
        "aws:epochtime": (str(int(now.timestamp())),),
        "aws:securetransport": ("true" if ctx.base_url.startswith("https:") else "false",),
    }
    for name, value in ctx.request.headers:
        if name.startswith("x-amz-"):
            facts[f"s3:{name}"] = (value,)
        elif name == "referer":
            facts["aws:referer"] = (value,)
        elif name == "user-agent":
            facts["aws:useragent"] = (value,)
    if ctx.request.client:
        facts["aws:sourceip"] = (ctx.request.client,)
    if ctx.principal is not None:
        facts["aws:principalaccount"] = (ctx.principal.account,)
        facts["aws:principalarn"] = (ctx.principal.role_arn,)
    if action in ("s3:ListBucket", "s3:ListBucketVersions"):
        facts |= {key: (str(params[member]),) for member, key in _LISTING.items() if params.get(member) is not None}
    facts |= {f"s3:existingobjecttag/{name}": (value,) for name, value in existing_tags.items()}
    tags = _request_tags(params.get("Tagging"))
    if tags:
        facts |= {f"s3:requestobjecttag/{name}": (value,) for name, value in tags.items()}
        facts["s3:requestobjecttagkeys"] = tuple(tags)
    return facts


def _request_tags(tagging: Any) -> Mapping[str, str]:
    return tags_of(tagging) if isinstance(tagging, Mapping) else parse_tagging(tagging)
