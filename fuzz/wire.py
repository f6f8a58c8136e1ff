"""Targets: answers of containers, and the small texts of requests, containers and manifests."""

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import orjson

from fuzz.source import Source
from millrace.dataplane.client_errors import ClientError
from millrace.dataplane.connection import Connection
from millrace.dataplane.execution_parameters import settle
from millrace.dataplane.formats.options import FORMAT_VARIABLES, format_options
from millrace.dataplane.long_body import BufferPool
from millrace.dataplane.manifest import parse_manifest
from millrace.dataplane.retry import retry_after_seconds, retry_delay
from millrace.errors import ClientFailure, ValidationError
from millrace.jobs.transform import TransformSpec
from millrace.jobs.transform_options import KEYS, job_options
from millrace.names import ObjectPrefix

__all__ = ["answers", "execution_parameters", "manifests", "options", "retry_after"]

_NOW = datetime(2020, 1, 1, tzinfo=UTC)
_SPEC = TransformSpec(model="m", source=ObjectPrefix("shop", "in/"), output=ObjectPrefix("shop", "out/"))


class Wire(asyncio.Transport):
    """Gives a connection's protocol what a server is said to have sent; what is written to it is dropped."""

    def __init__(self) -> None:
        super().__init__()
        self._protocol: asyncio.BaseProtocol | None = None
        self._reading = True
        self.open = True

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def is_reading(self) -> bool:
        return self._reading

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True

    def is_closing(self) -> bool:
        return not self.open

    def write(self, data: "bytes | bytearray | memoryview[Any]") -> None:
        """Drop it."""

    def writelines(self, list_of_data: "Iterable[bytes | bytearray | memoryview[Any]]") -> None:
        """Drop it."""

    def abort(self) -> None:
        self.open = False

    def close(self) -> None:
        self.open = False

    def deliver(self, data: bytes) -> None:
        """Hand data to the protocol as event loops do."""
        while data and self.open:
            assert self._reading, "nobody resumes this one"
            if isinstance(self._protocol, asyncio.BufferedProtocol):
                buffer = memoryview(self._protocol.get_buffer(len(data)))
                assert len(buffer) > 0
                taken = min(len(buffer), len(data))
                buffer[:taken] = data[:taken]
                self._protocol.buffer_updated(taken)
                data = data[taken:]
            else:
                cast(asyncio.Protocol, self._protocol).data_received(data)
                return

    def end(self) -> None:
        """End the connection, as a server does that closes it."""
        if self.open:
            cast(asyncio.Protocol, self._protocol).connection_lost(None)


def _exchange(chunks: Sequence[bytes], pool: BufferPool | None) -> tuple[int, bytes] | None:
    """Return status and body of the answer that these bytes begin with; None if there is no complete one."""
    found: list[tuple[int, bytes] | None] = []

    def answered(connection: Connection) -> None:
        body = connection.body
        found.append((connection.status, b"".join(body) if isinstance(body, list) else bytes(body)))

    def lost(connection: Connection) -> None:
        assert isinstance(connection.error, ClientError)
        found.append(None)

    wire, connection = Wire(), Connection()
    wire.set_protocol(connection)
    connection.connection_made(wire)
    connection.on_answer, connection.on_lost, connection.pool = answered, lost, pool
    connection.send(b"POST /invocations HTTP/1.1\r\nContent-Length: ", b"", 0)
    for chunk in chunks:
        wire.deliver(chunk)
        if found:
            break
    wire.end()
    assert 1 <= len(found) <= 2, "there is one outcome; an idle connection may end after it"
    return found[0]


def answers(data: bytes) -> None:
    """Read an answer: as one segment, in chunks, and again when its head is known."""
    source = Source(data)
    cuts = source.cuts()
    data = source.rest()
    whole = _exchange([data], None)
    assert _exchange(cuts.apply(data), None) == whole, "chunks change nothing"
    assert _exchange([data], None) == whole, "a head that was remembered means the same"
    assert _exchange(cuts.apply(data), BufferPool(1 << 20)) == whole, "nor does a buffer of the pool"


def retry_after(data: bytes) -> None:
    """Read Retry-After."""
    seconds = retry_after_seconds(data, _NOW)
    if seconds is not None:
        assert seconds >= 0
        delay = retry_delay(1, jitter=0.5, retry_after=seconds)
        assert math.isfinite(delay)
        assert 0 <= delay <= 600


def execution_parameters(data: bytes) -> None:
    """Settle what a container asks for."""
    try:
        suggested = orjson.loads(data)
    except ValueError:
        suggested = None
    settled = settle(_SPEC, suggested)
    assert 1 <= settled.max_concurrent_transforms <= 100
    assert settled.max_payload_bytes >= 0


def manifests(data: bytes) -> None:
    """Read a manifest."""
    try:
        entries = parse_manifest(data, "s3://shop/manifest")
    except ClientFailure as exc:
        assert "s3://shop/manifest" in str(exc)
        return
    assert len({entry.ref for entry in entries}) == len(entries)
    assert all(entry.ref.bucket and entry.ref.key for entry in entries)


def options(data: bytes) -> None:
    """Read the MILLRACE_* keys of an Environment."""
    source = Source(data)
    names: tuple[str, ...] = (*KEYS, *FORMAT_VARIABLES)
    chosen = [source.choice(names) for _ in range(2)]
    texts = [part.decode("utf-8", "replace") for part in source.parts(2)]
    environment = dict(zip(chosen, texts, strict=True))
    readers: tuple[Callable[[dict[str, str]], object], ...] = (job_options, format_options)
    for read in readers:
        try:
            read(environment)
        except ValidationError as exc:
            assert any(name in str(exc) for name in chosen), "the error names the key"
