"""What COPY and ADD do: plan which entries go where, tell the plan's digest, and write them into a new layer."""

import os
import shutil
import stat
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO

from millrace.images.patterns import BadPattern, IgnoreRules, expand_pattern, has_wildcard
from millrace.images.view import TooManyLinks, View, clean_path

__all__ = ["CannotCopy", "Entry", "LayerWriter", "Ownership", "copy_entries", "digest_of", "plan_copy"]

COPY_BYTES = 1024 * 1024
"""Bytes that are read of a file at a time."""

MAX_UNPACKED_BYTES = 64 * 1024**3
"""Bytes that the archives of one ADD may hold."""

MAX_MEMBERS = 1_000_000
"""Entries of one archive."""


class CannotCopy(ValueError):
    """A source or destination that can't be; the message says which and why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One file, link or folder to copy."""

    source: Path
    """Where it lies."""
    status: os.stat_result
    target: str
    """Where it goes, below the destination; "" is the destination itself."""
    is_archive: bool = False
    """To be unpacked into the destination."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ownership:
    """Whose the copies are, and what their mode is; None leaves it as the source has it."""

    user: int = 0
    group: int = 0
    mode: int | None = None


def plan_copy(
    view: View, sources: Sequence[str], *, into_folder: bool, unpacks: bool, rules: IgnoreRules | None = None
) -> list[Entry]:
    """Return what the sources mean, folders before what is in them.

    Args:
        into_folder: The destination is a folder: files keep their names in it. The contents of folders always go
            into the destination.

    Raises:
        CannotCopy: A source is outside of the context, is not there, or is nothing that can be copied.
    """
    rules = rules or IgnoreRules()
    entries: list[Entry] = []
    matches = 0
    for source in sources:
        path = _inside(source)
        try:
            found = expand_pattern(view, path) if has_wildcard(path) else [path]
            found = [it for it in found if not (it and rules.ignores(it))]
        except (BadPattern, TooManyLinks) as exc:
            raise CannotCopy(f"{source}: {exc}") from exc
        found = [it for it in found if _status(view, it) is not None]
        if not found:
            ignored = not has_wildcard(path) and path and rules.ignores(path)
            raise CannotCopy(f"{source} is left out by .dockerignore" if ignored else f"{source} does not exist")
        matches += len(found)
        for it in found:
            entries += _plan_one(view, it, into_folder=into_folder or matches > 1, unpacks=unpacks, rules=rules)
    if matches > 1 and not into_folder and any(entry.target == "" for entry in entries if not _is_folder(entry)):
        raise CannotCopy("several sources need a destination that ends in /")
    return entries


def _inside(source: str) -> str:
    depth = 0
    for part in source.split("/"):
        depth += -1 if part == ".." else part not in ("", ".")
        if depth < 0:
            raise CannotCopy(f"{source} lies outside of the build context")
    return clean_path(f"/{source}")


def _status(view: View, path: str) -> os.stat_result | None:
    """Return what a source is, links followed."""
    try:
        return view.lstat(view.resolve(path))
    except TooManyLinks:
        return None


def _is_folder(entry: Entry) -> bool:
    return stat.S_ISDIR(entry.status.st_mode)


def _plan_one(view: View, path: str, *, into_folder: bool, unpacks: bool, rules: IgnoreRules) -> Iterator[Entry]:
    resolved = view.resolve(path)
    place = view.find(resolved)
    assert place is not None
    status = place.lstat()
    if stat.S_ISDIR(status.st_mode):
        yield Entry(source=place, status=status, target="")
        yield from _plan_folder(view, resolved, path, "", rules)
        return
    if not stat.S_ISREG(status.st_mode):
        raise CannotCopy(f"{path} is neither file, folder nor link")
    if unpacks and tarfile.is_tarfile(place):
        yield Entry(source=place, status=status, target="", is_archive=True)
        return
    yield Entry(source=place, status=status, target=path.rpartition("/")[2] if into_folder else "")


def _plan_folder(view: View, folder: str, shown: str, target: str, rules: IgnoreRules) -> Iterator[Entry]:
    """Yield what is in a folder. `shown` is its path as .dockerignore knows it."""
    for name in view.list(folder):
        path, path_shown = (f"{it}/{name}" if it else name for it in (folder, shown))
        place = view.find(path)
        if place is None:
            continue
        status = place.lstat()
        goes_to = f"{target}/{name}" if target else name
        is_ignored = bool(rules) and rules.ignores(path_shown)
        if stat.S_ISDIR(status.st_mode):
            inside = list(_plan_folder(view, path, path_shown, goes_to, rules))
            if not is_ignored or inside:
                yield Entry(source=place, status=status, target=goes_to)
                yield from inside
        elif is_ignored:
            continue
        elif stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
            yield Entry(source=place, status=status, target=goes_to)
        else:
            raise CannotCopy(f"{path_shown} is neither file, folder nor link")


def digest_of(entries: Sequence[Entry]) -> str:
    """Return the digest of what is copied: names, kinds, modes, bytes; not the times, nor the owners."""
    whole = sha256()
    for entry in entries:
        kind = stat.S_IFMT(entry.status.st_mode)
        whole.update(repr((entry.target, kind, stat.S_IMODE(entry.status.st_mode), entry.is_archive)).encode())
        if stat.S_ISLNK(entry.status.st_mode):
            whole.update(os.fsencode(entry.source.readlink()) + b"\0")
        elif stat.S_ISREG(entry.status.st_mode):
            content = sha256()
            with entry.source.open("rb") as file:
                while chunk := file.read(COPY_BYTES):
                    content.update(chunk)
            whole.update(content.digest())
    return whole.hexdigest()


class LayerWriter:
    """Writes into a new layer, at the places that the links of the layers below lead to.

    No path of the machine is ever followed through a link: each folder in the layer is one that was made here.
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
        self.view = View([*layers, upper], skeleton=skeleton, grafts=grafts)
        self._may_give_away = os.geteuid() == 0

    def make_folder(self, path: str, *, mode: int | None = None, is_new: bool = True) -> str:
        """Make a folder, and those above it, and return its path with links followed.

        Args:
            mode: Of the folder itself; None is 0755, or what it has where it is there already.
            is_new: Whether a folder that is made gets the owner of the copies, rather than root.

        Raises:
            CannotCopy: Something else is in its place.
        """
        resolved = self._resolve(path)
        done = ""
        parts = resolved.split("/") if resolved else []
        for number, part in enumerate(parts):
            done = f"{done}/{part}" if done else part
            place = self._upper / done
            is_last = number + 1 == len(parts)
            there = self.view.lstat(done)
            if there is not None and not stat.S_ISDIR(there.st_mode):
                raise CannotCopy(f"/{done} is no folder")
            if _is_real_folder(place):
                if is_last and mode is not None:
                    place.chmod(mode)
                continue
            place.mkdir()
            if there is not None:  # the layer's folder hides the modes of the one below
                self._give(place, there.st_uid, there.st_gid)
                place.chmod(stat.S_IMODE(there.st_mode) if mode is None or not is_last else mode)
            else:
                if is_new:
                    self._give(place, self._owner.user, self._owner.group)
                place.chmod(0o755 if mode is None or not is_last else mode)
        return resolved

    def write_file(self, folder: str, name: str, entry: Entry) -> None:
        """Copy a file into a folder that `make_folder` returned."""
        with entry.source.open("rb") as source:
            self._write(folder, name, source, stat.S_IMODE(entry.status.st_mode), entry.status.st_mtime_ns)

    def write_link(self, folder: str, name: str, target: str) -> None:
        """Make a link. It is never followed here."""
        place = self._clear(folder, name)
        place.symlink_to(target)
        if self._may_give_away:
            os.chown(place, self._owner.user, self._owner.group, follow_symlinks=False)

    def unpack(self, folder: str, archive: Path) -> None:
        """Unpack a tar archive into a folder.

        Raises:
            CannotCopy: It is broken, or has members that lead out, are devices, or are too many or too large.
        """
        size = count = 0
        try:
            with tarfile.open(archive, "r:*") as members:
                for member in members:
                    count += 1
                    size += member.size
                    if count > MAX_MEMBERS or size > MAX_UNPACKED_BYTES:
                        raise CannotCopy(
                            f"{archive.name} holds more than {MAX_MEMBERS} entries or {MAX_UNPACKED_BYTES} bytes"
                        )
                    self._unpack_member(folder, members, member, archive.name)
        except (tarfile.TarError, EOFError, OSError) as exc:
            raise CannotCopy(f"{archive.name} can't be unpacked: {exc}") from exc

    def _unpack_member(self, folder: str, members: tarfile.TarFile, member: tarfile.TarInfo, archive: str) -> None:
        if member.name.startswith("/") or ".." in member.name.split("/"):
            raise CannotCopy(f"{archive}: the member {member.name!r} leads out of the destination")
        path = clean_path(member.name, below=folder)
        if path == folder:
            return
        mode = stat.S_IMODE(member.mode)
        if member.isdir():
            self.make_folder(path, mode=mode)
            return
        above, _, name = path.rpartition("/")
        place = self.make_folder(above)
        if member.issym():
            self.write_link(place, name, member.linkname)
        elif member.isreg() or member.islnk():
            source = members.extractfile(member)  # a hard link's bytes are those of the member that it names
            if source is None:
                raise CannotCopy(
                    f"{archive}: the member {member.name!r} is a link to {member.linkname!r}, which is no file"
                )
            with source:
                self._write(place, name, source, mode, int(member.mtime) * 1_000_000_000)
        else:
            raise CannotCopy(f"{archive}: the member {member.name!r} is a device or a pipe")

    def _write(self, folder: str, name: str, source: IO[bytes], mode: int, mtime_ns: int) -> None:
        place = self._clear(folder, name)
        with place.open("xb") as copy:
            shutil.copyfileobj(source, copy, COPY_BYTES)
        self._give(place, self._owner.user, self._owner.group)
        place.chmod(mode if self._owner.mode is None else self._owner.mode)
        os.utime(place, ns=(mtime_ns, mtime_ns))

    def _clear(self, folder: str, name: str) -> Path:
        """Return where a file is to be made; an earlier one is gone."""
        path = f"{folder}/{name}" if folder else name
        there = self.view.lstat(path)
        if there is not None and stat.S_ISDIR(there.st_mode):
            raise CannotCopy(f"/{path} is a folder, which a file can't replace")
        place = self._upper / path
        place.unlink(missing_ok=True)
        return place

    def _resolve(self, path: str) -> str:
        try:
            return self.view.resolve(path)
        except TooManyLinks as exc:
            raise CannotCopy(str(exc)) from exc

    def _give(self, place: Path, user: int, group: int) -> None:
        if self._may_give_away:
            os.chown(place, user, group, follow_symlinks=False)


def copy_entries(writer: LayerWriter, entries: Sequence[Entry], destination: str, owner: Ownership) -> None:
    """Write the entries of a plan below a destination.

    Raises:
        CannotCopy: Something is in the way.
    """
    for entry in entries:
        path = clean_path(entry.target, below=destination)
        if _is_folder(entry):
            mode = stat.S_IMODE(entry.status.st_mode) if owner.mode is None else owner.mode
            writer.make_folder(path, mode=mode if entry.target else None)
            continue
        if entry.is_archive:
            writer.unpack(writer.make_folder(destination), entry.source)
            continue
        above, _, name = path.rpartition("/")
        if not name:
            raise CannotCopy("the destination / must be written as a folder that files go into: end it in /")
        folder = writer.make_folder(above)
        if stat.S_ISLNK(entry.status.st_mode):
            writer.write_link(folder, name, str(entry.source.readlink()))
        else:
            writer.write_file(folder, name, entry)


def _is_real_folder(place: Path) -> bool:
    try:
        return stat.S_ISDIR(place.lstat().st_mode)
    except FileNotFoundError:
        return False
