"""The CONNECT proxy: AWS names are served by Millrace, others are tunnelled as they are.

The SDK asks `https://sts.<region>.amazonaws.com`, hard-wired, for the default bucket and the execution role; with
HTTPS_PROXY set to this proxy those requests arrive here. TLS ends in the proxy, with a certificate of its own
authority; the decrypted bytes go to Millrace's port unchanged, so the Host header and the signature still agree.
"""

import asyncio
import logging
import re
from contextlib import suppress
from pathlib import Path

from millrace.clock import Clock, SystemClock
from millrace.http.authority import CertificateAuthority, is_aws_name

__all__ = ["ConnectProxy"]

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"

MAX_HEAD_BYTES = 64 * 1024
"""Bytes of a request's first line and headers at most."""

PIECE_BYTES = 256 * 1024
"""Bytes that are passed on at a time, in each direction of a connection."""

HEAD_SECONDS = 30
"""Seconds in which a request's headers, or a TLS handshake, must be complete."""

CONNECT_SECONDS = 30
"""Seconds in which a tunnel's other end must accept."""

_TARGET = re.compile(r"(?P<host>[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]+\]):(?P<port>\d{1,5})")
_ABSOLUTE = re.compile(r"http://(?P<host>[A-Za-z0-9._-]{1,253})(?::\d{1,5})?(?P<path>/\S*)?", re.IGNORECASE)
_HOP_BY_HOP = (b"connection:", b"proxy-connection:", b"proxy-authorization:", b"keep-alive:")


class ConnectProxy:
    """Listens on loopback only, for clients of this machine.

    Args:
        host: Where Millrace listens.
        port: Its port.
        directory: Keeps the authority's key and certificate.
        listen_port: The proxy's own port; 0 takes a free one.
    """

    def __init__(
        self, *, host: str, port: int, directory: Path, listen_port: int = 0, clock: Clock | None = None
    ) -> None:
        self._host = host
        self._server_port = port
        self._listen_port = listen_port
        self._authority = CertificateAuthority(directory, clock=clock or SystemClock())
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """The port that it listens on, once started."""
        if self._server is None:
            raise RuntimeError("the proxy is not started")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def bundle_path(self) -> Path:
        """The authority's certificate and the public ones: for AWS_CA_BUNDLE and REQUESTS_CA_BUNDLE."""
        return self._authority.bundle_path

    async def start(self) -> None:
        """Begin to listen; raises OSError if the port is taken."""
        self._server = await asyncio.start_server(self._accept, LOOPBACK, self._listen_port, limit=MAX_HEAD_BYTES)

    async def close(self) -> None:
        """Stop listening and cut the connections."""
        if self._server is None:
            return
        self._server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._connections.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as exc:
            # Clients go away in mid-connection, handshakes fail for want of the CA: theirs to notice.
            log.debug("proxy connection ended", extra={"reason": repr(exc)})
        finally:
            if task is not None:
                self._connections.discard(task)
            await _close(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(HEAD_SECONDS):
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.LimitOverrunError:
                await _answer(writer, f"431 Request Header Fields Too Large: at most {MAX_HEAD_BYTES} bytes")
                return
        method, _, rest = head.split(b"\r\n", 1)[0].decode("latin-1").partition(" ")
        target = rest.rpartition(" ")[0]
        if method == "CONNECT":
            await self._connect(target, reader, writer)
        else:
            await self._forward(method, target, head, reader, writer)

    async def _connect(self, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        match = _TARGET.fullmatch(target)
        if match is None:
            await _answer(writer, f"400 Bad Request: expected CONNECT host:port, got {target[:100]!r}")
            return
        host, port = match["host"].lower().strip("[]"), int(match["port"])
        if not is_aws_name(host):
            await self._tunnel(host, port, reader, writer)
            return
        context = await asyncio.to_thread(self._authority.server_context, host)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await writer.drain()
        await writer.start_tls(context, ssl_handshake_timeout=HEAD_SECONDS)
        upstream, downstream = await asyncio.open_connection(self._host, self._server_port, limit=PIECE_BYTES)
        await _pipe_both(reader, writer, upstream, downstream)

    async def _tunnel(self, host: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                upstream, downstream = await asyncio.open_connection(host, port, limit=PIECE_BYTES)
        except (OSError, TimeoutError, OverflowError) as exc:
            await _answer(writer, f"502 Bad Gateway: {host}:{port} cannot be reached: {exc!r}")
            return
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await writer.drain()
        await _pipe_both(reader, writer, upstream, downstream)

    async def _forward(
        self, method: str, target: str, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        match = _ABSOLUTE.fullmatch(target)
        if match is None or not is_aws_name(match["host"].lower()):
            await _answer(
                writer, f"403 Forbidden: only http://<name>.amazonaws.com/ is served here, got {target[:100]!r}"
            )
            return
        upstream, downstream = await asyncio.open_connection(self._host, self._server_port, limit=PIECE_BYTES)
        downstream.write(_origin_form(method, match["path"] or "/", head))
        await _pipe_both(reader, writer, upstream, downstream)


def _origin_form(method: str, path: str, head: bytes) -> bytes:
    """Return the head as the server takes it. One request per connection: the next could be for another host."""
    lines = [line for line in head.split(b"\r\n")[1:] if line and not line.lower().startswith(_HOP_BY_HOP)]
    first = f"{method} {path} HTTP/1.1".encode("latin-1")
    return b"\r\n".join([first, *lines, b"Connection: close", b"", b""])


async def _answer(writer: asyncio.StreamWriter, text: str) -> None:
    """Refuse: the status and reason are the text before its colon, the body is all of it."""
    body = f"{text}\n".encode("latin-1", "replace")
    status = text.partition(":")[0]
    writer.write(
        f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n".encode("latin-1")
        + body
    )
    await writer.drain()


async def _pipe_both(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    upstream: asyncio.StreamReader,
    downstream: asyncio.StreamWriter,
) -> None:
    """Pass bytes on in both directions until the far end is done, or the client is gone; then close both."""
    sending = asyncio.ensure_future(_pipe(reader, downstream))
    receiving = asyncio.ensure_future(_pipe(upstream, writer))
    try:
        await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            sending.result()  # raises what befell the client: nobody waits for an answer then
            if not writer.is_closing():  # the client has sent all, and may still read; under TLS it can't
                await receiving
        if receiving.done():
            receiving.result()
    finally:
        sending.cancel()
        receiving.cancel()
        await asyncio.gather(sending, receiving, return_exceptions=True)
        await _close(downstream)


async def _pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while piece := await source.read(PIECE_BYTES):
        sink.write(piece)
        await sink.drain()
    if sink.can_write_eof():
        sink.write_eof()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError, TimeoutError):
        await writer.wait_closed()
