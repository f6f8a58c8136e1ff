"""Page tokens: where a listing goes on, bound to the filters it was begun with."""

import base64
import binascii
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import orjson

from millrace.errors import ValidationError

__all__ = ["DEFAULT_PAGE", "parse_token", "print_token"]

DEFAULT_PAGE = 10

_PAGING = ("NextToken", "MaxResults")

_INT64 = 1 << 63


def print_token(after: tuple[Any, Any] | None, params: Mapping[str, Any]) -> str | None:
    """Return the token that goes on after an entry, or None at the end."""
    if after is None:
        return None
    return base64.urlsafe_b64encode(orjson.dumps([_filters(params), *after])).decode()


def parse_token(params: Mapping[str, Any], value_type: type, tie_type: type) -> tuple[Any, Any] | None:
    """Return what a request's NextToken holds, values of these types, or None without one.

    Raises:
        ValidationError: The token is not ours, or was begun with other filters.
    """
    token = params.get("NextToken")
    if not token:
        return None
    try:
        filters, value, tie = orjson.loads(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, TypeError, binascii.Error):
        raise ValidationError(f"NextToken is not valid: {token!r}") from None
    if filters != _filters(params):
        raise ValidationError("NextToken belongs to a listing with other filters or another order.")
    if not (_is_place(value, value_type) and _is_place(tie, tie_type)):  # a client can make up all of a token
        raise ValidationError(f"NextToken is not valid: {token!r}")
    return value, tie


def _is_place(value: Any, expected: type) -> bool:
    return type(value) is expected and (type(value) is not int or -_INT64 <= value < _INT64)


def _filters(params: Mapping[str, Any]) -> str:
    said = sorted((key, str(value)) for key, value in params.items() if key not in _PAGING)
    return sha256(repr(said).encode()).hexdigest()[:16]
