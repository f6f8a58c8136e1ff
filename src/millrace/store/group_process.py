"""Have another process write groups of small objects, on a core of its own.

Storing a small object is calls to the kernel, and takes as long as all else that a job does with it. Threads don't
help: each call gives the interpreter's lock up and has to get it back. So where there are many, a process does nothing
else.

For each of the groups that it may have at a time it has one end of a pair of sockets, and some memory in common with
its parent: that puts a group there and sends its length; the other answers which objects are left. Each has a thread
there, one of which works at a time: the others wait for the disk, or for a group. So the disk is kept busy, and so is
the core.

It is ready when it has said so first. When its parent is gone, by whatever means, the sockets end, and so does it,
after the groups that it has. If it is gone itself, its groups are written again by the parent: each object is the same
as before.
"""

import asyncio
import gc
import marshal
import mmap
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from threading import Lock, Thread

from millrace.ports.objects import ObjectMeta
from millrace.store.bucket_folder import BucketFolder, MadeOf
from millrace.store.file_group import FileGroup, GroupEntry
from millrace.store.group_sync import GroupSync

__all__ = ["GroupProcess"]

READY = b"ready"
MAX_ANSWER_BYTES = 1024 * 1024
"""Longer than the numbers of all objects of a group."""
KEPT_BYTES = 8 * 1024 * 1024
"""Memory in common that is kept for the next group; a few groups have more."""
_PIECES = 1000
"""Pieces that are written by one call; Linux takes 1,024."""


class _Place:
    """Where a group is handed over."""

    def __init__(self, stack: ExitStack) -> None:
        self.socket, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stack.callback(self.socket.close)
        self.memory = os.memfd_create("group", 0)
        stack.callback(os.close, self.memory)
        os.ftruncate(self.memory, KEPT_BYTES)
        self.socket.setblocking(False)

    def put(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Put pieces into the memory, one behind the other."""
        at = 0
        for start in range(0, len(pieces), _PIECES):
            some = pieces[start : start + _PIECES]
            size = sum(map(len, some))
            written = os.pwritev(self.memory, some, at)
            if written < size:
                rest = memoryview(b"".join(some))[written:]
                while rest:
                    done = os.pwrite(self.memory, rest, at + size - len(rest))
                    rest = rest[done:]
            at += size


class GroupProcess:
    """A process that writes groups. Making one blocks for some milliseconds, and may raise OSError.

    Args:
        groups: Groups that it may have at a time; more wait for their turn. Each takes 8 MiB, or what it holds if that
            is more.
    """

    def __init__(self, *, groups: int = 1) -> None:
        self._said_ready = False
        self._is_lost = False
        with ExitStack() as stack:
            places = [_Place(stack) for _ in range(groups)]
            with ExitStack() as theirs:
                for place in places:
                    theirs.enter_context(place.theirs)
                numbers = [number for place in places for number in (place.theirs.fileno(), place.memory)]
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "millrace.store.group_process", *map(str, numbers)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=numbers,
                )
            self._first = places[0]
            self._idle = places
            self._turns = asyncio.Semaphore(groups)
            self._open = stack.pop_all()

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    @property
    def is_ready(self) -> bool:
        """Whether it has started, and is still there as far as is known."""
        if not self._said_ready and not self._is_lost:
            with suppress(BlockingIOError):
                self._said_ready = self._first.socket.recv(len(READY)) == READY
                self._is_lost = not self._said_ready
        return self._said_ready and not self._is_lost

    async def write(
        self, bucket: BucketFolder, entries: Sequence[GroupEntry], meta: ObjectMeta
    ) -> Sequence[int] | None:
        """Write objects; return the indexes of those that are left, None if the process can't do it, or is gone.

        Once this is over, also by cancellation, it writes nothing more of them.
        """
        if meta != ObjectMeta(headers=meta.headers):
            return None
        async with self._turns:
            place = self._idle.pop()
            try:
                return await self._ask(place, bucket, entries, meta)
            finally:
                self._idle.append(place)

    async def _ask(
        self, place: _Place, bucket: BucketFolder, entries: Sequence[GroupEntry], meta: ObjectMeta
    ) -> Sequence[int] | None:
        told = [(key, len(body), origin) for key, body, origin in entries]
        head = marshal.dumps((bucket.made_of, dict(meta.headers), told))
        pieces = [head, *[body for _, body, _ in entries]]
        length = sum(map(len, pieces))
        answering = asyncio.ensure_future(self._answer(place, pieces, b"%d %d" % (len(head), length)))
        try:
            answer = await asyncio.shield(answering)
        except asyncio.CancelledError:
            while not answering.done():
                with suppress(asyncio.CancelledError):  # again: it still has to be waited for
                    await asyncio.wait({answering})
            raise
        if length > KEPT_BYTES:
            with suppress(OSError):
                os.ftruncate(place.memory, KEPT_BYTES)
        return answer

    async def _answer(self, place: _Place, pieces: Sequence[bytes | memoryview], lengths: bytes) -> list[int] | None:
        loop = asyncio.get_running_loop()
        try:
            place.put(pieces)
            await loop.sock_sendall(place.socket, lengths)
            answer = await loop.sock_recv(place.socket, MAX_ANSWER_BYTES)
        except OSError:
            answer = b""
        if not answer:
            self._is_lost = True
            return None
        left: list[int] = marshal.loads(answer)
        return left

    def close(self) -> None:
        """End the process, which has no group, or is still starting, and wait for that."""
        self._open.close()
        self._process.kill()
        self._process.wait()


class _Writing:
    """What the threads of the process have in common: whoever has the `turn` works."""

    def __init__(self) -> None:
        self.turn = Lock()
        self._syncs = GroupSync()
        self._buckets: dict[MadeOf, BucketFolder] = {}

    def write(self, made_of: MadeOf, headers: dict[str, str], entries: Sequence[GroupEntry]) -> list[int]:
        """Write a group, whoever calls having the turn; return the indexes of objects that are left."""
        if made_of not in self._buckets:
            self._buckets.clear()  # a job has one bucket for its outputs
            self._buckets[made_of] = BucketFolder.again(made_of)
        bucket = self._buckets[made_of]
        everything = list(range(len(entries)))
        group = FileGroup(bucket, entries, ObjectMeta(headers=headers))
        try:
            sync = self._syncs.begin(bucket.folder) if bucket.durable else None
            if bucket.durable and sync is None:
                return everything
            with closing(group.steps(sync)) as steps:
                for step in steps:
                    if step is not None:
                        self.turn.release()
                        try:
                            step()
                        finally:
                            self.turn.acquire()
        except OSError:
            return everything
        return group.left


def _groups(writing: _Writing, connection: socket.socket, memory: int) -> None:
    """Write groups until the parent is gone."""
    with mmap.mmap(memory, KEPT_BYTES, prot=mmap.PROT_READ) as kept:
        while lengths := connection.recv(64):
            head, length = map(int, lengths.split())
            with writing.turn, memoryview(kept if length <= KEPT_BYTES else _read(memory, length)) as view:
                made_of, headers, told = marshal.loads(view[:head])
                left = writing.write(made_of, headers, list(_entries(view, head, told)))
            connection.send(marshal.dumps(left))


def _entries(view: memoryview, at: int, told: Sequence[tuple[str, int, str]]) -> Iterator[GroupEntry]:
    for key, size, origin in told:
        yield GroupEntry(key, view[at : at + size], origin)
        at += size


def _read(memory: int, length: int) -> bytes:
    pieces = []
    at = 0
    while at < length:
        pieces.append(os.pread(memory, length - at, at))
        at += len(pieces[-1])
    return b"".join(pieces)


def _main(numbers: Sequence[int]) -> None:
    writing = _Writing()
    threads = []
    connections = [socket.socket(fileno=number) for number in numbers[::2]]
    for connection, memory in zip(connections, numbers[1::2], strict=True):
        threads.append(Thread(target=_serve, args=(writing, connection, memory)))
    connections[0].send(READY)
    gc.freeze()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _serve(writing: _Writing, connection: socket.socket, memory: int) -> None:
    try:
        with suppress(ConnectionError):  # the parent is gone
            _groups(writing, connection, memory)
    except BaseException:  # noqa: BLE001 - of a thread it would be told, and the parent would wait for its answer
        traceback.print_exc()
        os._exit(1)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the parent decides what becomes of its job
    _main([int(number) for number in sys.argv[1:]])
