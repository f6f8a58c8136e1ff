"""Tar archives that ADD unpacks: tell them from other files, and read their members trusting nothing."""

import bz2
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from millrace.agents.archive_reader import BadArchive, Readable, iter_members, open_tar
from millrace.images.problems import StepFailed

__all__ = ["is_archive", "open_archive"]

_DAMAGED = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError, OverflowError)
_BREAKS_A_BOUND = (BadArchive, RecursionError)
"""The library reads headers that belong to others by calling itself."""

_LONGEST_MAGIC = 6


def is_archive(file: Path) -> bool:
    """Whether a file is a tar archive, plain or compressed by gzip, bzip2 or xz, with at least one member.

    Source:
        The Dockerfile reference, ADD: "Whether a file is identified as a recognized compression format or not is done
        solely based on the contents of the file, not the name of the file." A file of zeros is no archive to Docker.
    """
    try:
        with file.open("rb") as source, open_tar(_decompressed(source))[0] as archive:
            return archive.next() is not None
    except _BREAKS_A_BOUND:
        return True  # unpacking it tells what is wrong
    except (*_DAMAGED, OSError):
        return False


@contextmanager
def open_archive(file: BinaryIO, name: str) -> Iterator[tuple[tarfile.TarFile, Iterator[tarfile.TarInfo]]]:
    """Open an archive to be read from its beginning to its end, once; with its members, whose names stay in it.

    Raises:
        StepFailed: It is broken, has too many members or too long headers, or a member leads out; here or wherever it
            is read within the context.
    """
    try:
        archive, stream = open_tar(_decompressed(file))
        with archive:
            yield archive, (_confined(member, name) for member in iter_members(archive, stream))
    except RecursionError as exc:
        raise StepFailed(f"{name} can't be unpacked: a member has too many headers") from exc
    except (*_DAMAGED, BadArchive) as exc:
        if isinstance(exc, StepFailed):
            raise
        raise StepFailed(f"{name} can't be unpacked: {exc}") from exc
    except OSError as exc:
        if exc.errno is not None:
            raise
        raise StepFailed(f"{name} can't be unpacked: {exc}") from exc  # gzip's and bzip2's word for damage


def _decompressed(file: BinaryIO) -> Readable:
    magic = file.read(_LONGEST_MAGIC)
    file.seek(0)
    if magic.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file, mode="rb")
    if magic.startswith(b"BZh"):
        return bz2.BZ2File(file)
    if magic.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMAFile(file)
    return file


def _confined(member: tarfile.TarInfo, name: str) -> tarfile.TarInfo:
    member.name = member.name.lstrip("/")  # absolute names are meant below the destination, as in Docker
    if member.islnk():
        member.linkname = member.linkname.lstrip("/")
    if ".." in member.name.split("/"):
        raise StepFailed(f"{name}: the member {member.name!r} leads out of the destination")
    return member
