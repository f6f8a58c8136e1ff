"""Cut a sorted list into pages."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from millrace.services.logs.faults import InvalidParameter

__all__ = ["cut_page"]

T = TypeVar("T")

_NAME, _INDEX = "n/", "i/"


def cut_page(
    entries: Sequence[T], *, token: str | None, limit: int, name: Callable[[T], str] | None
) -> tuple[Sequence[T], str | None]:
    """Return a page, and the token of the next one if there is more.

    The token is None at the end: the SageMaker SDK asks again for as long as it gets one, without passing it on.

    Args:
        entries: All of them, sorted.
        token: That of the page before, or None.
        limit: Entries of a page at most.
        name: Gives the name by which the entries are sorted; None if they are sorted by something else, where a page
            goes on by position.
    """
    start = _start(entries, token, name)
    page = entries[start : start + limit]
    if start + limit >= len(entries) or not page:
        return page, None
    return page, f"{_INDEX}{start + limit}" if name is None else f"{_NAME}{name(page[-1])}"


def _start(entries: Sequence[T], token: str | None, name: Callable[[T], str] | None) -> int:
    if token is None:
        return 0
    if name is not None and token.startswith(_NAME):
        last = token.removeprefix(_NAME)
        return sum(1 for entry in entries if name(entry) <= last)
    if name is None and token.startswith(_INDEX) and token.removeprefix(_INDEX).isdecimal():
        return int(token.removeprefix(_INDEX))
    raise InvalidParameter(f"The specified nextToken is invalid: {token!r}")
