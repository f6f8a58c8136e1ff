"""Walk the keys of a bucket in UTF-8 byte order, entering only folders that can hold an answer.

A folder sorts as its name with a slash: `a.txt` ('.' is 2e) comes before what is in `a/` ('/' is 2f), and that before
`a0`. With this, the order of names in each folder is the order of keys, so no key has to be held back.

The names of a folder are read and sorted once per page at most. They are kept for further pages as long as the folder
does not change, those of one folder even if they are more than are kept of all others: of a million files in a folder
they would else be read a thousand times. A folder's time says when it last changed, but in steps of a clock tick: two
changes within one tick show the same time. So a reading is only kept if the folder had been still for longer than a
tick before it.
"""

# Paths are bytes here, as keys are, and pathlib knows only text.
# ruff: noqa: PTH112, PTH116

import heapq
import os
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from time import time_ns
from typing import NamedTuple

from millrace.store.key_paths import escape, unescape
from millrace.store.packed_names import PackedNames

__all__ = ["BEYOND", "FolderNames", "KeyWalk", "Place"]

BEYOND = b"\xff"
"""Sorts after every continuation of a key, for no UTF-8 has this byte."""

_STILL_NS = 50_000_000
"""Longer than the coarsest tick of a file system's clock in use (10 ms), several times over."""

UNPACKED_NAMES = 65_536
"""Names of a folder that are objects of the interpreter's, of 41 bytes and their own; more are packed."""


class Place(NamedTuple):  # a thousand are made per page, in a third of a dataclass's time
    """A key and its file; or, with no file, a folder's key that ends with a slash and stands for all keys in it."""

    key: bytes
    path: bytes | None


class FolderNames:
    """Sorted names of folders, folders among them marked by a final slash."""

    def __init__(self, max_names: int) -> None:
        """
        Args:
            max_names: Names that are kept over all folders; those not asked for longest leave first. One folder that
                has more by itself is kept besides.
        """
        self._max_names = max_names
        self._kept: OrderedDict[bytes, _Reading] = OrderedDict()
        self._count = 0
        self._large: tuple[bytes, _Reading] | None = None
        self._lock = Lock()

    def read(self, path: bytes, *, follow_file_links: bool = False) -> Sequence[bytes]:
        """Return the names in a folder, sorted; none if it is not there. They belong to the cache."""
        now = time_ns()
        try:
            stat = os.stat(path, follow_symlinks=False)
        except OSError:
            return []
        version = (stat.st_ino, stat.st_mtime_ns)
        with self._lock:
            kept = self._find(path)
            if kept is not None and kept.version == version:
                return kept.names
        names = _scan(path, follow_file_links=follow_file_links)
        if now - stat.st_mtime_ns > _STILL_NS:
            self._keep(path, _Reading(version, names))
        return names

    def let_go(self) -> None:
        """Forget the folder that is kept besides: a listing that went on from page to page has come to its end."""
        with self._lock:
            self._large = None

    def _find(self, path: bytes) -> "_Reading | None":
        if self._large is not None and self._large[0] == path:
            return self._large[1]
        kept = self._kept.get(path)
        if kept is not None:
            self._kept.move_to_end(path)
        return kept

    def _keep(self, path: bytes, reading: "_Reading") -> None:
        with self._lock:
            old = self._kept.pop(path, None)
            self._count -= len(old.names) + 1 if old else 0
            if self._large is not None and self._large[0] == path:
                self._large = None
            if len(reading.names) >= self._max_names:
                self._large = path, reading
                return
            self._kept[path] = reading
            self._count += len(reading.names) + 1
            while self._count > self._max_names:
                _, dropped = self._kept.popitem(last=False)
                self._count -= len(dropped.names) + 1


class _Reading(NamedTuple):
    """The names in a folder, and its version when they were read."""

    version: tuple[int, int]
    names: Sequence[bytes]


def _scan(path: bytes, *, follow_file_links: bool) -> Sequence[bytes]:
    names: list[bytes] = []
    packed = PackedNames()
    is_packed = False
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                name = entry.name
                if entry.is_dir(follow_symlinks=False):
                    name += b"/"
                elif not entry.is_file(follow_symlinks=follow_file_links):
                    continue
                if name.isascii() or _is_text(name):
                    names.append(name)
                if len(names) == UNPACKED_NAMES:
                    packed.add(names)
                    names.clear()
                    is_packed = True
    except (FileNotFoundError, NotADirectoryError):
        return []  # pruned since we saw its name
    if not is_packed:
        names.sort()
        return names
    packed.add(names)
    packed.sort()
    return packed


def _is_text(name: bytes) -> bool:
    """A name that is not UTF-8 is no key; only a person can have put it there."""
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyWalk:
    """What to walk: the folders of a bucket, and which keys of it."""

    names: FolderNames
    folder: bytes
    alternates: bytes
    reserved: bytes | None = None
    follow_file_links: bool = False
    prefix: bytes = b""
    after: bytes = b""
    """Only keys greater than this."""
    fold: bool = False
    """Give a folder instead of the keys in it, where its key goes on after the prefix."""

    def places(self) -> Iterator[Place]:
        """Yield each key once, in order; where a key has two files, the plain one."""
        plain = self._plain(self.folder, b"")
        if not os.path.isdir(self.alternates):
            yield from plain
            return
        escaped = escape(self.prefix).encode(), escape(self.after).encode()
        last = None
        # merge() is stable: of equal keys the plain one comes first.
        for place in heapq.merge(plain, self._alternate(self.alternates, b"", *escaped), key=lambda place: place.key):
            if place.key != last or place.path is None:
                yield place
            last = place.key

    def _plain(self, path: bytes, above: bytes) -> Iterator[Place]:
        """Walk the folder at `path`, whose keys all start with `above`."""
        names = self.names.read(path, follow_file_links=self.follow_file_links)
        wanted = self.prefix[len(above) :]  # empty where `above` goes beyond the prefix
        wanted_name, slash, _ = wanted.partition(b"/")
        wanted_name += slash
        start = bisect_left(names, wanted_name)
        if self.after.startswith(above):
            passed_name, slash, _ = self.after[len(above) :].partition(b"/")
            start = max(start, bisect_left(names, passed_name + slash))
        for index in range(start, len(names)):
            name = names[index]
            if wanted_name and not name.startswith(wanted_name):
                return
            key = above + name
            if not name.endswith(b"/"):
                if key > self.after:
                    yield Place(key, path + b"/" + name)
                continue
            inner = path + b"/" + name[:-1]
            if self.reserved is not None and not above and name[:-1] == self.reserved:
                continue
            if not (self.fold and len(key) > len(self.prefix)):
                yield from self._plain(inner, key)
            elif key > self.after and self._holds_object(inner):
                yield Place(key, None)

    def _alternate(self, path: bytes, above: bytes, prefix: bytes, after: bytes) -> Iterator[Place]:
        """Walk the alternates at `path`, whose escaped names all start with `above`; all arguments are escaped."""
        names = self.names.read(path)
        start = 0
        for bound in (prefix, after):
            if bound.startswith(above):
                # A folder's piece sorts after the file of the same piece, so the bare piece finds both.
                start = max(start, bisect_left(names, bound[len(above) : len(above) + 200]))
        for index in range(start, len(names)):
            name = names[index]
            inner = name.endswith(b"+/")
            whole = above + (name[:-2] if inner else name)
            if not whole.startswith(prefix) and not prefix.startswith(whole):
                return
            if inner:
                yield from self._alternate(path + b"/" + name[:-1], whole, prefix, after)
            elif whole > after and whole.startswith(prefix):
                try:
                    yield Place(unescape(whole.decode("ascii")), path + b"/" + name)
                except ValueError:
                    continue  # not a file of ours

    def _holds_object(self, path: bytes) -> bool:
        """Tell whether there is an object anywhere below; usually the first entry settles it."""
        folders = []
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.is_file(follow_symlinks=self.follow_file_links):
                        return True
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return any(map(self._holds_object, folders))
