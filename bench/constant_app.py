"""The smallest ASGI program: every request gets the same two bytes."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

__all__ = ["app"]

_START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
_BODY = {"type": "http.response.body", "body": b"ok"}

Send = Callable[[Mapping[str, Any]], Awaitable[None]]


async def app(scope: Mapping[str, Any], receive: Callable[[], Awaitable[Any]], send: Send) -> None:
    """Answer."""
    await send(_START)
    await send(_BODY)
