"""Tags of every resource, by ARN."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from millrace.errors import ValidationError
from millrace.names import Arn
from millrace.ports.documents import DocumentStore, NoSuchDocument
from millrace.protocol.message import Context, Handler, Params, Result
from millrace.services.sagemaker.backends import Backends
from millrace.services.sagemaker.paging import parse_token, print_token

__all__ = ["delete_all_tags", "handlers", "remove_tags", "set_tags"]

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
        await remove_tags(documents, context.region, arn, params["TagKeys"])
        return {}

    async def list_tags(context: Context, params: Params) -> Result:
        arn = _arn(params)
        document = await documents.find(KIND, context.region, arn)
        tags = list(_tags(None if document is None else document.content).items())
        after = parse_token(params, int, int)
        start: int = 0 if after is None else after[0]
        limit = params.get("MaxResults", PAGE)
        page = tags[start : start + limit]
        more = (start + limit, 0) if start + limit < len(tags) else None
        return {"Tags": [{"Key": key, "Value": value} for key, value in page], "NextToken": print_token(more, params)}

    return {"AddTags": add_tags, "DeleteTags": delete_tags, "ListTags": list_tags}


async def set_tags(documents: DocumentStore, region: str, arn: str, tags: Sequence[Tag] | None) -> list[Tag]:
    """Add tags to a resource, replacing values of keys it has; return all of its tags."""
    if not tags:
        return []
    added = {tag["Key"]: tag["Value"] for tag in tags}

    def merge(content: Mapping[str, Any] | None) -> Mapping[str, Any]:
        merged = {**_tags(content), **added}
        if len(merged) > MAX_TAGS:
            raise ValidationError(f"{arn} would have {len(merged)} tags; at most {MAX_TAGS} are allowed")
        return {"tags": merged}

    document = await documents.change(KIND, region, arn, merge)
    return [{"Key": key, "Value": value} for key, value in _tags(document.content).items()]


async def remove_tags(documents: DocumentStore, region: str, arn: str, keys: Iterable[str]) -> None:
    """Remove tags by key; keys that a resource does not have are no mistake."""
    gone = frozenset(keys)

    def without(content: Mapping[str, Any] | None) -> Mapping[str, Any]:
        return {"tags": {key: value for key, value in _tags(content).items() if key not in gone}}

    await documents.change(KIND, region, arn, without)


async def delete_all_tags(documents: DocumentStore, region: str, arn: str) -> None:
    """Forget the tags of a resource that is gone."""
    with suppress(NoSuchDocument):
        await documents.delete(KIND, region, arn)


def _tags(content: Mapping[str, Any] | None) -> Mapping[str, str]:
    tags: Mapping[str, str] = {} if content is None else content["tags"]
    return tags


def _arn(params: Params) -> str:
    text: str = params["ResourceArn"]
    try:
        return str(Arn.parse(text))
    except ValueError as exc:
        raise ValidationError(f"ResourceArn: {exc}") from None
