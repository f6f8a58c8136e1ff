"""Pack and unpack the .tar.gz archives of models and outputs; unpacking trusts nothing."""

import gzip
import os
import shutil
import stat
import tarfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from millrace.errors import ClientFailure

__all__ = ["pack", "unpack"]

COPY_BYTES = 1024 * 1024
MAX_MEMBERS = 1_000_000
COMPRESSION_LEVEL = 6
RESERVE_BYTES = 256 * 1024 * 1024
"""Free space that an archive may not use up: a bomb must not fill the disk."""


def pack(trees: Iterable[Path], target: BinaryIO) -> None:
    """Write the contents of folders, merged, as a gzip tar; of files of one name the last folder's wins.

    Names are relative to the folders. A link that points out of its folder is packed as what it points to.

    Source:
        containers.md 2.6.
    """
    members: dict[str, tuple[Path, Path]] = {}
    for tree in trees:
        for folder, folders, files in os.walk(tree):
            folders.sort()
            for name in [*folders, *sorted(files)]:
                path = Path(folder) / name
                members[path.relative_to(tree).as_posix()] = (tree, path)
    with (
        gzip.GzipFile(fileobj=target, mode="wb", compresslevel=COMPRESSION_LEVEL, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w|") as archive,
    ):
        for name, (tree, path) in members.items():
            _pack_member(archive, name, tree, path)


def _pack_member(archive: tarfile.TarFile, name: str, tree: Path, path: Path) -> None:
    if path.is_symlink() and not path.resolve().is_relative_to(tree.resolve()):
        path = path.resolve()
    mode = path.lstat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
        return  # sockets and pipes that the program left
    member = archive.gettarinfo(path, arcname=name)
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    if member.isreg() or member.islnk():
        member.type = tarfile.REGTYPE
        member.size = path.stat().st_size
        with path.open("rb") as source:
            archive.addfile(member, source)
    else:
        archive.addfile(member)


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
