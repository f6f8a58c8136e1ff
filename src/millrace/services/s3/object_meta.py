"""Read what a client attaches to an object from a request's members, and write it into a result's."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from functools import cache
from typing import Any
from urllib.parse import parse_qsl

from millrace.ports.objects import ObjectInfo, ObjectMeta
from millrace.protocol.operations import service
from millrace.services.s3.conditions import told_time
from millrace.services.s3.faults import fault
from millrace.services.s3.header_text import received_value, told_value

__all__ = ["described", "encryption_members", "object_meta", "parse_tagging", "refuse_unkept", "tag_set", "tags_of"]

DEFAULT_CONTENT_TYPE = "binary/octet-stream"

_MAX_USER_BYTES = 2048
_MAX_TAGS = 10
_HEADERS: Mapping[str, str] = {
    "CacheControl": "cache-control",
    "ContentDisposition": "content-disposition",
    "ContentLanguage": "content-language",
    "ContentType": "content-type",
    "SSEKMSEncryptionContext": "x-amz-server-side-encryption-context",
    "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id",
    "ServerSideEncryption": "x-amz-server-side-encryption",
    "StorageClass": "x-amz-storage-class",
    "WebsiteRedirectLocation": "x-amz-website-redirect-location",
}
"""Members that are stored as they come, by the name under which they are stored."""

_BUCKET_KEY = "x-amz-server-side-encryption-bucket-key-enabled"
_LOCKS = ("ObjectLockMode", "ObjectLockRetainUntilDate", "ObjectLockLegalHoldStatus")


def object_meta(params: Mapping[str, Any]) -> ObjectMeta:
    """Return what a put, copy or multipart upload attaches, validated by S3's limits."""
    refuse_unkept(params)
    headers = {name: params[member] for member, name in _HEADERS.items() if params.get(member)}
    storage_class = params.get("StorageClass")
    if storage_class and storage_class not in _storage_classes():
        raise fault("InvalidStorageClass", StorageClassRequested=storage_class[:100])
    encoding = ",".join(
        # aws-chunked says how the request was sent, not what the object is.
        part
        for part in (params.get("ContentEncoding") or "").split(",")
        if part.strip() and part.strip().lower() != "aws-chunked"
    )
    if encoding.strip():
        headers["content-encoding"] = encoding.strip()
    if params.get("Expires") is not None:
        headers["expires"] = _http_date(params["Expires"])
    if params.get("BucketKeyEnabled") is not None:
        headers[_BUCKET_KEY] = "true" if params["BucketKeyEnabled"] else "false"
    user = {name.lower(): received_value(value) for name, value in (params.get("Metadata") or {}).items()}
    size = sum(len(name.encode()) + len(value.encode()) for name, value in user.items())
    if size > _MAX_USER_BYTES:
        raise fault("MetadataTooLarge", Size=str(size), MaxSizeAllowed=str(_MAX_USER_BYTES))
    return ObjectMeta(headers=headers, user=user, tags=parse_tagging(params.get("Tagging")))


def refuse_unkept(params: Mapping[str, Any]) -> None:
    """Refuse what would be a false promise: locks, and keys that we do not encrypt with."""
    if any(params.get(name) is not None for name in _LOCKS):
        raise fault("InvalidRequest", "Bucket is missing Object Lock Configuration")
    for member in ("SSECustomerKey", "SSECustomerAlgorithm", "CopySourceSSECustomerKey"):
        if params.get(member) is not None:
            raise fault(
                "NotImplemented",
                "Encryption with a key of the client (SSE-C) is not implemented: objects are stored as they are.",
                Header="x-amz-server-side-encryption-customer-algorithm",
            )


def parse_tagging(text: str | None) -> dict[str, str]:
    """Return the tags of an x-amz-tagging header, which is written like a query."""
    if not text:
        return {}
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict")
    except (ValueError, UnicodeDecodeError):
        raise fault("InvalidArgument", "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded") from None
    return _tags(pairs)


def tags_of(tagging: Mapping[str, Any], *, limit: int = _MAX_TAGS) -> dict[str, str]:
    """Return the tags of a Tagging document."""
    return _tags([(tag["Key"], tag["Value"]) for tag in tagging.get("TagSet") or ()], limit=limit)


def tag_set(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Return tags as a TagSet."""
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def _tags(pairs: list[tuple[str, str]], *, limit: int = _MAX_TAGS) -> dict[str, str]:
    if len(pairs) > limit:
        raise fault("InvalidTag", f"There may be at most {limit} tags, got {len(pairs)}")
    tags: dict[str, str] = {}
    for key, value in pairs:
        if not 1 <= len(key) <= 128:
            raise fault("InvalidTag", f"A TagKey must have 1 to 128 characters, got {len(key)}", TagKey=key)
        if len(value) > 256:
            raise fault("InvalidTag", f"A TagValue must have at most 256 characters, got {len(value)}", TagValue=value)
        if key in tags:
            raise fault("InvalidTag", "Cannot provide multiple Tags with the same key", TagKey=key)
        tags[key] = value
    return tags


def described(info: ObjectInfo) -> dict[str, Any]:
    """Return an object's facts as GetObject and HeadObject tell them, without length and checksums."""
    headers = info.meta.headers
    result: dict[str, Any] = {
        "AcceptRanges": "bytes",
        "ETag": f'"{info.etag}"',
        "LastModified": told_time(info.modified_at),
        "ContentType": DEFAULT_CONTENT_TYPE,
        "Metadata": {name: told_value(value) for name, value in info.meta.user.items()},
        "TagCount": len(info.meta.tags) or None,
        "ContentEncoding": headers.get("content-encoding"),
        **{member: headers[name] for member, name in _HEADERS.items() if name in headers},
        **encryption_members(info.meta),
    }
    result.pop("SSEKMSEncryptionContext", None)  # answered to writes only
    if result.get("StorageClass") == "STANDARD":
        del result["StorageClass"]  # "Amazon S3 returns this header for all objects except for S3 Standard"
    if "expires" in headers:
        result["Expires"] = parsedate_to_datetime(headers["expires"])
    return result


def encryption_members(meta: ObjectMeta) -> dict[str, Any]:
    """Return what the client asked for in encryption; objects are stored as they are, by the disk's own means."""
    headers = meta.headers
    members: dict[str, Any] = {
        member: headers.get(_HEADERS[member]) for member in ("ServerSideEncryption", "SSEKMSKeyId")
    }
    if _BUCKET_KEY in headers:
        members["BucketKeyEnabled"] = headers[_BUCKET_KEY] == "true"
    return members


@cache
def _storage_classes() -> frozenset[str]:
    return frozenset(service("s3").model.shape_for("StorageClass").enum)


def _http_date(value: datetime) -> str:
    return format_datetime(value.astimezone(UTC), usegmt=True)
