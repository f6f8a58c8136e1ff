"""Have another process write groups of small objects, on a core of its own.

Storing a small object is calls to the kernel, and takes as long as all else that a job does with it. Threads don't
help: each call gives the interpreter's lock up and has to get it back. So where there are many, a process does nothing
else.

It has one end of a pair of sockets, and some memory in common with its parent: that puts a group there and sends its
length; the other answers which objects are left. It is ready when it has said so first. When its parent is gone, by
whatever means, the socket ends, and so does it, after the group that it has. If it is gone itself, its group is written
again by the parent: each object is the same as before.
"""

import asyncio
import marshal
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing, suppress

from millrace.names import ObjectRef
from millrace.ports.objects import ObjectMeta, SmallOutput
from millrace.store.bucket_folder import BucketFolder, MadeOf
from millrace.store.file_group import FileGroup
from millrace.store.group_sync import GroupSync

__all__ = ["GroupProcess", "serve"]

READY = b"ready"
MAX_ANSWER_BYTES = 1024 * 1024
"""Longer than the numbers of all objects of a group."""
KEPT_BYTES = 8 * 1024 * 1024
"""Memory in common that is kept for the next group; a few groups have more."""


class GroupProcess:
    """A process that writes groups, one at a time. Making one blocks for some milliseconds, and may raise OSError."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._memory = os.memfd_create("group", 0)
        self._said_ready = False
        self._is_lost = False
        command = [sys.executable, "-m", "millrace.store.group_process", str(theirs.fileno()), str(self._memory)]
        try:
            with theirs:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(), self._memory),
                )
        except OSError:
            self._socket.close()
            os.close(self._memory)
            raise
        self._socket.setblocking(False)

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    @property
    def is_ready(self) -> bool:
        """Whether it has started, and is still there as far as is known."""
        if not self._said_ready and not self._is_lost:
            with suppress(BlockingIOError):
                self._said_ready = self._socket.recv(len(READY)) == READY
                self._is_lost = not self._said_ready
        return self._said_ready and not self._is_lost

    async def write(
        self, bucket: BucketFolder, outputs: Sequence[SmallOutput], meta: ObjectMeta
    ) -> Sequence[int] | None:
        """Write objects; return the indexes of those that are left, None if the process can't do it, or is gone.

        Once this is over, also by cancellation, it writes nothing more.
        """
        if meta != ObjectMeta(headers=meta.headers):
            return None
        entries = [(ref.key, body, origin) for ref, body, origin in outputs]
        message = marshal.dumps((bucket.made_of, dict(meta.headers), entries))
        answering = asyncio.ensure_future(self._ask(message))
        try:
            answer = await asyncio.shield(answering)
        except asyncio.CancelledError:
            while not answering.done():
                with suppress(asyncio.CancelledError):  # again: it still has to be waited for
                    await asyncio.wait({answering})
            raise
        return answer

    async def _ask(self, message: bytes) -> list[int] | None:
        loop = asyncio.get_running_loop()
        try:
            view = memoryview(message)
            written = 0
            while written < len(view):
                written += os.pwrite(self._memory, view[written:], written)
            await loop.sock_sendall(self._socket, b"%d" % len(message))
            answer = await loop.sock_recv(self._socket, MAX_ANSWER_BYTES)
            if len(message) > KEPT_BYTES:
                os.ftruncate(self._memory, KEPT_BYTES)
        except OSError:
            answer = b""
        if not answer:
            self._is_lost = True
            return None
        left: list[int] = marshal.loads(answer)
        return left

    def close(self) -> None:
        """End the process, which has no group, or is still starting, and wait for that."""
        self._socket.close()
        os.close(self._memory)
        self._process.kill()
        self._process.wait()


def serve(connection: socket.socket, memory: int) -> None:
    """Write groups until the parent is gone."""
    syncs = GroupSync()
    buckets: dict[MadeOf, BucketFolder] = {}
    connection.send(READY)
    while length := connection.recv(64):
        made_of, headers, entries = marshal.loads(os.pread(memory, int(length), 0))
        if made_of not in buckets:
            buckets.clear()  # a job has one bucket for its outputs
            buckets[made_of] = BucketFolder.again(made_of)
        bucket = buckets[made_of]
        outputs = [SmallOutput(ObjectRef(bucket.name, key), body, origin) for key, body, origin in entries]
        connection.send(marshal.dumps(_written(bucket, outputs, ObjectMeta(headers=headers), syncs)))


def _written(bucket: BucketFolder, outputs: Sequence[SmallOutput], meta: ObjectMeta, syncs: GroupSync) -> list[int]:
    everything = range(len(outputs))
    group = FileGroup(bucket, outputs, meta)
    try:
        sync = syncs.begin(bucket.folder) if bucket.durable else None
        if bucket.durable and sync is None:
            return list(everything)
        with closing(group.steps(everything, sync)) as steps:
            for step in steps:
                if step is not None:
                    step()
    except OSError:
        return list(everything)
    return group.left


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the parent decides what becomes of its job
    with suppress(ConnectionError):  # the parent is gone
        serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
