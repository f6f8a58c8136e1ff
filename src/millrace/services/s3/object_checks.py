"""What requests on objects say in common: which object, which version, on what condition."""

from collections.abc import Mapping
from typing import Any

from millrace.names import ObjectRef
from millrace.protocol.message import Params
from millrace.services.s3.faults import fault

__all__ = ["MAX_KEY_BYTES", "check_version", "object_ref", "target_conditions"]

MAX_KEY_BYTES = 1024


def object_ref(params: Params) -> ObjectRef:
    """Return the object that a request names; raises KeyTooLongError."""
    key: str = params["Key"]
    size = len(key.encode())
    if size > MAX_KEY_BYTES:
        raise fault("KeyTooLongError", Size=str(size), MaxSizeAllowed=str(MAX_KEY_BYTES))
    if not key:
        raise fault("InvalidArgument", "Key must have at least 1 character, got none", ArgumentName="Key")
    return ObjectRef(params["Bucket"], key)


def check_version(params: Mapping[str, Any]) -> None:
    """Refuse any version but "null", the only one that objects have."""
    version = params.get("VersionId")
    if version not in (None, "", "null"):
        raise fault("NoSuchVersion", VersionId=version)


def target_conditions(params: Params) -> tuple[str | None, str | None]:
    """Return a write's conditions, If-None-Match and If-Match: an ETag without quotes, "*" for any, or None."""
    none_match, match = params.get("IfNoneMatch"), params.get("IfMatch")
    if none_match is not None and match is not None:
        raise fault("InvalidRequest", "If-Match and If-None-Match exclude each other")
    return _bare(none_match), _bare(match)


def _bare(condition: str | None) -> str | None:
    return None if condition is None else condition.strip().strip('"')
