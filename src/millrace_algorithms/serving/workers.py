"""Evaluate payloads on every core, in processes forked from the one that loaded the model.

Threads would not help: the compiled number parser and printer hold the interpreter's lock (two threads took 1.2 times
as long as one after the other). Each worker shares one memory region with the server: the body is laid in it, the
answer comes back in it, and a socket pair carries only one line each way. Workers are forked before the server has
threads or connections, so they inherit the model by copy-on-write and nothing else; they end when the server does.
"""

import mmap
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import orjson

from millrace_algorithms.serving.invocation import Answer, Invocation

__all__ = ["Worker", "WorkerDied", "fork_workers"]

_CHUNK_BYTES = 256 * 1024
_KEPT_BYTES = 16 * 1024 * 1024
"""Pages of a region that stay allocated between payloads; those of larger ones go back to the system."""


class WorkerDied(Exception):
    """The worker ended without an answer, most often for want of memory."""


@dataclass(slots=True, eq=False)
class Worker:
    """The server's end of one worker; it evaluates one payload at a time."""

    process_id: int
    channel: socket.socket
    """Becomes readable when the answer is there."""
    region: mmap.mmap
    _touched_bytes: int = 0

    def send(self, pieces: Sequence[bytes], content_type: str | None, accept: str | None) -> None:
        """Hand over one payload; its length must fit the region. Raises WorkerDied."""
        position = 0
        for piece in pieces:
            self.region[position : position + len(piece)] = piece
            position += len(piece)
        self._touched_bytes = position
        line = orjson.dumps([position, content_type, accept])
        try:
            self.channel.sendall(line + b"\n")
        except OSError as exc:
            raise WorkerDied(str(exc)) from exc

    def receive(self) -> Answer:
        """Return the answer; blocks until it is there. Raises WorkerDied."""
        line = _read_line(self.channel)
        if line is None:
            raise WorkerDied(f"worker {self.process_id} ended")
        status, content_type, length, in_region = orjson.loads(line)
        body = self.region[:length] if in_region else _read_exactly(self.channel, length)
        if max(length if in_region else 0, self._touched_bytes) > _KEPT_BYTES:
            self.region.madvise(getattr(mmap, "MADV_REMOVE", mmap.MADV_NORMAL))  # only Linux can give shared pages back
        return Answer(status=status, content_type=content_type, body=body)


def fork_workers(count: int, region_bytes: int, invoke: Callable[[Invocation], Answer]) -> list[Worker]:
    """Fork `count` workers that answer with `invoke`, which must not raise."""
    workers: list[Worker] = []
    for _ in range(count):
        ours, theirs = socket.socketpair()
        region = mmap.mmap(-1, region_bytes)
        process_id = os.fork()
        if not process_id:
            ours.close()
            for other in workers:
                other.channel.close()
            _work(theirs, region, invoke)
        theirs.close()
        workers.append(Worker(process_id, ours, region))
    return workers


def _work(channel: socket.socket, region: mmap.mmap, invoke: Callable[[Invocation], Answer]) -> None:
    """Answer until the server is gone; never returns, so that nothing of the server's runs at exit."""
    # A stop reaches all processes of a container, but the server drains first and then closes the channel.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    status = 1
    try:
        while (line := _read_line(channel)) is not None:
            length, content_type, accept = orjson.loads(line)
            answer = invoke(Invocation(chunks=_chunks(region, length), content_type=content_type, accept=accept))
            in_region = len(answer.body) <= len(region)
            if in_region:
                region[: len(answer.body)] = answer.body
            head = orjson.dumps([answer.status, answer.content_type, len(answer.body), in_region]) + b"\n"
            channel.sendall(head if in_region else head + answer.body)
        status = 0
    finally:
        os._exit(status)


def _chunks(region: mmap.mmap, length: int) -> Iterator[bytes]:
    for start in range(0, length, _CHUNK_BYTES):
        yield region[start : min(length, start + _CHUNK_BYTES)]


def _read_line(channel: socket.socket) -> bytes | None:
    """Return the next line, or None at the end; takes nothing of what follows it."""
    line = bytearray()
    while True:
        try:
            peeked = channel.recv(4096, socket.MSG_PEEK)
        except OSError:
            return None
        if not peeked:
            return None
        end = peeked.find(b"\n")
        line += channel.recv(len(peeked) if end < 0 else end + 1)
        if end >= 0:
            return bytes(line)


def _read_exactly(channel: socket.socket, length: int) -> bytes:
    body = bytearray(length)
    view = memoryview(body)
    got = 0
    while got < length:
        count = channel.recv_into(view[got:])
        if not count:
            raise WorkerDied("worker ended within an answer")
        got += count
    return bytes(body)
