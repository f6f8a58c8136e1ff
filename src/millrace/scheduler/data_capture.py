"""Write captured calls down, behind the invocations' back.

An invocation only appends its two bodies to a queue of bounded size; what finds no room is dropped and counted. Every
few seconds, or when enough has come together, the queue is written: an object for each endpoint, variant and hour. A
server that is killed loses what came in since the last writing.
"""

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

from millrace.clock import Clock
from millrace.jobs.captured_calls import CapturedCall, capture_key, capture_line
from millrace.jobs.endpoint import DataCapture
from millrace.names import ObjectPrefix, ObjectRef
from millrace.ports.objects import ObjectMeta, ObjectStore, ObjectStoreError

__all__ = ["DataCaptureWriter"]

log = logging.getLogger(__name__)

CALL_BYTES = 512
"""What a waiting call is counted for beside its bodies."""

ENCODE_BYTES = 256 * 1024
"""Bytes of bodies that are turned into lines in one go, in a thread of their own."""

_CONTENT_TYPE = "application/jsonlines"


@dataclass(frozen=True, slots=True)
class _Waiting:
    settings: DataCapture
    call: CapturedCall
    at: datetime
    size: int


class DataCaptureWriter:
    """Takes captured calls from the router and writes them to the object store."""

    def __init__(
        self,
        objects: ObjectStore,
        *,
        clock: Clock,
        flush_seconds: float,
        flush_bytes: int,
        buffer_bytes: int,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Take where to write, how long and how much is held back at most, and what draws numbers from 0 to 1."""
        self._objects = objects
        self._clock = clock
        self._flush_seconds = flush_seconds
        self._flush_bytes = flush_bytes
        self._buffer_bytes = buffer_bytes
        self._draw = draw
        self._waiting: list[_Waiting] = []
        self._waiting_bytes = 0
        self._held_bytes = 0
        self._dropped = 0
        self._some = asyncio.Event()
        self._due = asyncio.Event()
        self._writing = asyncio.Lock()
        self._flushing: asyncio.Future[None] | None = None

    def offer(self, settings: DataCapture, call: CapturedCall) -> None:
        """Take a call if its endpoint's share asks for it and there is room; never waits, never raises."""
        if not settings.enabled or self._draw() * 100 >= settings.sampling_percentage:
            return
        size = CALL_BYTES + len(call.input_body) + len(call.output_body)
        if self._held_bytes + size > self._buffer_bytes:
            self._dropped += 1
            return
        self._waiting.append(_Waiting(settings, call, self._clock.now(), size))
        self._held_bytes += size
        self._waiting_bytes += size
        self._some.set()
        if self._waiting_bytes >= self._flush_bytes:
            self._due.set()

    def flush_soon(self) -> None:
        """Have what waits written now rather than when its time has come."""
        self._due.set()

    async def run(self) -> None:
        """Write whenever it is due, until cancelled."""
        while True:
            await self._some.wait()
            due = asyncio.ensure_future(self._due.wait())
            over = asyncio.ensure_future(self._clock.sleep(self._flush_seconds))
            try:
                await asyncio.wait({due, over}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                due.cancel()
                over.cancel()
            # Cancelled in the middle, what was taken out of the queue would be lost: the last flush waits for this one.
            self._flushing = asyncio.ensure_future(self.flush())
            await asyncio.shield(self._flushing)

    async def flush(self) -> None:
        """Write all that waits; what can't be written is told in the log and dropped."""
        async with self._writing:
            batch, self._waiting, self._waiting_bytes = self._waiting, [], 0
            self._some.clear()
            self._due.clear()
            groups: dict[tuple[str, str, str, str], list[_Waiting]] = defaultdict(list)
            for entry in batch:
                hour = f"{entry.at:%Y%m%d%H}"
                groups[entry.settings.destination, entry.call.endpoint, entry.call.variant, hour].append(entry)
            for group in groups.values():
                await self._write(group)
            dropped, self._dropped = self._dropped, 0
            if dropped:
                log.warning(
                    "captured calls dropped: they came faster than they could be written", extra={"calls": dropped}
                )

    async def _write(self, group: Sequence[_Waiting]) -> None:
        first = group[0]
        told = {"destination": first.settings.destination, "endpoint": first.call.endpoint, "calls": len(group)}
        try:
            await self._objects.put(_object_ref(first), _lines(group), _meta(first.settings))
        except (ObjectStoreError, OSError) as exc:
            log.error("captured calls lost", extra={**told, "detail": str(exc)})
        except Exception:  # one endpoint's destination must not end the capture of all others
            log.exception("captured calls lost", extra=told)
        finally:
            self._held_bytes -= sum(entry.size for entry in group)


def _object_ref(first: _Waiting) -> ObjectRef:
    key = capture_key(first.call, first.at, str(uuid4()))
    return ObjectPrefix.parse(first.settings.destination).join(key)


def _meta(settings: DataCapture) -> ObjectMeta:
    headers = {"content-type": _CONTENT_TYPE}
    if settings.kms_key:
        headers["x-amz-server-side-encryption"] = "aws:kms"
        headers["x-amz-server-side-encryption-aws-kms-key-id"] = settings.kms_key
    return ObjectMeta(headers=headers)


async def _lines(group: Sequence[_Waiting]) -> AsyncIterator[bytes]:
    """Yield the group's lines, encoded in a thread: base64 of megabytes must not hold invocations up."""
    start = 0
    while start < len(group):
        end, size = start, 0
        while end < len(group) and (size == 0 or size + group[end].size <= ENCODE_BYTES):
            size += group[end].size
            end += 1
        yield await asyncio.to_thread(_encode, group[start:end])
        start = end


def _encode(entries: Sequence[_Waiting]) -> bytes:
    return b"".join(capture_line(it.settings, it.call, at=it.at, event_id=str(uuid4())) for it in entries)
