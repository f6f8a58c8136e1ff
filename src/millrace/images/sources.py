"""What COPY and ADD take: which entries the sources mean, and the digest of what is in them."""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import file_digest, sha256
from io import BufferedReader
from pathlib import Path

from millrace.images.archives import is_archive
from millrace.images.patterns import BadPattern, IgnoreRules, expand_pattern, has_wildcard
from millrace.images.problems import StepFailed
from millrace.images.view import TooManyLinks, View, clean_path

__all__ = ["Contents", "Entry", "content_of", "open_source", "plan_copy", "read_contents"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One file, link or folder to copy."""

    source: Path
    """Where it lies."""
    status: os.stat_result
    target: str
    """Where it goes, below the destination; "" is the destination itself."""
    shown: str
    """What messages call it: its path in the context or image."""
    is_archive: bool = False
    """To be unpacked into the destination."""

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.status.st_mode)


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """What was in a plan's entries when they were read."""

    digest: str
    """Of names, kinds, modes and bytes; not of times, nor of owners."""
    each: Sequence[bytes]
    """For each entry the digest of a file, the target of a link, nothing of a folder."""


def plan_copy(
    view: View, sources: Sequence[str], *, into_folder: bool, unpacks: bool, rules: IgnoreRules | None = None
) -> list[Entry]:
    """Return what the sources mean, folders before what is in them.

    Args:
        into_folder: The destination is a folder: files keep their names in it. The contents of folders always go
            into the destination.

    A wildcard that matches nothing is no error where another source matches: so Docker's users name optional files.

    Raises:
        StepFailed: A source is outside of the context, is not there, or is nothing that can be copied; or none matches.
    """
    rules = rules or IgnoreRules()
    entries: list[Entry] = []
    matches = 0
    for source in sources:
        path = _inside(source)
        try:
            found = expand_pattern(view, path) if has_wildcard(path) else [path]
            found = [it for it in found if view.lstat(view.resolve(it)) is not None]
            found = [it for it in found if not (it and rules.ignores(it)) or _may_be_mended(view, it, rules)]
            matches += len(found)
            for it in found:
                entries += _plan_one(view, it, into_folder=into_folder, unpacks=unpacks, rules=rules)
        except (BadPattern, TooManyLinks) as exc:
            raise StepFailed(f"{source}: {exc}") from exc
        except RecursionError as exc:
            raise StepFailed(f"{source}: folders are nested too deep") from exc
        if not found and not has_wildcard(path):
            ignored = path and rules.ignores(path)
            raise StepFailed(f"{source} is left out by .dockerignore" if ignored else f"{source} does not exist")
    if not matches:
        raise StepFailed(f"nothing matches {' '.join(sources)}")
    if matches > 1 and not into_folder:
        raise StepFailed(f"{matches} sources match: that needs a destination that ends in /")
    return entries


def _may_be_mended(view: View, path: str, rules: IgnoreRules) -> bool:
    """Whether a rule with `!` may take in something below a folder that is left out."""
    return rules.has_exceptions and view.is_folder(path)


def _inside(source: str) -> str:
    depth = 0
    for part in source.split("/"):
        depth += -1 if part == ".." else part not in ("", ".")
        if depth < 0:
            raise StepFailed(f"{source} lies outside of the build context")
    return clean_path(f"/{source}")


def _plan_one(view: View, path: str, *, into_folder: bool, unpacks: bool, rules: IgnoreRules) -> Iterator[Entry]:
    resolved = view.resolve(path)
    place = view.find(resolved)
    assert place is not None
    status = place.lstat()
    if stat.S_ISDIR(status.st_mode):
        yield Entry(source=place, status=status, target="", shown=path or ".")
        yield from _plan_folder(view, resolved, path, "", rules)
    elif not stat.S_ISREG(status.st_mode):
        raise StepFailed(f"{path} is neither file, folder nor link")
    elif unpacks and is_archive(place):
        yield Entry(source=place, status=status, target="", shown=path, is_archive=True)
    else:
        yield Entry(source=place, status=status, target=path.rpartition("/")[2] if into_folder else "", shown=path)


def _plan_folder(view: View, folder: str, shown: str, target: str, rules: IgnoreRules) -> Iterator[Entry]:
    """Yield what is in a folder. `shown` is its path as .dockerignore knows it."""
    for name, place in view.scan(folder):
        path, path_shown = (f"{it}/{name}" if it else name for it in (folder, shown))
        status = place.lstat()
        goes_to = f"{target}/{name}" if target else name
        is_ignored = bool(rules) and rules.ignores(path_shown)
        if stat.S_ISDIR(status.st_mode):
            if is_ignored and not rules.has_exceptions:
                continue
            inside = list(_plan_folder(view, path, path_shown, goes_to, rules))
            if not is_ignored or inside:
                yield Entry(source=place, status=status, target=goes_to, shown=path_shown)
                yield from inside
        elif is_ignored:
            continue
        elif stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
            yield Entry(source=place, status=status, target=goes_to, shown=path_shown)
        else:
            raise StepFailed(f"{path_shown} is neither file, folder nor link")


def read_contents(entries: Sequence[Entry]) -> Contents:
    """Read all entries, and say what is in them. Raises StepFailed if one can't be read."""
    whole = sha256()
    each = []
    for entry in entries:
        kind, mode = stat.S_IFMT(entry.status.st_mode), stat.S_IMODE(entry.status.st_mode)
        content = content_of(entry)
        whole.update(repr((entry.target, kind, mode, entry.is_archive, content)).encode())
        each.append(content)
    return Contents(digest=whole.hexdigest(), each=each)


def content_of(entry: Entry) -> bytes:
    """Return what `Contents.each` has of an entry. Raises StepFailed if it can't be read."""
    try:
        if entry.is_link:
            return os.fsencode(entry.source.readlink())
        if entry.is_folder:
            return b""
        with open_source(entry) as file:
            return file_digest(file, "sha256").digest()
    except OSError as exc:
        raise StepFailed(f"{entry.shown} can't be read: {exc.strerror}") from exc


def open_source(entry: Entry) -> BufferedReader:
    """Open a planned file; a link or pipe that has taken its place since is not followed, nor waited for."""
    try:
        return os.fdopen(os.open(entry.source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except OSError as exc:
        raise StepFailed(f"{entry.shown} can't be read: {exc.strerror}") from exc
