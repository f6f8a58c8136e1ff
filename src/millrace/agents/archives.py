"""Pack and unpack the .tar.gz archives of models and outputs; unpacking trusts nothing."""

import gzip
import os
import shutil
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from millrace.agents.archive_reader import BadArchive, iter_members, open_archive
from millrace.agents.links import Follow, follow_here
from millrace.errors import ClientFailure
from millrace.told import shortened

__all__ = ["Tree", "pack", "unpack"]

MAX_DEPTH = 255
"""Folders of a member's name: each costs a call of its own when they are made."""

COMPRESSION_LEVEL = 6
RESERVE_BYTES = 256 * 1024 * 1024
"""Free space that an archive may not use up: a bomb must not fill the disk."""


_DAMAGED = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, BadArchive, ValueError, OverflowError)
"""What reading a broken archive raises; the last two where the library does not expect what stands in a header."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A folder to be packed, and how the links in it are followed."""

    folder: Path
    follow: Follow = follow_here


def pack(trees: Iterable[Tree], target: BinaryIO) -> None:
    """Write the contents of folders, merged, as a gzip tar; of files of one name the last folder's wins.

    Names are relative to the folders. A link within its folder stays one, relative; one that leads out is packed as the
    file it leads to, or left out if there is none.

    Source:
        containers.md 2.6.
    """
    members: dict[str, tuple[Tree, Path]] = {}
    for tree in trees:
        for folder, folders, files in os.walk(tree.folder):
            folders.sort()
            for name in [*folders, *sorted(files)]:
                path = Path(folder) / name
                members[path.relative_to(tree.folder).as_posix()] = (tree, path)
    with (
        gzip.GzipFile(fileobj=target, mode="wb", compresslevel=COMPRESSION_LEVEL, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w|") as archive,
    ):
        for name, (tree, path) in members.items():
            _pack_member(archive, name, tree, path)


def _pack_member(archive: tarfile.TarFile, name: str, tree: Tree, path: Path) -> None:
    link = None
    if path.is_symlink():
        found = tree.follow(path)
        if found is None:
            return
        inside = _relative_to(found, tree.folder)
        if inside is not None:
            link = os.path.relpath(inside, Path(name).parent)
        else:
            path = found
    mode = path.lstat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or link is not None):
        return  # sockets and pipes that the program left
    member = archive.gettarinfo(path, arcname=name)
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    if link is not None:
        member.linkname = link
    if member.isreg() or member.islnk():
        member.type = tarfile.REGTYPE
        member.size = path.stat().st_size
        with path.open("rb") as source:
            archive.addfile(member, source)
    else:
        archive.addfile(member)


def _relative_to(path: Path, folder: Path) -> Path | None:
    """Return a followed path relative to a folder, None if it is not below it."""
    for base in (folder, folder.resolve()):
        if path.is_relative_to(base):
            return path.relative_to(base)
    return None


def unpack(source: BinaryIO, target: Path, *, name: str, check: Callable[[], None] = lambda: None) -> None:
    """Unpack a gzip tar into an empty folder.

    Args:
        source: The archive.
        target: The folder.
        name: What failures call the archive, such as its URI.
        check: Called at least once for each megabyte and each member; what it raises passes, and leaves what was
            unpacked till then.

    Raises:
        ClientFailure: It is no gzip tar, is damaged, holds a member that points out of the folder or is a device, or
            does not fit on the disk. Of the server's folders the message tells nothing.
    """
    try:
        archive, stream = open_archive(source, check)
        with archive:
            for member in iter_members(archive, stream):
                _unpack_member(archive, member, target, name)
    except _DAMAGED as exc:
        raise ClientFailure(f"{name} is not a valid .tar.gz archive: {exc}") from exc
    except OSError as exc:
        if exc.errno is None:  # the gzip module's own
            raise ClientFailure(f"{name} is not a valid .tar.gz archive: {exc}") from exc
        raise ClientFailure(f"{name}: can't unpack: {exc.strerror}") from exc


def _unpack_member(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path, name: str) -> None:
    subject = f"{name}: member {shortened(member.name)!r}"
    relative = PurePosixPath(member.name)
    if relative.is_absolute() or ".." in relative.parts:
        raise ClientFailure(f"{subject} points out of the model folder")
    if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
        raise ClientFailure(f"{subject} is a device or pipe")
    if str(relative) in ("", "."):
        return  # the SDK's repacked archives hold such a member
    if len(relative.parts) > MAX_DEPTH:
        raise ClientFailure(f"{subject} must be at most {MAX_DEPTH} folders deep, got {len(relative.parts)}")
    if member.size > max(0, shutil.disk_usage(target).free - RESERVE_BYTES):
        raise ClientFailure(f"{subject} of {member.size} bytes does not fit on the disk")
    if member.islnk() and not os.path.lexists(target / member.linkname.lstrip("/")):
        raise ClientFailure(
            f"{subject} is a hard link to {shortened(member.linkname)!r}, which must stand before it in the archive"
        )
    try:
        archive.extract(member, target, filter="data")
    except tarfile.FilterError as exc:
        raise ClientFailure(f"{subject} {_refusal(exc, member)}") from exc
    except OSError as exc:
        if exc.errno is None:
            raise
        raise ClientFailure(f"{subject} can't be unpacked: {exc.strerror}") from exc
    except (ValueError, OverflowError) as exc:  # a NUL in its name, a time beyond the clock's
        raise ClientFailure(f"{subject} can't be unpacked: {exc}") from exc


def _refusal(error: tarfile.FilterError, member: tarfile.TarInfo) -> str:
    """Say what is wrong with a member; the library's own texts tell the server's folders."""
    match error:
        case tarfile.AbsoluteLinkError() | tarfile.LinkOutsideDestinationError():
            return f"is a link to {shortened(member.linkname)!r}, out of the model folder"
        case tarfile.OutsideDestinationError():
            return "leads through a link out of the model folder"
        case _:
            return "is refused: it is no plain file, folder or link"
