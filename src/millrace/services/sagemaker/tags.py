"""Tags of every resource, by ARN."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from millrace.errors import ValidationError
from millrace.names import Arn
from millrace.ports.documents import DocumentStore, NoSuchDocument
from millrace.protocol.message import Context, Handler, Params, Result
from millrace.services.sagemaker.backends import Backends
from millrace.services.sagemaker.paging import parse_token, print_token

__all__ = ["delete_all_tags", "handlers", "set_tags"]

KIND = "tags"
MAX_TAGS = 50
PAGE = 50

Tag = Mapping[str, str]


def handlers(backends: Backends) -> Mapping[str, Handler]:
    """Return the handlers of AddTags, DeleteTags and ListTags."""
    documents = backends.documents

    async def add_tags(context: Context, params: Params) -> Result:
        arn = _arn(params)
        return {"Tags": await set_tags(documents, context.region, arn, params["Tags"])}

    async def delete_tags(context: Context, params: Params) -> Result:
        arn = _arn(params)
        tags = await _read(documents, context.region, arn)
        kept = {key: value for key, value in tags.items() if key not in set(params["TagKeys"])}
        await documents.put(KIND, context.region, arn, {"tags": kept})
        return {}

    async def list_tags(context: Context, params: Params) -> Result:
        arn = _arn(params)
        tags = list((await _read(documents, context.region, arn)).items())
        after = parse_token(params)
        start = int(after[0]) if after is not None else 0
        limit = params.get("MaxResults", PAGE)
        page = tags[start : start + limit]
        more = (start + limit, 0) if start + limit < len(tags) else None
        return {"Tags": [{"Key": key, "Value": value} for key, value in page], "NextToken": print_token(more, params)}

    return {"AddTags": add_tags, "DeleteTags": delete_tags, "ListTags": list_tags}


async def set_tags(documents: DocumentStore, region: str, arn: str, tags: Sequence[Tag] | None) -> list[Tag]:
    """Add tags to a resource, replacing values of keys it has; return all of its tags."""
    if not tags:
        return []
    merged = await _read(documents, region, arn)
    merged |= {tag["Key"]: tag["Value"] for tag in tags}
    if len(merged) > MAX_TAGS:
        raise ValidationError(f"{arn} would have {len(merged)} tags; at most {MAX_TAGS} are allowed")
    await documents.put(KIND, region, arn, {"tags": merged})
    return [{"Key": key, "Value": value} for key, value in merged.items()]


async def delete_all_tags(documents: DocumentStore, region: str, arn: str) -> None:
    """Forget the tags of a resource that is gone."""
    with suppress(NoSuchDocument):
        await documents.delete(KIND, region, arn)


async def _read(documents: DocumentStore, region: str, arn: str) -> dict[str, str]:
    document = await documents.find(KIND, region, arn)
    tags: Any = {} if document is None else document.content["tags"]
    return dict(tags)


def _arn(params: Params) -> str:
    text: str = params["ResourceArn"]
    try:
        return str(Arn.parse(text))
    except ValueError as exc:
        raise ValidationError(f"ResourceArn: {exc}") from None
