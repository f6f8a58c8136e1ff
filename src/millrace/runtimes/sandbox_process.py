"""Start bubblewrap over a root that only it and its children see mounted."""

import asyncio
import os
import resource
import shutil
from collections.abc import Callable, Sequence

from millrace.errors import RuntimeUnavailable
from millrace.runtimes.bubblewrap import SandboxPlan, bubblewrap_options
from millrace.runtimes.kernel_advice import HOW_TO_INSTALL, advice
from millrace.runtimes.lent_folders import LentFolder
from millrace.runtimes.lines import LineProtocol
from millrace.runtimes.sandbox_root import RootFolder
from millrace.runtimes.syscalls import (
    MountFlag,
    Namespace,
    die_with_parent,
    hand_on_only,
    make_read_only,
    mount,
    unshare,
)

__all__ = ["BUBBLEWRAP", "prepare_child", "start_bubblewrap"]

BUBBLEWRAP = "bwrap"
MAX_REFUSAL_BYTES = 4096
_UMASK = 0o022
_DEVICES = "/dev"


async def start_bubblewrap(
    plan: SandboxPlan,
    command: Sequence[str],
    root: RootFolder,
    *,
    enter: Callable[[], None],
    lines: LineProtocol,
    max_processes: int | None = None,
    lent: Sequence[LentFolder] = (),
) -> asyncio.SubprocessTransport:
    """Fork, enter namespaces, mount the root and become bubblewrap; the program's output goes to `lines`.

    Args:
        enter: What the forked child does first: it must end up with the right to mount in a user namespace of its own,
            or be the machine's root.
        lent: Folders of `plan.binds`, or above them, that the container is to see as lent.

    Raises:
        RuntimeUnavailable: The kernel refuses, or bubblewrap is not installed.
    """
    bubblewrap = shutil.which(BUBBLEWRAP)
    if bubblewrap is None:
        raise RuntimeUnavailable(HOW_TO_INSTALL)
    options = os.memfd_create("bubblewrap options", os.MFD_CLOEXEC)
    refusal, refused = os.pipe()
    descriptors = [it for it in (options, plan.info_descriptor, plan.block_descriptor) if it is not None]
    try:
        os.write(options, bubblewrap_options(plan))
        os.lseek(options, 0, os.SEEK_SET)
        try:
            transport, _ = await asyncio.get_running_loop().subprocess_exec(
                lambda: lines,
                *(bubblewrap, "--args", str(options), "--", *command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env={},  # the container's programs can read it: it is that of their process 1
                start_new_session=True,
                pass_fds=descriptors,
                preexec_fn=prepare_child(root, enter, refused, os.getpid(), max_processes, keep=descriptors, lent=lent),
            )
        except (OSError, ValueError) as exc:
            raise RuntimeUnavailable(f"can't start {BUBBLEWRAP}: {exc}") from exc
        os.set_blocking(refusal, False)
        os.close(refused)
        refused = -1
        try:
            message = os.read(refusal, MAX_REFUSAL_BYTES)
        except BlockingIOError:  # bubblewrap has not been reached yet, nor has anything failed
            message = b""
        if message:
            transport.close()
            raise RuntimeUnavailable(f"the kernel refuses a sandbox: {message.decode('utf-8', 'replace')}{advice()}")
        return transport
    finally:
        for descriptor in (options, refusal, refused):
            if descriptor >= 0:
                os.close(descriptor)


def prepare_child(
    root: RootFolder,
    enter: Callable[[], None],
    refused: int,
    parent: int,
    max_processes: int | None,
    *,
    keep: Sequence[int],
    lent: Sequence[LentFolder] = (),
) -> Callable[[], None]:
    """Return what a forked child does before it becomes bubblewrap; it tells `refused` in words why it can't.

    Args:
        lent: Folders that bubblewrap is to see as others than they are.
        keep: Descriptors that bubblewrap gets beside the standard ones; it closes them before the program starts.
    """
    stay_with_parent = die_with_parent(parent)

    def prepare() -> None:
        stay_with_parent()
        try:
            os.umask(_UMASK)
            enter()
            unshare(Namespace.MOUNT)
            mount("none", "/", "", MountFlag.RECURSIVE | MountFlag.PRIVATE)
            root.mount()
            for folder in lent:
                folder.mount()
            # Containers see the machine's own devices, which the machine's root in a container could give away.
            make_read_only(_DEVICES)
            os.chdir("/")
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            if max_processes is not None:
                resource.setrlimit(resource.RLIMIT_NPROC, (max_processes, max_processes))
        except OSError as exc:
            os.write(refused, str(exc.strerror).encode())
            os._exit(1)
        hand_on_only(keep)
        stay_with_parent()  # entering the namespaces took the first promise back

    return prepare
