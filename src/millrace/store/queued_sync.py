"""Wait until files are on the disk, many at a time and without a thread: the kernel syncs them in a queue of its own.

A thread per sync takes longer than the rest of storing a small object: the interpreter's lock goes to and fro at each
system call of each thread. Linux takes syncs by io_submit(2), works on them side by side and tells their end by an
eventfd, which the event loop watches. What is asked for in one turn of the loop is submitted together.

Where the kernel has no such queue, or refuses a file, os.fsync runs in a thread.

Source:
    io_submit(2), IOCB_CMD_FSYNC ("since Linux 4.18"); struct iocb and struct io_event of linux/aio_abi.h.
"""

import asyncio
import ctypes
import os
import platform
import struct
import sys
import weakref
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

from millrace.store.uninterrupted import run_uninterrupted

__all__ = ["MAX_QUEUED", "QueuedSync"]

MAX_QUEUED = 256
"""Syncs in the kernel's queue at most; further ones wait for the end of some."""

_NUMBERS = {"x86_64": (206, 207, 208, 209), "aarch64": (0, 1, 4, 2)}
"""Of io_setup, io_destroy, io_getevents and io_submit, which the C library does not wrap."""

_REQUEST = struct.Struct("=QIIHhIQQqQII")
_FSYNC = 2
_TELL_EVENTFD = 1
_EVENT = struct.Struct("=QQqq")

_libc = ctypes.CDLL(None, use_errno=True)


class _Asked(NamedTuple):
    """A sync that somebody waits for: the result is whether it was done, else it is still to do."""

    descriptor: int
    identity: object
    """Of the file: one sync does for all that are asked for in the same turn."""
    end: "asyncio.Future[bool]"


class QueuedSync:
    """Syncs files and folders for tasks of one event loop; for those of a second one at the same time by threads."""

    def __init__(self) -> None:
        self._kernel: _KernelQueue | None = None
        self._is_refused = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked: list[_Asked] = []
        self._queued: dict[int, list[asyncio.Future[bool]]] = {}
        self._last_token = 0

    async def sync(self, descriptor: int) -> None:
        """Return when all that was written to an open file is on the disk.

        When this is over, also by cancellation, the descriptor may be closed: the kernel holds the file itself.
        """
        if not await self._ask(descriptor, descriptor):
            await run_uninterrupted(partial(os.fsync, descriptor))

    async def sync_folder(self, descriptor: int) -> None:
        """Do as `sync` with an open folder, once for all who ask for the same one in this turn of the loop."""
        stat = os.fstat(descriptor)
        if not await self._ask(descriptor, (stat.st_dev, stat.st_ino)):
            await run_uninterrupted(partial(os.fsync, descriptor))

    async def _ask(self, descriptor: int, identity: object) -> bool:
        loop = asyncio.get_running_loop()
        if loop is not self._loop and not self._serve(loop):
            return False
        end: asyncio.Future[bool] = loop.create_future()
        if not self._asked:
            loop.call_soon(self._submit)
        self._asked.append(_Asked(descriptor, identity, end))
        return await end

    def _serve(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Serve the tasks of a loop from now on; tell whether there is a queue for them."""
        if self._is_refused or (self._loop is not None and not self._loop.is_closed()):
            return False
        if self._kernel is None:
            try:
                self._kernel = _KernelQueue(MAX_QUEUED)
            except OSError:  # another system, or one that forbids it
                self._is_refused = True
                return False
            weakref.finalize(self, self._kernel.close)
        self._asked, self._queued, self._loop = [], {}, loop
        return True

    def _submit(self) -> None:
        """Put what was asked for into the kernel's queue, as far as there is room."""
        assert self._kernel is not None and self._loop is not None, "somebody was served"
        # Who was cancelled may have closed its descriptor, whose number may be another file's by now.
        asked = [one for one in self._asked if not one.end.done()]
        groups: dict[object, list[_Asked]] = {}
        for one in asked:
            groups.setdefault(one.identity, []).append(one)
        room = MAX_QUEUED - len(self._queued)
        chosen = list(groups.values())[:room]
        self._asked = [one for group in list(groups.values())[room:] for one in group]
        if not chosen:
            return
        was_idle = not self._queued
        while chosen:
            first = self._last_token + 1
            count = self._kernel.submit(first, [group[0].descriptor for group in chosen])
            for token, group in enumerate(chosen[:count], first):
                self._queued[token] = [one.end for one in group]
            self._last_token += count
            if not count:
                for one in chosen[0]:
                    one.end.set_result(False)
            chosen = chosen[count or 1 :]
        if was_idle and self._queued:
            self._loop.add_reader(self._kernel.eventfd, self._collect)

    def _collect(self) -> None:
        """Tell those whose syncs have ended."""
        assert self._kernel is not None and self._loop is not None, "somebody was served"
        for token, result in self._kernel.ended():
            for end in self._queued.pop(token, ()):
                if end.done():
                    continue
                if result < 0:
                    end.set_exception(OSError(-result, os.strerror(-result)))
                else:
                    end.set_result(True)
        if not self._queued:
            self._loop.remove_reader(self._kernel.eventfd)
        if self._asked:
            self._submit()


class _KernelQueue:
    """A context of asynchronous input and output that is used for syncs only.

    Raises:
        OSError: The system has none, forbids it, or has no more.
    """

    def __init__(self, capacity: int) -> None:
        numbers = _NUMBERS.get(platform.machine()) if sys.platform == "linux" else None
        if numbers is None:
            raise OSError(f"no queue of syncs is known on {sys.platform} on {platform.machine()}")
        setup, self._destroy, self._get, self._put = numbers
        self._context = ctypes.c_ulong(0)
        _checked(_libc.syscall(setup, capacity, ctypes.byref(self._context)))
        self.eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._capacity = capacity
        self._requests = ctypes.create_string_buffer(_REQUEST.size * capacity)
        start = ctypes.addressof(self._requests)
        self._places = (ctypes.c_void_p * capacity)(*(start + _REQUEST.size * index for index in range(capacity)))
        self._events = ctypes.create_string_buffer(_EVENT.size * capacity)

    def submit(self, first_token: int, descriptors: Sequence[int]) -> int:
        """Ask for syncs that bear tokens in sequence; return how many were taken, 0 if already the first was not."""
        for index, descriptor in enumerate(descriptors):
            fields = (first_token + index, 0, 0, _FSYNC, 0, descriptor, 0, 0, 0, 0, _TELL_EVENTFD, self.eventfd)
            _REQUEST.pack_into(self._requests, index * _REQUEST.size, *fields)
        # The kernel copies the requests before this returns.
        return max(0, int(_libc.syscall(self._put, self._context, ctypes.c_long(len(descriptors)), self._places)))

    def ended(self) -> Iterator[tuple[int, int]]:
        """Yield token and result of each sync that has ended since: 0, or an error's number below 0."""
        os.eventfd_read(self.eventfd)
        arguments = (self._context, ctypes.c_long(0), ctypes.c_long(self._capacity), self._events, None)
        for index in range(_checked(_libc.syscall(self._get, *arguments))):
            token, _, result, _ = _EVENT.unpack_from(self._events, index * _EVENT.size)
            yield token, result

    def close(self) -> None:
        """Give the context back; what is in the queue is waited for."""
        _libc.syscall(self._destroy, self._context)
        os.close(self.eventfd)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
