"""Try whether a sandbox works here, by starting one."""

import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from millrace.folder_removal import remove_folder
from millrace.runtimes.bubblewrap import SandboxPlan, bubblewrap_options
from millrace.runtimes.kernel_advice import HOW_TO_INSTALL, advice
from millrace.runtimes.proc_covers import proc_covers
from millrace.runtimes.sandbox_process import BUBBLEWRAP, prepare_child
from millrace.runtimes.sandbox_root import RootFolder, lay_out_root
from millrace.runtimes.skeleton import list_grafts, open_skeleton
from millrace.runtimes.syscalls import Namespace, become_single_id_root, unshare

__all__ = ["Finding", "probe_sandbox"]

PROBE_SECONDS = 30.0
"""How long a trial may take; it takes some 20 ms."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Whether a sandbox works here; `detail` says what it is made of, or what is wrong and what would help."""

    works: bool
    detail: str


@functools.cache
def probe_sandbox(cache: Path) -> Finding:
    """Start `true` in a sandbox whose files are on the same file system as a folder; once per process and folder."""
    if shutil.which(BUBBLEWRAP) is None:
        return Finding(works=False, detail=HOW_TO_INSTALL)
    try:
        skeleton = open_skeleton(cache)
        folder = Path(tempfile.mkdtemp(prefix="probe-", dir=cache))
    except OSError as exc:
        return Finding(works=False, detail=f"{cache} can't be used: {exc}")
    try:
        root = lay_out_root(folder, layers=(), skeleton=skeleton.folder, grafts=list_grafts())
        problem = _try(root)
    finally:
        remove_folder(folder)
    if problem is not None:
        return Finding(works=False, detail=f"the kernel refuses a sandbox: {problem}{advice()}")
    version = subprocess.run([BUBBLEWRAP, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    return Finding(works=True, detail=f"runs brought images, isolated by {version} and overlay mounts")


def _try(root: RootFolder) -> str | None:
    """Run `true` in a root; return what went wrong, None if nothing."""
    plan = SandboxPlan(
        root=root.root,
        binds=(),
        environment={},
        working_directory="/",
        host_name="probe",
        identity=(0, 0),
        proc_covers=proc_covers(),
    )
    options = os.memfd_create("bubblewrap options", os.MFD_CLOEXEC)
    refusal, refused = os.pipe()
    try:
        os.write(options, bubblewrap_options(plan))
        os.lseek(options, 0, os.SEEK_SET)
        trial = subprocess.run(
            [BUBBLEWRAP, "--args", str(options), "--", "/bin/true"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={"PATH": os.environ.get("PATH", os.defpath)},
            pass_fds=[options],
            preexec_fn=prepare_child(root, _enter(), refused, os.getpid(), None, keep=[options]),
            timeout=PROBE_SECONDS,
            check=False,
        )
        os.close(refused)
        refused = -1
        message = os.read(refusal, 4096) or trial.stderr.strip()
        if trial.returncode == 0:
            return None
        return message.decode("utf-8", "replace") or f"bubblewrap ended with {trial.returncode}"
    except (OSError, subprocess.SubprocessError) as exc:
        return str(exc)
    finally:
        for descriptor in (options, refusal, refused):
            if descriptor >= 0:
                os.close(descriptor)


def _enter() -> Callable[[], None]:
    user, group = os.geteuid(), os.getegid()

    def enter() -> None:
        unshare(Namespace.USER | Namespace.NETWORK)
        become_single_id_root(user, group)

    return enter
