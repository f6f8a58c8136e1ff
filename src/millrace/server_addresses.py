"""Note where the servers of a data directory listen, and tell which of them run.

A note holds as long as its server's lock, which the kernel drops with the process. With SQLite one server may run on a
data directory: `run/server.lock` is its own, `run/server.json` its note. With PostgreSQL several may: each has a lock
and a note below `run/servers`, and they share `run/server.lock`, so that a server with a state of its own stays out.
"""

import fcntl
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from millrace.errors import InfrastructureError
from millrace.settings import Settings

__all__ = [
    "DataDirInUse",
    "ServerAddress",
    "http_url",
    "note_address",
    "reachable_host",
    "read_address",
    "read_addresses",
    "server_place",
]

ADDRESS_FILE = "server.json"
LOCK_FILE = "server.lock"
SHARED_FOLDER = "servers"


_EVERY_ADDRESS = frozenset({"0.0.0.0", "::"})
_LOOPBACK = "127.0.0.1"


class DataDirInUse(InfrastructureError):
    """Another server runs on this data directory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerAddress:
    """Where a server of a data directory listens."""

    url: str
    process_id: int
    proxy_url: str
    proxy_ca: str


def reachable_host(host: str) -> str:
    """Return where programs of this machine reach a server that listens on a host: no program connects to "any"."""
    return _LOOPBACK if host in _EVERY_ADDRESS else host


def http_url(host: str, port: int) -> str:
    """Return the URL of a server, an IPv6 address in brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def server_place(settings: Settings) -> Iterator[Path]:
    """Keep a server's place on the data directory while the block runs; yield where its address is to be noted.

    Raises:
        DataDirInUse: Another server runs on it that can't share it.
    """
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    is_shared = bool(settings.database_url)
    with (settings.run_dir / LOCK_FILE).open("wb") as lock:
        if not _try_lock(lock, fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX):
            raise DataDirInUse(_conflict(settings))
        if not is_shared:
            yield settings.run_dir / ADDRESS_FILE
            return
        with _own_lock(settings.run_dir / SHARED_FOLDER) as own:
            yield own.with_suffix(".json")


def _conflict(settings: Settings) -> str:
    if settings.database_url or list((settings.run_dir / SHARED_FOLDER).glob("*.lock")):
        return f"a server with another state runs on {settings.data_dir} already; give this one a --data-dir of its own"
    return f"a server runs on {settings.data_dir} already"


@contextmanager
def _own_lock(folder: Path) -> Iterator[Path]:
    """Hold a lock of this server's own; the file appears only when it is locked, so that none that is seen is dead."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{os.getpid()}-{uuid.uuid4().hex[:8]}.lock"
    draft = path.with_suffix(".tmp")
    with draft.open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        draft.rename(path)
        try:
            yield path
        finally:
            for left in (path.with_suffix(".json"), path):
                left.unlink(missing_ok=True)


def note_address(path: Path, address: ServerAddress) -> None:
    """Write a server's address into its place."""
    draft = path.with_suffix(".tmp")
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(asdict(address)), "utf-8")
    draft.replace(path)


def read_address(settings: Settings) -> ServerAddress | None:
    """Return the address of a server that runs on the data directory, or None if none does."""
    return next(iter(read_addresses(settings)), None)


def read_addresses(settings: Settings) -> list[ServerAddress]:
    """Return the addresses of all servers that run on the data directory; notes of dead ones are removed."""
    found = []
    if _is_held(settings.run_dir / LOCK_FILE):
        found.append(_read_note(settings.run_dir / ADDRESS_FILE))
    for lock in sorted((settings.run_dir / SHARED_FOLDER).glob("*.lock")):
        if _is_held(lock):
            found.append(_read_note(lock.with_suffix(".json")))
        else:
            for left in (lock.with_suffix(".json"), lock):
                left.unlink(missing_ok=True)
    return [address for address in found if address is not None]


def _is_held(path: Path) -> bool:
    """Whether a living process has the lock to itself."""
    try:
        with path.open("rb") as lock:
            return not _try_lock(lock, fcntl.LOCK_SH)
    except FileNotFoundError:
        return False


def _try_lock(lock: IO[bytes], kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_note(path: Path) -> ServerAddress | None:
    """Return the address in a note; None if the server does not listen yet."""
    with suppress(FileNotFoundError, ValueError, TypeError):
        return ServerAddress(**json.loads(path.read_text("utf-8")))
    return None
