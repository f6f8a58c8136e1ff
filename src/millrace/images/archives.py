"""Tar archives that ADD unpacks: tell them from other files, and read their members trusting nothing."""

import lzma
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Self

from millrace.images.problems import StepFailed

__all__ = ["is_archive", "iter_members", "open_archive"]

MAX_MEMBERS = 1_000_000
"""Entries of one archive."""

_DAMAGED = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError)


def is_archive(file: Path) -> bool:
    """Whether a file is a tar archive, plain or compressed by gzip, bzip2 or xz, with at least one member.

    Source:
        The Dockerfile reference, ADD: "Whether a file is identified as a recognized compression format or not is done
        solely based on the contents of the file, not the name of the file." A file of zeros is no archive to Docker.
    """
    try:
        with tarfile.open(file, "r:*") as archive:
            return archive.next() is not None
    except (*_DAMAGED, OSError):
        return False


class _Member(tarfile.TarInfo):
    """Takes half a header for damage; the library takes it for the end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        if 0 < len(buf) < tarfile.BLOCKSIZE:
            raise tarfile.ReadError("unexpected end of data")
        return super().frombuf(buf, encoding, errors)


@contextmanager
def open_archive(file: BinaryIO, name: str) -> Iterator[tarfile.TarFile]:
    """Open an archive to be read from its beginning to its end, once.

    Raises:
        StepFailed: It is broken, here or wherever it is read within the context.
    """
    try:
        with tarfile.open(fileobj=file, mode="r:*", tarinfo=_Member) as archive:
            yield archive
    except _DAMAGED as exc:
        raise StepFailed(f"{name} can't be unpacked: {exc}") from exc


def iter_members(archive: tarfile.TarFile, name: str) -> Iterator[tarfile.TarInfo]:
    """Yield the members of an archive whose names stay in it.

    Raises:
        StepFailed: One leads out, or there are too many.
    """
    for count, member in enumerate(_each(archive), 1):
        if count > MAX_MEMBERS:
            raise StepFailed(f"{name} holds more than {MAX_MEMBERS} entries")
        member.name = member.name.lstrip("/")  # absolute names are meant below the destination, as in Docker
        if member.islnk():
            member.linkname = member.linkname.lstrip("/")
        if ".." in member.name.split("/"):
            raise StepFailed(f"{name}: the member {member.name!r} leads out of the destination")
        yield member


def _each(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := archive.next()) is not None:
        yield member
        archive.members.clear()  # type: ignore[attr-defined]  # it keeps every member, of a million some gigabytes
