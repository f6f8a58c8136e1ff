"""The service's errors, and the log store's own in these terms."""

from collections.abc import Mapping
from typing import Any

from millrace.errors import ApiError

__all__ = ["InvalidParameter", "LogResourceExists", "LogResourceMissing", "arn_group", "group_name"]


class LogResourceMissing(ApiError):
    """The group or stream does not exist. The SDK's log loop waits for it to appear."""

    code = "ResourceNotFoundException"


class LogResourceExists(ApiError):
    """The group or stream exists already."""

    code = "ResourceAlreadyExistsException"


class InvalidParameter(ApiError):
    """A parameter breaks a rule that the model cannot express."""

    code = "InvalidParameterException"


def group_name(params: Mapping[str, Any]) -> str:
    """Return the group that a request names, by its name or its ARN."""
    name = params.get("logGroupName") or params.get("logGroupIdentifier")
    if not name:
        raise InvalidParameter("Either logGroupName or logGroupIdentifier must be given, got neither")
    return arn_group(str(name))


def arn_group(text: str) -> str:
    """Return the group in an ARN such as arn:aws:logs:region:account:log-group:name[:*]; a name stays as it is."""
    if not text.startswith("arn:"):
        return text
    parts = text.split(":")
    if len(parts) < 7 or parts[5] != "log-group":
        raise InvalidParameter(f"expected the ARN of a log group, got {text!r}")
    return parts[6]
