"""Evaluate payloads on every core, in processes forked from the one that loaded the model.

Threads would not help: the compiled number parser and printer hold the interpreter's lock (two threads took 1.2 times
as long as one after the other). A client at a Unix socket is a process of this machine that has its payload ready: a
worker is given a large one while it arrives, with the connection itself, reads the rest, answers, and only tells the
server that it has. Other clients may be slow, and those that send a body in chunks don't tell its length: the server
reads theirs, lays them in a memory region that both share, and the answer comes back in it. A socket pair carries one
line each way. Workers are forked before the server has threads or connections, so they inherit the model by
copy-on-write and nothing else; they end when the server does.
"""

import mmap
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from millrace_algorithms.serving.handed_connection import ClientGone, ClientStalled, HandedConnection
from millrace_algorithms.serving.invocation import Answer, Invocation
from millrace_algorithms.serving.limits import Limits
from millrace_algorithms.serving.response import head_of

__all__ = ["Gone", "HandedRequest", "Outcome", "Stalled", "Worker", "WorkerDied", "Written", "fork_workers"]

_CHUNK_BYTES = 256 * 1024
_MESSAGE_BYTES = 256 * 1024
"""More than a line to a worker may take: the header limit and the rest of it."""
_KEPT_BYTES = 16 * 1024 * 1024
"""Pages of a region that stay allocated between payloads; those of larger ones go back to the system."""


class WorkerDied(Exception):
    """The worker ended without an answer, most often for want of memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HandedRequest:
    """What a worker must know of a request whose body it reads."""

    begun: bytes
    """What has been read of the body."""
    length: int
    """Of the whole body; it must fit the region."""
    content_type: str | None
    accept: str | None
    keep_alive: bool


@dataclass(frozen=True, slots=True)
class Written:
    """The client has its answer, but for `rest`."""

    rest: bytes = b""


@dataclass(frozen=True, slots=True)
class Stalled:
    """The client has not sent the whole body in time."""


@dataclass(frozen=True, slots=True)
class Gone:
    """The client has closed the connection."""


Outcome = Answer | Written | Stalled | Gone
"""What became of a payload; an Answer is for the server to send."""


@dataclass(slots=True, eq=False)
class Worker:
    """The server's end of one worker; it evaluates one payload at a time."""

    process_id: int
    channel: socket.socket
    """Becomes readable when the outcome is there."""
    region: mmap.mmap
    """One byte longer than the largest payload: the last tells whether the worker has begun to answer its client."""
    _touched_bytes: int = 0

    def send(self, pieces: Sequence[bytes], content_type: str | None, accept: str | None) -> None:
        """Hand over one payload, whose answer comes back; its length must fit the region. Raises WorkerDied."""
        self._lay(pieces)
        line = orjson.dumps([self._touched_bytes, content_type, accept])
        try:
            self.channel.sendall(line + b"\n")
        except OSError as exc:
            raise WorkerDied(str(exc)) from exc

    def hand_over(self, sock: socket.socket, request: HandedRequest) -> None:
        """Hand over a connection whose request is being received, until `receive` tells of it. Raises WorkerDied."""
        self._lay([request.begun])
        self.region[-1] = 0
        line = orjson.dumps(
            [self._touched_bytes, request.content_type, request.accept, request.length, request.keep_alive]
        )
        try:
            socket.send_fds(self.channel, [line + b"\n"], [sock.fileno()])
        except OSError as exc:
            raise WorkerDied(str(exc)) from exc

    @property
    def has_begun_to_answer(self) -> bool:
        """Whether the client of the connection handed over last may have a part of an answer."""
        return self.region[-1] != 0

    def receive(self) -> Outcome:
        """Return what became of the payload; blocks until it is there. Raises WorkerDied."""
        line = _read_line(self.channel)
        if line is None:
            raise WorkerDied(f"worker {self.process_id} ended")
        kind, length, in_region, *more = orjson.loads(line)
        body = self.region[:length] if in_region else _read_exactly(self.channel, length)
        if max(length if in_region else 0, self._touched_bytes) > _KEPT_BYTES:
            self.region.madvise(getattr(mmap, "MADV_REMOVE", mmap.MADV_NORMAL))  # only Linux can give shared pages back
        match kind:
            case "answer":
                return Answer(status=more[0], content_type=more[1], body=body)
            case "written":
                return Written(body)
            case "stalled":
                return Stalled()
            case _:
                return Gone()

    def _lay(self, pieces: Sequence[bytes]) -> None:
        position = 0
        for piece in pieces:
            self.region[position : position + len(piece)] = piece
            position += len(piece)
        self._touched_bytes = position


def fork_workers(count: int, limits: Limits, invoke: Callable[[Invocation], Answer]) -> list[Worker]:
    """Fork `count` workers that answer with `invoke`, which must not raise."""
    workers: list[Worker] = []
    for _ in range(count):
        ours, theirs = socket.socketpair()
        region = mmap.mmap(-1, limits.body_bytes + 1)
        process_id = os.fork()
        if not process_id:
            ours.close()
            for other in workers:
                other.channel.close()
            _Work(theirs, region, invoke, limits).run()
        theirs.close()
        workers.append(Worker(process_id, ours, region))
    return workers


@dataclass(frozen=True, slots=True)
class _Work:
    """The worker's own end."""

    channel: socket.socket
    region: mmap.mmap
    invoke: Callable[[Invocation], Answer]
    limits: Limits

    def run(self) -> None:
        """Answer until the server is gone; never returns, so that nothing of the server's runs at exit."""
        # A stop reaches all processes of a container, but the server drains first and then closes the channel.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        status = 1
        try:
            while (message := _read_message(self.channel)) is not None:
                fields, descriptor = message
                if descriptor is None:
                    self._answer(*fields)
                else:
                    with socket.socket(fileno=descriptor) as sock:
                        outcome = self._serve(sock, *fields)
                    # Only now may the server close its own descriptor: the client is to see the end at once.
                    self._tell(*outcome)
            status = 0
        finally:
            os._exit(status)

    def _answer(self, length: int, content_type: str | None, accept: str | None) -> None:
        """Evaluate the payload in the region and give the answer to the server."""
        chunks = _chunks(self.region, length)
        answer = self.invoke(Invocation(chunks=chunks, content_type=content_type, accept=accept))
        self._tell("answer", answer.body, answer.status, answer.content_type)

    def _serve(
        self,
        sock: socket.socket,
        begun_bytes: int,
        content_type: str | None,
        accept: str | None,
        length: int,
        keep_alive: bool,
    ) -> tuple[str, bytes]:
        """Evaluate what arrives at a connection and answer there; returns what the server is to be told."""
        handed = HandedConnection(sock, self.region[:begun_bytes], length, self.limits)
        chunks = handed.chunks()
        try:
            answer = self.invoke(Invocation(chunks=chunks, content_type=content_type, accept=accept))
            for _ in chunks:  # what a bad payload has after its first mistake
                pass
            self.region[-1] = 1
            return "written", handed.write([head_of(answer, keep_alive=keep_alive), answer.body])
        except ClientStalled:
            return "stalled", b""
        except ClientGone:
            return "gone", b""

    def _tell(self, kind: str, body: bytes, *more: Any) -> None:
        in_region = len(body) < len(self.region)
        if in_region:
            self.region[: len(body)] = body
        line = orjson.dumps([kind, len(body), in_region, *more]) + b"\n"
        self.channel.sendall(line if in_region else line + body)


def _chunks(region: mmap.mmap, length: int) -> Iterator[bytes]:
    for start in range(0, length, _CHUNK_BYTES):
        yield region[start : min(length, start + _CHUNK_BYTES)]


def _read_message(channel: socket.socket) -> tuple[list[Any], int | None] | None:
    """Return the server's next line and the descriptor that came with it, or None at the end."""
    line = b""
    descriptors: list[int] = []
    while not line.endswith(b"\n"):  # the server sends no second one before it is told of the first
        try:
            piece, found, _, _ = socket.recv_fds(channel, _MESSAGE_BYTES, 1)
        except OSError:
            return None
        if not piece:
            return None
        line += piece
        descriptors += found
    return orjson.loads(line), descriptors[0] if descriptors else None


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
