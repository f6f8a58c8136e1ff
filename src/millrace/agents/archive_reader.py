"""Read the members of a .tar.gz archive one after the other, with bounds on what a member's header may hold.

The library reads a header of any length into memory before anybody can look at it: pax and GNU headers announce their
own size, and a sparse file's map goes on for as long as it says so. What it reads is counted here.
"""

import gzip
import re
import tarfile
from collections.abc import Callable, Iterator
from typing import BinaryIO, Protocol

__all__ = ["HEADER_BYTES", "MAX_MEMBERS", "BadArchive", "iter_members", "open_archive", "open_tar"]

HEADER_BYTES = 1024 * 1024
"""Longest header of a member, with all that belongs to it: a long name, pax records, a map of a sparse file."""

MAX_MEMBERS = 1_000_000
COPY_BYTES = 1024 * 1024

_LONG_NUMBER = re.compile(rb"[0-9]{1000}")
"""CVE-2024-6232: the library takes time quadratic in the length of a run of digits in a pax header."""


class BadArchive(Exception):
    """The archive breaks a bound; the message says which."""


class Readable(Protocol):
    """A file, or what takes the compression off one."""

    def read(self, size: int, /) -> bytes: ...


class _Metered:
    """A stream that is only read forward, and knows when headers are read; `check` is called at every read."""

    def __init__(self, stream: Readable, check: Callable[[], None]) -> None:
        self._stream = stream
        self._check = check
        self._left: int | None = HEADER_BYTES
        self._position = 0

    def expect_header(self) -> None:
        """Count what is read from now on."""
        self._left = HEADER_BYTES

    def expect_content(self) -> None:
        """Count no more."""
        self._left = None

    def read(self, size: int) -> bytes:
        self._check()
        if self._left is not None:
            self._left -= size
            if self._left < 0:
                raise BadArchive(f"the header of a member must have at most {HEADER_BYTES} bytes, got more")
        content = self._stream.read(size)
        self._position += len(content)
        if self._left is not None:
            if 0 < len(content) < size:
                raise tarfile.ReadError("unexpected end of data")  # the library would take it for the end
            if _LONG_NUMBER.search(content):
                raise BadArchive("the header of a member holds a number of 1,000 digits or more")
        return content

    def seek(self, position: int) -> int:
        while self._position < position:
            self._check()
            skipped = len(self._stream.read(min(COPY_BYTES, position - self._position)))
            if not skipped:
                break  # the library's next read tells
            self._position += skipped
        return self._position

    def tell(self) -> int:
        return self._position


def _go_on() -> None:
    """Let the reading go on."""


def open_archive(source: BinaryIO, check: Callable[[], None] = _go_on) -> tuple[tarfile.TarFile, _Metered]:
    """Return the archive, to be read by `iter_members`, and its stream.

    `check` is called at every read, which is of at most a megabyte; what it raises ends the reading.

    Source:
        RFC 1952 2.2: "A gzip file consists of a series of members"; they are taken as one stream.
    """
    return open_tar(gzip.GzipFile(fileobj=source, mode="rb"), check)


def open_tar(source: Readable, check: Callable[[], None] = _go_on) -> tuple[tarfile.TarFile, _Metered]:
    """Return an archive that is not compressed, to be read by `iter_members`, and its stream."""
    stream = _Metered(source, check)
    archive = tarfile.TarFile(fileobj=stream, mode="r", copybufsize=COPY_BYTES)  # type: ignore[arg-type]
    return archive, stream


def iter_members(archive: tarfile.TarFile, stream: _Metered) -> Iterator[tarfile.TarInfo]:
    """Yield each member; its content may be read until the next one is asked for.

    Raises:
        BadArchive: A header is too long, or there are too many members.
    """
    number = 0
    while True:
        stream.expect_header()
        member = archive.next()
        stream.expect_content()
        if member is None:
            return
        number += 1
        if number > MAX_MEMBERS:
            raise BadArchive(f"it must have at most {MAX_MEMBERS} members, got more")
        yield member
        archive.members.clear()  # type: ignore[attr-defined]  # it keeps every member, of a million some gigabytes
