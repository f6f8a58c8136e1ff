"""Calls of the Linux kernel for namespaces and mounts, which Python's library does not have.

All of it is fit for the short time between fork and exec: nothing is imported, logged or locked here when it is called.
"""

import ctypes
import os
import signal
from collections.abc import Callable
from enum import IntFlag

__all__ = [
    "MountFlag",
    "Namespace",
    "become_single_id_root",
    "die_with_parent",
    "mount",
    "set_name",
    "setns",
    "unshare",
]


class Namespace(IntFlag):
    """Kinds of namespaces (sched.h)."""

    MOUNT = 0x00020000
    USER = 0x10000000
    PID = 0x20000000
    NETWORK = 0x40000000


class MountFlag(IntFlag):
    """Flags of mount(2)."""

    NONE = 0
    NODEV = 4
    RECURSIVE = 0x4000
    PRIVATE = 1 << 18


_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15

_libc = ctypes.CDLL(None, use_errno=True)
_mount = _libc.mount
_mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_prctl = _libc.prctl
_prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)
_unshare = _libc.unshare
_setns = _libc.setns


def unshare(kinds: Namespace) -> None:
    """Put this process (its future children, for PID) into new namespaces.

    Raises:
        OSError: The kernel refuses.
    """
    _check(_unshare(int(kinds)), f"unshare({kinds!r})")


def setns(descriptor: int, kind: Namespace) -> None:
    """Put this process into the namespace that a descriptor of /proc/PID/ns stands for; raises OSError."""
    _check(_setns(descriptor, int(kind)), f"setns({kind!r})")


def mount(source: str, target: str, kind: str, flags: MountFlag, options: str = "") -> None:
    """Mount a file system; raises OSError, whose text names type, target and options."""
    code = _mount(source.encode(), os.fsencode(target), kind.encode(), int(flags), options.encode())
    _check(code, f"mount {kind} on {target} ({options})")


def set_name(name: str) -> None:
    """Name this process for tools such as ps and top."""
    text = ctypes.create_string_buffer(name.encode()[:15])
    _prctl(_PR_SET_NAME, ctypes.addressof(text), 0, 0, 0)


def die_with_parent(parent: int) -> Callable[[], None]:
    """Return what a forked child calls: it asks the kernel for SIGKILL when its parent ends.

    To be called again after a change of credentials, such as entering a user namespace: that clears it.
    """

    def prepare() -> None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # the parent ended between fork and prctl
            os._exit(137)

    return prepare


def become_single_id_root(user: int, group: int) -> None:
    """In a new user namespace, be root there, standing for one user and group outside; raises OSError."""
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        descriptor = os.open(f"/proc/self/{name}", os.O_WRONLY)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)


def _check(code: int, call: str) -> None:
    if code != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
