"""Cut lists into pages; a token is the key of the last entry told."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from typing import TypeVar

from millrace.protocol.message import Params
from millrace.services.ecr.faults import InvalidParameter

__all__ = ["cut_page"]

T = TypeVar("T")

PAGE = 100


def cut_page(entries: Sequence[T], params: Params, *, key: Callable[[T], str]) -> tuple[Sequence[T], str | None]:
    """Return the page that a request asks for, and the token of the next one.

    Args:
        entries: Sorted by `key`.

    Raises:
        InvalidParameter: The token is none of ours.
    """
    token = params.get("nextToken")
    if token is not None:
        try:
            after = urlsafe_b64decode(token).decode()
        except ValueError:
            raise InvalidParameter(f"The nextToken {token!r} is invalid") from None
        entries = [entry for entry in entries if key(entry) > after]
    limit = params.get("maxResults") or PAGE
    page = entries[:limit]
    if len(entries) <= limit:
        return page, None
    return page, urlsafe_b64encode(key(page[-1]).encode()).decode()
