"""`millrace doctor`: what works here, and how to get the rest."""

import asyncio
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from millrace import __version__, built_in_images
from millrace.errors import StoreUnavailable
from millrace.runtimes.choice import RuntimeChoice
from millrace.runtimes.process import ProcessRuntime
from millrace.runtimes.sandbox_network import Egress, egress_obstacle
from millrace.runtimes.sandbox_probe import probe_sandbox
from millrace.server_addresses import read_addresses
from millrace.settings import Settings
from millrace.store.opening import open_database

__all__ = ["examine"]

_MODULES = {
    "algorithms": built_in_images.MODULES,
    "arrow": ("pyarrow",),
    "postgresql": ("psycopg",),
}
"""What each extra consists of. None is needed: who asks for what one does without it is told so."""
LOW_DISK_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class _Finding:
    works: bool
    subject: str
    detail: str
    needed: bool = True


def examine(settings: Settings) -> int:
    """Print a line for each part; return 1 if something that Millrace needs does not work."""
    findings = list(_findings(settings))
    print(f"millrace {__version__}, {platform.platform()}")
    for finding in findings:
        print(f"{'ok     ' if finding.works else 'missing'} {finding.subject}: {finding.detail}")
    return 0 if all(finding.works or not finding.needed for finding in findings) else 1


def _findings(settings: Settings) -> Iterator[_Finding]:
    enough = sys.version_info >= (3, 11)
    yield _Finding(enough, "python", platform.python_version() + ("" if enough else ": 3.11 or newer is needed"))
    report = asyncio.run(ProcessRuntime(os.environ).probe())
    yield _Finding(report.works, f"runtime {report.name}", report.detail)
    yield from _sandbox(settings)
    for extra, modules in _MODULES.items():
        absent = [name for name in modules if importlib.util.find_spec(name) is None]
        detail = f"{', '.join(absent)} not installed: pip install 'millrace[{extra}]'" if absent else "all installed"
        yield _Finding(not absent, f"extra {extra}", detail, needed=False)
    yield _data_dir(settings)
    if settings.database_url:
        yield _database(settings)
    yield _attributes(settings)
    addresses = [address.url for address in read_addresses(settings)]
    detail = f"runs on {' and '.join(addresses)}" if addresses else "none runs on this data directory"
    yield _Finding(True, "server", detail)


def _sandbox(settings: Settings) -> Iterator[_Finding]:
    """Tell whether brought images run; all else works without."""
    if settings.runtime == RuntimeChoice.PROCESS.value:
        yield _Finding(True, "runtime sandbox", "switched off by MILLRACE_RUNTIME=process; brought images are refused")
        return
    finding = probe_sandbox(settings.sandbox_dir)
    needed = settings.runtime == RuntimeChoice.SANDBOX.value
    yield _Finding(finding.works, "runtime sandbox", finding.detail, needed=needed)
    if settings.sandbox_egress == Egress.NONE.value:
        yield _Finding(True, "sandbox egress", "switched off by MILLRACE_SANDBOX_EGRESS=none")
        return
    obstacle = egress_obstacle()
    detail = "slirp4netns carries connections of containers to other networks"
    yield _Finding(obstacle is None, "sandbox egress", obstacle or detail, needed=False)


def _data_dir(settings: Settings) -> _Finding:
    folder = settings.data_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as exc:
        return _Finding(False, "data directory", f"{folder}: {exc.strerror}; choose another with --data-dir")
    if not os.access(folder, os.W_OK):
        return _Finding(False, "data directory", f"{folder} can't be written; choose another with --data-dir")
    advice = "" if free > LOW_DISK_BYTES else ": too little, make room or choose another with --data-dir"
    return _Finding(free > LOW_DISK_BYTES, "data directory", f"{folder}, {free / 1e9:.1f} GB free{advice}")


def _database(settings: Settings) -> _Finding:
    """Tell whether the PostgreSQL database answers, by its host and name only."""
    try:
        open_database(settings).close()
    except StoreUnavailable as exc:
        return _Finding(False, "state", str(exc).strip())
    return _Finding(True, "state", "the PostgreSQL database answers, its tables are up to date")


def _attributes(settings: Settings) -> _Finding:
    """Tell where objects' facts are kept; both ways work."""
    probe = settings.data_dir / ".attribute-probe"
    try:
        probe.touch()
    except OSError as exc:
        return _Finding(False, "object facts", f"can't write into {settings.data_dir}: {exc.strerror}")
    try:
        os.setxattr(probe, "user.millrace", b"1")
        detail = "extended attributes: facts change together with the object"
    except OSError:
        detail = "this file system has no extended attributes: facts are kept in sidecar files"
    finally:
        probe.unlink(missing_ok=True)
    return _Finding(True, "object facts", detail)
