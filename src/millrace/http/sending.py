"""Answers into ASGI messages."""

import asyncio
import os
import re
from collections.abc import AsyncIterator

from millrace.http.bodies import ReceivedBody, Send, close_unsent, iter_file, opened, read_cached
from millrace.http.connection import SendFile
from millrace.protocol.message import FileRegion, Response

__all__ = ["send_response"]

WATCHED_BYTES = 4 * 1024 * 1024
"""Bytes from which on a file's sending watches for the client to go away; less is sent as quickly as that costs."""

_NO_BODY = frozenset({204, 304})
# Metadata and the response-* parameters of S3 come from clients; a line break in them would start a header.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]+")


_AT_ONCE_BYTES = 64 * 1024
"""Up to this many bytes of a file are read in one piece and sent with the headers."""


async def send_response(
    response: Response, *, method: str, body: ReceivedBody, send: Send, send_file: SendFile | None = None
) -> None:
    """Send an answer: exact Content-Length where it is known, no body for HEAD, 204 and 304.

    Args:
        response: The answer.
        method: Of the request.
        body: Of the request, which tells when the client goes.
        send: Where messages go.
        send_file: The quick way for files, where the server has one.
    """
    bodiless = method == "HEAD" or response.status in _NO_BODY
    await send(
        {
            "type": "http.response.start",
            "status": response.status,
            "headers": _headers(response, keep_length=method == "HEAD"),
        }
    )
    if bodiless:
        await _discard(response.body)
        await send({"type": "http.response.body", "body": b""})
    elif isinstance(response.body, bytes):
        await send({"type": "http.response.body", "body": response.body})
    elif isinstance(response.body, FileRegion):
        await _send_region(response.body, body, send, send_file)
    else:
        await _send_stream(response.body, True, body, send, interruptible=True)


async def _send_region(region: FileRegion, body: ReceivedBody, send: Send, send_file: SendFile | None) -> None:
    if region.length <= _AT_ONCE_BYTES:
        content = read_cached(region)
        if content is not None:
            await send({"type": "http.response.body", "body": content})
            return
    elif send_file is not None:
        region = opened(region)
        descriptor = region.fd
        assert descriptor is not None
        try:
            sent = await send_file(descriptor, region.start, region.length)
        except BaseException:
            os.close(descriptor)
            raise
        if sent:
            os.close(descriptor)
            await send({"type": "http.response.body", "body": b""})
            return
    await _send_stream(iter_file(region), region.length >= WATCHED_BYTES, body, send)


def _headers(response: Response, *, keep_length: bool) -> list[tuple[bytes, bytes]]:
    headers = []
    stated = None
    for name, value in response.headers:
        if len(name) == 14 and name.lower() == "content-length":
            stated = _value(value)
        else:
            headers.append((name.encode("latin-1", "replace"), _value(value)))
    if response.status in _NO_BODY:
        return headers
    length = _length(response.body)
    if length is None or (keep_length and stated is not None):
        if stated is not None:
            headers.append((b"content-length", stated))
        return headers
    headers.append((b"content-length", b"%d" % length))
    return headers


def _value(text: str) -> bytes:
    if not text.isprintable():  # a quick look that finds more than control characters
        text = _CONTROL.sub(" ", text)
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def _length(body: object) -> int | None:
    if isinstance(body, bytes):
        return len(body)
    return body.length if isinstance(body, FileRegion) else None


async def _discard(body: object) -> None:
    close_unsent(body)
    if hasattr(body, "aclose"):
        await body.aclose()


async def _send_stream(
    pieces: AsyncIterator[bytes], watched: bool, body: ReceivedBody, send: Send, *, interruptible: bool = False
) -> None:
    """Send pieces as they come.

    Args:
        pieces: What is sent; closed at the end.
        watched: Whether to stop once the client has gone.
        body: The request's body, which tells when the client goes.
        send: Where the pieces go.
        interruptible: Whether the wait for a piece may be cancelled: a model that streams may think for minutes before
            the next word, and is to be told at once that nobody listens. A file's read must come to its end.
    """
    # Sending to a client that has gone is silently nothing: without the watch a 100 GB file would be read to its end.
    watch = asyncio.ensure_future(body.wait_disconnect()) if watched and body.finished else None
    interruption = None
    if watch is not None and interruptible:
        interruption = _Interruption(watch)
    try:
        async for piece in pieces:
            if watch is not None and watch.done():
                return
            if piece:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        if interruption is not None:
            interruption.end()  # the end of the answer ends the watch, too
        await send({"type": "http.response.body", "body": b""})
    except asyncio.CancelledError:
        if interruption is None or not interruption.take_back():
            raise
    finally:
        if interruption is not None:
            interruption.end()
        if watch is not None:
            watch.cancel()
        await _discard(pieces)


class _Interruption:
    """Cancels the task that made it once the client has gone, and knows that cancellation from others."""

    def __init__(self, watch: "asyncio.Future[None]") -> None:
        self._task = asyncio.current_task()
        self._watch = watch
        self._is_ours = False
        self._is_over = False
        watch.add_done_callback(self._gone)

    def _gone(self, watch: "asyncio.Future[None]") -> None:
        if self._task is not None and not self._is_over and not watch.cancelled():
            self._is_ours = True
            self._task.cancel()

    def take_back(self) -> bool:
        """Tell whether the cancellation under way is ours alone; it is over then."""
        return self._is_ours and self._task is not None and self._task.uncancel() == 0

    def end(self) -> None:
        """Cancel nothing from now on, not even if the loop is about to call `_gone`, which can't be taken back."""
        self._is_over = True
        self._watch.remove_done_callback(self._gone)
