"""The command line of bubblewrap. Pure.

Options go through a pipe (`--args`), never on the command line or in the environment: those of bubblewrap can be read
by everybody on the machine and by the container's programs, and hold keys and paths of the host; and a variable such as
LD_PRELOAD would act on bubblewrap itself, outside of the sandbox.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from millrace.runtimes.proc_covers import Cover, ProcCover

__all__ = ["DEFAULT_PATH", "Bind", "SandboxPlan", "bubblewrap_options"]

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs are looked for if the image does not say; Docker's."""

_CAPABILITIES = (
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "NET_RAW"),
    *("SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
)
"""What Docker leaves to a container's root, without MKNOD: a device in a layer could be opened on the machine."""


_SYSTEM = ("cpu", "node")
"""Parts of /sys that tell how many processors there are; OpenMP and the JVM look."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bind:
    """A folder or file of the host that is seen in the container."""

    source: Path
    target: str
    writable: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class SandboxPlan:
    """All that is told to bubblewrap about one container."""

    root: Path
    """Mounted root; everything in it may be written."""
    binds: Sequence[Bind]
    environment: Mapping[str, str]
    working_directory: str
    host_name: str
    identity: tuple[int, int] | None
    """User and group that the one user of this namespace is in the container; None to stay who we are."""
    proc_covers: Sequence[ProcCover]
    info_descriptor: int | None = None
    """Gets a JSON document with the process id of the container's first process."""
    block_descriptor: int | None = None
    """The program starts once there is something to read."""

    @property
    def targets(self) -> Sequence[str]:
        """What is mounted on, in the container."""
        return (
            "/proc",
            "/dev",
            *(f"/sys/devices/system/{name}" for name in _SYSTEM),
            *(it.target for it in self.binds),
        )


def bubblewrap_options(plan: SandboxPlan) -> bytes:
    """Return the options as `--args` reads them: each ended by NUL.

    Raises:
        ValueError: A variable or path has a NUL.
    """
    options = ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    if plan.identity is not None:
        user, group = plan.identity
        options += ["--unshare-user", "--uid", str(user), "--gid", str(group), "--disable-userns"]
    options += ["--hostname", plan.host_name, "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    is_root = plan.identity is None or plan.identity[0] == 0
    for capability in _CAPABILITIES if is_root else ():
        options += ["--cap-add", f"CAP_{capability}"]
    options += ["--bind", str(plan.root), "/", "--proc", "/proc", "--dev", "/dev"]
    for it in plan.proc_covers:
        options += _cover(it)
    for name in _SYSTEM:
        options += ["--ro-bind-try", f"/sys/devices/system/{name}", f"/sys/devices/system/{name}"]
    for bind in plan.binds:
        options += ["--bind" if bind.writable else "--ro-bind", str(bind.source), bind.target]
    options += ["--chdir", plan.working_directory, "--clearenv"]
    for name, value in plan.environment.items():
        options += ["--setenv", name, value]
    if plan.info_descriptor is not None:
        options += ["--info-fd", str(plan.info_descriptor)]
    if plan.block_descriptor is not None:
        options += ["--block-fd", str(plan.block_descriptor)]
    for option in options:
        if "\0" in option:
            raise ValueError(f"a container's variables and paths must not contain NUL, got {option!r}")
    return b"".join(option.encode("utf-8", "surrogateescape") + b"\0" for option in options)


def _cover(entry: ProcCover) -> list[str]:
    match entry.cover:
        case Cover.READ_ONLY:
            return ["--ro-bind", entry.path, entry.path]
        case Cover.EMPTY_FILE:
            return ["--dev-bind", "/dev/null", entry.path]
        case Cover.EMPTY_FOLDER:
            return ["--tmpfs", entry.path, "--remount-ro", entry.path]
