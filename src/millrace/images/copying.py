"""Write what COPY and ADD take into a new layer."""

import os
import stat
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO

from millrace.images.archives import open_archive
from millrace.images.problems import StepFailed
from millrace.images.sources import Contents, Entry, content_of, open_source
from millrace.images.view import TooManyLinks, View, clean_path

__all__ = ["LayerWriter", "Ownership", "copy_entries"]

COPY_BYTES = 1024 * 1024
"""Bytes that are read of a file at a time."""

MAX_UNPACKED_BYTES = 64 * 1024**3
"""Bytes that one archive may unpack to."""

_NO_EFFECT = stat.S_ISUID | stat.S_ISGID
"""Containers give these bits of files no effect; here they would be programs of root's in somebody's folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ownership:
    """Whose the copies are, and what their mode is; None leaves it as the source has it."""

    user: int = 0
    group: int = 0
    mode: int | None = None


class LayerWriter:
    """Writes into a new layer, at the places that the links of the layers below lead to.

    No path of the machine is ever followed through a link: each folder in the layer is one that was made here. Folders
    get their modes at the end: until then files can be made in those that nobody may write to.
    """

    def __init__(
        self,
        upper: Path,
        layers: Sequence[Path],
        *,
        skeleton: Path,
        grafts: Sequence[str],
        owner: Ownership,
    ) -> None:
        self._upper = upper
        self._owner = owner
        self._view = View([*layers, upper], skeleton=skeleton, grafts=grafts)
        self._may_give_away = os.geteuid() == 0
        self._modes: dict[str, int] = {}
        self._resolved: dict[str, str] = {}
        self._new: set[str] = set()
        """Folders that the layers below have not: what is in them was made here."""

    def make_folder(self, path: str, *, mode: int | None = None) -> str:
        """Make a folder, and those above it, and return its path with links followed.

        Args:
            mode: Of the folder itself; None is 0755, or what it has where it is there already.

        Raises:
            StepFailed: Something else is in its place.
        """
        resolved = self._resolved.get(path)
        if resolved is None:
            resolved = self._make(path)
            self._resolved[path] = resolved
        if mode is not None and resolved:
            self._modes[resolved] = mode
        return resolved

    def _make(self, path: str) -> str:
        try:
            resolved = self._view.resolve(path)
        except TooManyLinks as exc:
            raise StepFailed(str(exc)) from exc
        done = ""
        for part in resolved.split("/") if resolved else []:
            above, done = done, f"{done}/{part}" if done else part
            place = self._upper / done
            if _is_real_folder(place):
                continue
            there = None if above in self._new and not os.path.lexists(place) else self._view.lstat(done)
            if there is None:
                place.mkdir()
                self._give(place)
                self._new.add(done)
                self._modes[done] = 0o755
            elif stat.S_ISDIR(there.st_mode):  # the layer's folder hides owner and mode of the one below
                place.mkdir()
                if self._may_give_away:
                    os.chown(place, there.st_uid, there.st_gid)
                self._modes[done] = stat.S_IMODE(there.st_mode)
            else:
                raise StepFailed(f"/{done} is no folder")
        return resolved

    def finish(self) -> None:
        """Give all folders their modes; nothing is written after that."""
        for path, mode in sorted(self._modes.items(), reverse=True):  # those inside before those that may close
            (self._upper / path).chmod(mode)

    def write_file(self, folder: str, name: str, entry: Entry) -> bytes:
        """Copy a file into a folder that `make_folder` returned, and return the SHA-256 of what was copied."""
        mode, mtime_ns = stat.S_IMODE(entry.status.st_mode), entry.status.st_mtime_ns
        with open_source(entry) as source:
            return self._write(folder, name, source, mode=mode, mtime_ns=mtime_ns)[0]

    def write_link(self, folder: str, name: str, target: str, *, mtime_ns: int) -> None:
        """Make a link. It is never followed here."""
        place = self._clear(folder, name)
        place.symlink_to(target)
        self._give(place)
        os.utime(place, ns=(mtime_ns, mtime_ns), follow_symlinks=False)

    def unpack(self, folder: str, entry: Entry) -> None:
        """Unpack a tar archive into a folder.

        Raises:
            StepFailed: It is broken, or has members that lead out, are devices, or are too many or too large.
        """
        room = MAX_UNPACKED_BYTES
        with open_source(entry) as file, open_archive(file, entry.shown) as (archive, members):
            for member in members:
                room -= self._unpack_member(folder, archive, member, entry.shown, room)

    def _unpack_member(
        self, folder: str, archive: tarfile.TarFile, member: tarfile.TarInfo, shown: str, room: int
    ) -> int:
        """Unpack one member and return its bytes."""
        path = clean_path(member.name, below=folder)
        mode, mtime_ns = stat.S_IMODE(member.mode), int(member.mtime) * 1_000_000_000
        if path == folder:
            return 0
        if member.isdir():
            self.make_folder(path, mode=mode)
            return 0
        above, _, name = path.rpartition("/")
        place = self.make_folder(above)
        if member.issym():
            self.write_link(place, name, member.linkname, mtime_ns=mtime_ns)
        elif member.islnk():
            self._write_hard_link(place, name, clean_path(member.linkname, below=folder), member, shown)
        elif member.isreg():
            source = archive.extractfile(member)
            assert source is not None
            with source:
                return self._write(place, name, source, mode=mode, mtime_ns=mtime_ns, room=room)[1]
        else:
            raise StepFailed(f"{shown}: the member {member.name!r} is a device or a pipe")
        return 0

    def _write_hard_link(self, folder: str, name: str, path: str, member: tarfile.TarInfo, shown: str) -> None:
        above, _, last = path.rpartition("/")
        target = self._upper / self.make_folder(above) / last
        if not target.is_symlink() and target.is_file():
            place = self._clear(folder, name)
            if place != target:
                os.link(target, place)
                return
        raise StepFailed(
            f"{shown}: the member {member.name!r} is a link to {member.linkname!r}, which is no file before it"
        )

    def _write(
        self, folder: str, name: str, source: IO[bytes], *, mode: int, mtime_ns: int, room: int | None = None
    ) -> tuple[bytes, int]:
        place = self._clear(folder, name)
        digest, size = sha256(), 0
        with place.open("xb") as copy:
            while chunk := source.read(COPY_BYTES):
                size += len(chunk)
                if room is not None and size > room:
                    raise StepFailed(f"{name}: the archive holds more than {MAX_UNPACKED_BYTES} bytes")
                digest.update(chunk)
                copy.write(chunk)
        self._give(place)
        place.chmod(mode & ~_NO_EFFECT if self._owner.mode is None else self._owner.mode)
        os.utime(place, ns=(mtime_ns, mtime_ns))
        return digest.digest(), size

    def _clear(self, folder: str, name: str) -> Path:
        """Return where a file is to be made; an earlier one is gone."""
        path = f"{folder}/{name}" if folder else name
        place = self._upper / path
        if folder not in self._new or os.path.lexists(place):
            there = self._view.lstat(path)
            if there is not None and stat.S_ISDIR(there.st_mode):
                raise StepFailed(f"/{path} is a folder, which a file can't replace")
            place.unlink(missing_ok=True)
        return place

    def _give(self, place: Path) -> None:
        if self._may_give_away:
            os.chown(place, self._owner.user, self._owner.group, follow_symlinks=False)


def copy_entries(
    writer: LayerWriter,
    entries: Sequence[Entry],
    destination: str,
    *,
    mode: int | None = None,
    contents: Contents | None = None,
) -> None:
    """Write the entries of a plan below a destination, and finish the layer.

    Args:
        mode: Of all that is copied; None leaves it as the sources have it.
        contents: What the layer's key says that is in the entries.

    Raises:
        StepFailed: Something is in the way, or is not what the key says any more: it would be kept under a wrong key.
    """
    for number, entry in enumerate(entries):
        expected = None if contents is None else contents.each[number]
        if entry.is_folder:
            own = stat.S_IMODE(entry.status.st_mode) if mode is None else mode
            writer.make_folder(clean_path(entry.target, below=destination), mode=own if entry.target else None)
            continue
        if entry.is_archive:
            writer.unpack(writer.make_folder(destination), entry)
            copied = content_of(entry)
        else:
            copied = _copy_one(writer, entry, clean_path(entry.target, below=destination))
        if expected is not None and copied != expected:
            raise StepFailed(f"{entry.shown} was changed while it was copied")
    writer.finish()


def _copy_one(writer: LayerWriter, entry: Entry, path: str) -> bytes:
    above, _, name = path.rpartition("/")
    if not name:
        raise StepFailed("the destination / must be written as a folder that files go into: end it in /")
    folder = writer.make_folder(above)
    if not entry.is_link:
        return writer.write_file(folder, name, entry)
    content = content_of(entry)
    writer.write_link(folder, name, os.fsdecode(content), mtime_ns=entry.status.st_mtime_ns)
    return content


def _is_real_folder(place: Path) -> bool:
    try:
        return stat.S_ISDIR(place.lstat().st_mode)
    except FileNotFoundError:
        return False
