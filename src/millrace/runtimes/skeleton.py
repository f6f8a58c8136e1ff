"""The lowest layer of every container: a small root made from this machine's, without anything of its users.

It has the folders that a root needs, the links of a merged /usr, and copies of what everybody may read in /etc. Large
parts of the machine (GRAFTS) are no part of it: they are mounted over it where they are. It is made once and kept until
something in /etc changes; a lock that a process holds for its life keeps it as long as containers use it.
"""

import fcntl
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

__all__ = ["RESERVED_IN_OPT_ML", "Skeleton", "list_grafts", "open_skeleton"]

FORMAT = 2
"""To be counted up when a skeleton gets other contents from the same machine."""

MAX_ETC_FILE_BYTES = 8 * 1024 * 1024

FIRST_PERSON = 1000
NOBODY = 65534
"""Numbers of accounts: those below the first person's are the system's, and this one."""

RESERVED_IN_OPT_ML = (
    *("additional-model-data-sources", "checkpoints", "code", "config", "input", "model", "models", "output"),
    "processing",
)

_FOLDERS = {
    **dict.fromkeys(("tmp", "var/tmp", "run/lock"), 0o1777),
    "root": 0o700,
    **dict.fromkeys(("dev", "home", "media", "mnt", "opt", "proc", "run", "srv"), 0o755),
    **dict.fromkeys(("sys/devices/system/cpu", "sys/devices/system/node"), 0o755),
    **dict.fromkeys(("var/cache", "var/lib", "var/local", "var/log", "var/mail", "var/opt", "var/spool"), 0o755),
    **{f"opt/ml/{name}": 0o755 for name in RESERVED_IN_OPT_ML},
}
_GRAFTED = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "var/lib/dpkg")
_MADE_FOR_EACH = ("hostname", "hosts", "resolv.conf")
"""Files of /etc that every container has its own of."""

_NOT_COPIED = frozenset(
    (*_MADE_FOR_EACH, "mtab", "shadow", "gshadow", "shadow-", "gshadow-", "machine-id", ".pwd.lock")
)
_WATCHED = ("", "passwd", "group", "ld.so.cache", "ssl/certs", "alternatives", "apt", "apt/sources.list.d", "pip.conf")
"""What of /etc is looked at to tell whether a skeleton is still like the machine."""

_VAR_DEPTH = 2
"""Levels of folders below /var/lib and its like that programs of the machine's packages expect to be there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Skeleton:
    """A finished skeleton, kept as long as this process lives."""

    folder: Path
    interpreter: Path | None
    """Folder of this interpreter if it is none of the machine's own; containers see it read-only at its own place."""


_open: dict[Path, tuple[Skeleton, int]] = {}


def list_grafts() -> list[str]:
    """Return the folders of the machine that containers see where they are, relative to its root."""
    return [name for name in _GRAFTED if not Path("/", name).is_symlink() and Path("/", name).is_dir()]


def open_skeleton(cache: Path) -> Skeleton:
    """Return the machine's skeleton as it is now, from the cache or made anew; blocks for some 100 ms in that case."""
    folder = cache / f"skeleton-{_key()}"
    opened = _open.get(folder)
    if opened is not None and folder.is_dir():
        return opened[0]
    cache.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_SH)
    if not folder.is_dir():
        _make(cache, folder)
        _drop_unused(cache, keep=folder)
    skeleton = Skeleton(folder=folder, interpreter=_interpreter())
    _open[folder] = (skeleton, lock)  # never closed: the lock ends with the process
    return skeleton


def _interpreter() -> Path | None:
    prefix = Path(sys.base_prefix).resolve()
    grafts = [Path("/", name).resolve() for name in list_grafts()]
    return None if any(prefix.is_relative_to(graft) for graft in grafts) else prefix


def _key() -> str:
    facts = [str(FORMAT), str(_interpreter()), *list_grafts()]
    for name in _WATCHED:
        with suppress(OSError):
            status = Path("/etc", name).stat()
            facts.append(f"{name} {status.st_mtime_ns} {status.st_size}")
    return sha256("\n".join(facts).encode()).hexdigest()[:16]


def _make(cache: Path, folder: Path) -> None:
    draft = Path(tempfile.mkdtemp(prefix="draft-", dir=cache))
    draft.chmod(0o755)
    for name, mode in _FOLDERS.items():
        (draft / name).mkdir(parents=True, exist_ok=True)
        (draft / name).chmod(mode)
    for name in (*_GRAFTED, "var/run", "var/lock"):
        source = Path("/", name)
        if source.is_symlink():
            (draft / name).symlink_to(source.readlink())
        elif name in _GRAFTED and source.is_dir():
            (draft / name).mkdir(parents=True, exist_ok=True)
    for name in ("var/cache", "var/lib", "var/log", "var/spool"):
        _copy_folders(Path("/", name), draft / name, _VAR_DEPTH)
    _copy_readable(Path("/etc"), draft / "etc", top=True)
    for name in (*_MADE_FOR_EACH, "machine-id"):
        (draft / "etc" / name).touch()
    (draft / "etc" / "mtab").symlink_to("../proc/self/mounts")
    for name in ("passwd", "group"):
        _keep_system_accounts(draft / "etc" / name)
    _write_shadow(draft / "etc")
    interpreter = _interpreter()
    if interpreter is not None:
        _open_way(draft, interpreter)
    try:
        draft.rename(folder)
    except OSError:  # somebody else has made it meanwhile
        shutil.rmtree(draft)
        if not folder.is_dir():
            raise


def _open_way(draft: Path, interpreter: Path) -> None:
    """Make the folders down to the interpreter so that every user of an image gets there, also below /root."""
    place = draft
    for part in interpreter.relative_to("/").parts:
        place /= part
        place.mkdir(exist_ok=True)
        place.chmod(stat.S_IMODE(place.stat().st_mode) | 0o111)


def _copy_folders(source: Path, target: Path, depth: int) -> None:
    """Make the folders that root has below one, without what is in them."""
    with suppress(OSError), os.scandir(source) as entries:
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != 0 or not status.st_mode & stat.S_IROTH:
                continue
            (target / entry.name).mkdir(exist_ok=True)
            if depth > 1:
                _copy_folders(Path(entry.path), target / entry.name, depth - 1)


def _copy_readable(source: Path, target: Path, *, top: bool = False) -> None:
    """Copy the files that everybody may read, and links as they are."""
    target.mkdir(exist_ok=True)
    for entry in _readable_entries(source):
        if top and entry.name in _NOT_COPIED:
            continue
        copy = target / entry.name
        if entry.is_symlink():
            copy.symlink_to(Path(entry.path).readlink())
        elif entry.is_dir():
            _copy_readable(Path(entry.path), copy)
        elif entry.stat().st_size <= MAX_ETC_FILE_BYTES:
            with suppress(OSError):
                shutil.copy(entry.path, copy)


def _readable_entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            mode = entry.stat(follow_symlinks=False).st_mode
            readable = mode & stat.S_IROTH and (stat.S_ISREG(mode) or (stat.S_ISDIR(mode) and mode & stat.S_IXOTH))
            if readable or stat.S_ISLNK(mode):
                yield entry


def _keep_system_accounts(file: Path) -> None:
    """Drop the people of this machine: their names are nobody's business, and their numbers are free for images."""
    with suppress(OSError):
        lines = file.read_text("utf-8", "replace").splitlines(keepends=True)
        file.write_text("".join(line for line in lines if _is_system_account(line)), "utf-8")


def _is_system_account(line: str) -> bool:
    fields = line.split(":")
    return len(fields) > 2 and fields[2].isdigit() and (int(fields[2]) < FIRST_PERSON or int(fields[2]) == NOBODY)


def _write_shadow(etc: Path) -> None:
    """Give all users locked passwords, so that programs which add users find the files they expect."""
    for source, target, line in (("passwd", "shadow", "{}:*:19000:0:99999:7:::\n"), ("group", "gshadow", "{}:*::\n")):
        with suppress(OSError):
            names = [text.partition(":")[0] for text in (etc / source).read_text("utf-8", "replace").splitlines()]
            (etc / target).write_text("".join(line.format(name) for name in names if name))
            (etc / target).chmod(0o640)


def _drop_unused(cache: Path, *, keep: Path) -> None:
    """Remove what earlier states of the machine left, where no process holds it, and drafts of killed processes."""
    for lock_file in cache.glob("skeleton-*.lock"):
        folder = lock_file.with_suffix("")
        if folder == keep:
            continue
        with lock_file.open("rb") as lock, suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
