"""What an operator can do where the kernel or the machine has no sandbox."""

from pathlib import Path

__all__ = ["HOW_TO_INSTALL", "advice"]

HOW_TO_INSTALL = (
    "bubblewrap is not installed: `apt-get install bubblewrap` (or `dnf install bubblewrap`), or `make setup` as root"
)

_SWITCHES = (
    ("/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces=15000"),
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
    ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns=0"),
)
"""Settings of kernels that switch user namespaces off: where, with which value, and how to switch them on."""


def advice() -> str:
    """Return a remark on what helps, to be put behind what went wrong; empty where we know of nothing."""
    for path, off, command in _SWITCHES:
        if _read(path) == off:
            return f"; user namespaces are switched off here: `sysctl -w {command}` as root switches them on"
    if Path("/.dockerenv").exists() or _read("/run/systemd/container") is not None:
        return (
            "; inside of a container, that container needs the right to make user namespaces: for Docker "
            "`--security-opt seccomp=unconfined --security-opt apparmor=unconfined "
            "--security-opt systempaths=unconfined`"
        )
    return ""


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text("ascii", "replace").strip()
    except OSError:
        return None
