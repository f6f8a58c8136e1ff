"""Pack and unpack the .tar.gz archives of models and outputs; unpacking trusts nothing."""

import gzip
import os
import shutil
import stat
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from millrace.agents.links import Follow, follow_here
from millrace.errors import ClientFailure

__all__ = ["Tree", "pack", "unpack"]

COPY_BYTES = 1024 * 1024
MAX_MEMBERS = 1_000_000
COMPRESSION_LEVEL = 6
RESERVE_BYTES = 256 * 1024 * 1024
"""Free space that an archive may not use up: a bomb must not fill the disk."""


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


def unpack(source: BinaryIO, target: Path, *, name: str) -> None:
    """Unpack a gzip tar into an empty folder.

    Args:
        name: What failures call the archive, such as its URI.

    Raises:
        ClientFailure: It is no gzip tar, is damaged, holds a member that points out of the folder or is a device, or
            does not fit on the disk.
    """
    try:
        with tarfile.open(fileobj=source, mode="r|gz") as archive:
            for number, member in enumerate(archive):
                if number >= MAX_MEMBERS:
                    raise ClientFailure(f"{name}: more than {MAX_MEMBERS} members")
                _unpack_member(archive, member, target, name)
    except (tarfile.TarError, EOFError, OSError) as exc:
        if isinstance(exc, OSError) and exc.errno is not None and not isinstance(exc, tarfile.TarError):
            raise ClientFailure(f"{name}: can't unpack: {exc.strerror}") from exc
        raise ClientFailure(f"{name} is not a valid .tar.gz archive: {exc}") from exc


def _unpack_member(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path, name: str) -> None:
    relative = PurePosixPath(member.name)
    if relative.is_absolute() or ".." in relative.parts:
        raise ClientFailure(f"{name}: member {member.name!r} points out of the model folder")
    if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
        raise ClientFailure(f"{name}: member {member.name!r} is a device or pipe")
    if str(relative) in ("", "."):
        return  # the SDK's repacked archives hold such a member
    if member.size > max(0, shutil.disk_usage(target).free - RESERVE_BYTES):
        raise ClientFailure(f"{name}: member {member.name!r} of {member.size} bytes does not fit on the disk")
    try:
        archive.extract(member, target, filter="data")
    except tarfile.FilterError as exc:
        raise ClientFailure(f"{name}: member {member.name!r} refused: {exc}") from exc
