"""Calls of the Linux kernel for namespaces and mounts, which Python's library does not have.

All of it is fit for the short time between fork and exec: nothing is imported, logged or locked here when it is called.
"""

import ctypes
import os
import signal
import struct
from collections.abc import Callable, Collection
from contextlib import suppress
from enum import IntFlag

__all__ = [
    "MountFlag",
    "Namespace",
    "become_single_id_root",
    "clone_mount",
    "die_with_parent",
    "hand_on_only",
    "make_read_only",
    "map_ids_of_mount",
    "mount",
    "place_mount",
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
_CLOSE_RANGE, _CLOSE_RANGE_CLOEXEC = 436, 4
_OPEN_TREE, _OPEN_TREE_CLONE, _MOVE_MOUNT, _MOVE_MOUNT_F_EMPTY_PATH = 428, 1, 429, 4
_MOUNT_SETATTR, _MOUNT_ATTR_RDONLY, _MOUNT_ATTR_IDMAP = 442, 1, 0x00100000
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
"""Calls that the C library of older systems has no functions for; their numbers are the same on all machines."""

_FIRST_INHERITED, _LAST_DESCRIPTOR = 3, 2**32 - 1

_libc = ctypes.CDLL(None, use_errno=True)
_mount = _libc.mount
_mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_prctl = _libc.prctl
_prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)
_unshare = _libc.unshare
_setns = _libc.setns
_syscall = _libc.syscall


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


def make_read_only(target: str) -> None:
    """Make a mount and all below it read-only, in a mount namespace of one's own; raises OSError.

    Devices there can still be opened for writing; who owns them and who may open them can't be changed any more.
    """
    attributes = struct.pack("=QQQQ", _MOUNT_ATTR_RDONLY, 0, 0, 0)
    code = _syscall(
        _MOUNT_SETATTR, -1, os.fsencode(target), _AT_RECURSIVE, attributes, ctypes.c_size_t(len(attributes))
    )
    _check(code, f"mount_setattr({target}, read-only), which Linux 5.12 has")


def clone_mount(source: str) -> int:
    """Return a descriptor of a mount of a folder and all below it, that has no place yet; raises OSError."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_RECURSIVE
    descriptor: int = _syscall(_OPEN_TREE, _AT_FDCWD, os.fsencode(source), ctypes.c_uint(flags))
    _check(min(descriptor, 0), f"open_tree({source})")
    return descriptor


def map_ids_of_mount(descriptor: int, ids: int) -> None:
    """Let a mount without a place show owners on disk as a user namespace maps its ids; raises OSError."""
    attributes = struct.pack("=QQQQ", _MOUNT_ATTR_IDMAP, 0, 0, ids)
    flags = _AT_EMPTY_PATH | _AT_RECURSIVE
    code = _syscall(_MOUNT_SETATTR, descriptor, b"", flags, attributes, ctypes.c_size_t(len(attributes)))
    _check(code, "mount_setattr(ids)")


def place_mount(descriptor: int, target: str) -> None:
    """Give a mount its place; raises OSError."""
    code = _syscall(_MOVE_MOUNT, descriptor, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH)
    _check(code, f"move_mount({target})")


def hand_on_only(keep: Collection[int] = ()) -> None:
    """Let the program that this process becomes have the standard descriptors and these, whatever else is open.

    They are closed by becoming it, not now: between fork and exec some are still needed. To be called in a forked
    child; event loops differ in what they close there.
    """
    code = _syscall(_CLOSE_RANGE, _FIRST_INHERITED, ctypes.c_uint(_LAST_DESCRIPTOR), _CLOSE_RANGE_CLOEXEC)
    if code != 0:  # before Linux 5.11
        for descriptor in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208  # paths are no use here
            if descriptor >= _FIRST_INHERITED:
                with suppress(OSError):  # that of the listing
                    os.set_inheritable(descriptor, False)
    for descriptor in keep:
        os.set_inheritable(descriptor, True)


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
