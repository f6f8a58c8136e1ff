"""The process that stands in a container's network: it makes the network and hands connections out of it.

It is forked, not started, for that costs a millisecond where an interpreter's start costs twenty. From the fork on it
calls the kernel and nothing else of this program. It ends with its parent, or when its end of `control` is closed.

It answers each connection to the Unix socket `door` with one byte and the descriptor of a socket that is connected to
the container's server; or with an E and why there is none. So a connection costs one exchange between processes, and a
request over it nothing.
"""

import errno
import fcntl
import gc
import os
import select
import signal
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from millrace.runtimes.syscalls import Namespace, become_single_id_root, die_with_parent, set_name, setns, unshare

__all__ = ["CONTAINER_PORT", "HANDED", "READY", "NetworkWish", "run_helper"]

CONTAINER_PORT = 8080
"""Where the container contract says that servers listen."""

READY, FAILED, HANDED = b"R", b"F", b"\0"
FIRST_PROCESS_IDS = range(300, 30_000)
"""Out of these a container's first program gets its process id."""

_SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK = 0x8914, 0x8916, 0x891C
_IFF_UP = 1
_NETLINK_ROUTE, _RTM_NEWLINK, _CREATE = 0, 16, 0x605
"""Route messages (rtnetlink(7)); request, acknowledge, create, exclusively."""

_KINDS = (b"dummy", b"bridge", b"veth")
_IFLA_IFNAME, _IFLA_LINKINFO, _IFLA_INFO_KIND = 3, 18, 1
_RTM_NEWROUTE, _RTA_DST, _RT_TABLE_MAIN, _RTPROT_STATIC, _RTN_UNREACHABLE = 24, 1, 254, 4, 7
_LINK_LOCAL = ("169.254.0.0", 16)
"""Where clouds give a machine its keys: nothing for containers."""

_BACKLOG = 128
_CONNECT_MILLISECONDS = 50
_END_OF_DESCRIPTORS = 2**31 - 1
"""Limits may have been lowered after descriptors above them were opened."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkWish:
    """What a new network is to have beside the loopback interface."""

    platform_port: int | None
    """Port of 127.0.0.1 to listen on for the platform's API; the listening socket is handed to the parent."""
    interface: tuple[str, str] | None
    """Name and address of an interface that leads nowhere, for programs that want one by name."""
    all_ids: bool = False
    """Whether all users are there, under their own numbers; only for the machine's root."""


def run_helper(control: socket.socket, door: socket.socket | None, wish: NetworkWish, parent: int) -> NoReturn:
    """Be the helper; never return. To be called in a child that was just forked."""
    try:
        stay_with_parent = die_with_parent(parent)
        stay_with_parent()
        # Before descriptors are closed: libraries of the parent, such as Arrow, look after theirs in every fork.
        mapper = _Mapper() if wish.all_ids else None
        kept = [it.fileno() for it in (control, door) if it is not None]
        _shed(kept if mapper is None else [*kept, mapper.tells_entered])
        if mapper is not None:
            _enter_with_all_ids(mapper)
            stay_with_parent()  # the change of credentials took the promise back
        else:
            user, group = os.geteuid(), os.getegid()
            unshare(Namespace.USER | Namespace.NETWORK)
            stay_with_parent()
            become_single_id_root(user, group)
        listening = _set_up(wish)
        socket.send_fds(control, [READY], [listening.fileno()] if listening is not None else [])
        if listening is not None:
            listening.close()
        _serve(control, door)
    except BaseException as exc:  # noqa: BLE001  # told to the parent, which is the only one who can do something
        try:
            control.send(FAILED + str(exc).encode())
        finally:
            os._exit(1)
    os._exit(0)


def _shed(kept: list[int]) -> None:
    """Drop what was inherited: all descriptors but these, signal handlers, the wish to collect garbage."""
    gc.disable()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    start = 3
    for descriptor in sorted(kept):
        os.closerange(start, descriptor)
        start = descriptor + 1
    os.closerange(start, _END_OF_DESCRIPTORS)
    os.setsid()
    set_name("millrace-net")


class _Mapper:
    """A child that stays outside of the namespaces that this process is about to enter, and maps all users into them.

    Only from outside may so much be mapped. A byte into `tells_entered` has it done.
    """

    def __init__(self) -> None:
        maps = [(name, _same_ids(name)) for name in ("uid_map", "gid_map")]
        entered, self.tells_entered = os.pipe()
        parent = os.getpid()
        self.child = os.fork()
        if self.child == 0:
            code = 1
            try:
                os.close(self.tells_entered)
                if os.read(entered, 1):
                    for name, text in maps:
                        _set(f"/proc/{parent}/{name}", text)
                    code = 0
            finally:
                os._exit(code)
        os.close(entered)


def _enter_with_all_ids(mapper: _Mapper) -> None:
    """Enter new namespaces, in which users are who they are, and in which no further user namespaces can be made."""
    unshare(Namespace.USER | Namespace.NETWORK)
    os.write(mapper.tells_entered, b"1")
    os.close(mapper.tells_entered)
    _, status = os.waitpid(mapper.child, 0)
    if status != 0:
        raise OSError(errno.EPERM, "its users can't be mapped into a user namespace")
    _set("/proc/sys/user/max_user_namespaces", "0")


def _same_ids(name: str) -> str:
    """Return a map of all that is mapped here to itself."""
    with open(f"/proc/self/{name}", encoding="ascii") as lines:  # noqa: PTH123  # nothing is imported here
        ranges = [line.split() for line in lines]
    return "".join(f"{first} {first} {count}\n" for first, _, count in ranges)


def _set_up(wish: NetworkWish) -> socket.socket | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        fcntl.ioctl(probe, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
        if wish.interface is not None:
            _make_interface(probe, *wish.interface)
    _close_route(*_LINK_LOCAL)
    _write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")
    if wish.platform_port is None:
        return None
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", wish.platform_port))
    listening.listen(_BACKLOG)
    return listening


def _make_interface(probe: socket.socket, name: str, address: str) -> None:
    """Make an interface that leads nowhere, of the first kind that this kernel has; without any there is none."""
    label = name.encode()
    if not any(_add_link(label, kind) for kind in _KINDS):
        return
    for request, value in ((_SIOCSIFADDR, address), (_SIOCSIFNETMASK, "255.255.255.0")):
        packed = struct.pack("16sHH4s8x", label, socket.AF_INET, 0, socket.inet_aton(value))
        fcntl.ioctl(probe, request, packed)


def _add_link(label: bytes, kind: bytes) -> bool:
    body = struct.pack("BxHiII", socket.AF_UNSPEC, 0, 0, _IFF_UP, _IFF_UP)
    body += _attribute(_IFLA_IFNAME, label + b"\0")
    body += _attribute(_IFLA_LINKINFO, _attribute(_IFLA_INFO_KIND, kind))
    return _ask_kernel(_RTM_NEWLINK, body) == 0


def _close_route(address: str, bits: int) -> None:
    """Let no packet leave for a range of addresses, whatever other routes there will be."""
    body = struct.pack("BBBBBBBBI", socket.AF_INET, bits, 0, 0, _RT_TABLE_MAIN, _RTPROT_STATIC, 0, _RTN_UNREACHABLE, 0)
    code = _ask_kernel(_RTM_NEWROUTE, body + _attribute(_RTA_DST, socket.inet_aton(address)))
    if code != 0:
        raise OSError(-code, f"no route can be closed: {os.strerror(-code)}")


def _ask_kernel(kind: int, body: bytes) -> int:
    """Send a route message and return what the kernel says: 0, or an error's number negated."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_ROUTE) as route:
        route.send(struct.pack("IHHII", 16 + len(body), kind, _CREATE, 1, 0) + body)
        (code,) = struct.unpack_from("i", route.recv(4096), 16)
    return int(code)


def _attribute(kind: int, value: bytes) -> bytes:
    """Return an attribute of a netlink message, padded."""
    return struct.pack("HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _serve(control: socket.socket, door: socket.socket | None) -> None:
    poll = select.poll()
    poll.register(control, select.POLLIN)
    if door is not None:
        door.setblocking(False)
        poll.register(door, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == control.fileno():
                message = control.recv(64)
                if not message:
                    return
                control.send(_choose_process_ids(int(message)))
            elif door is not None:
                _hand_out(door)


def _hand_out(door: socket.socket) -> None:
    try:
        caller, _ = door.accept()
    except OSError:  # gone again
        return
    with caller:
        caller.setblocking(False)
        try:
            server = _connect()
        except OSError as exc:
            answer, descriptors = b"E" + os.strerror(exc.errno or 0).encode(), []
        else:
            answer, descriptors = HANDED, [server]
        try:
            socket.send_fds(caller, [answer], [it.fileno() for it in descriptors])
        except OSError:  # the caller is gone
            pass
        finally:
            for server in descriptors:
                server.close()


def _connect() -> socket.socket:
    """Connect to the server; where its queue is full the connection goes on by itself and is handed out as it is."""
    refused: OSError | None = None
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            server = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as exc:
            refused = refused or exc
            continue
        code = server.connect_ex((host, CONTAINER_PORT))
        if code == errno.EINPROGRESS:
            poll = select.poll()
            poll.register(server, select.POLLOUT)
            code = server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if poll.poll(_CONNECT_MILLISECONDS) else 0
        if code == 0:
            return server
        server.close()
        refused = refused or OSError(code, os.strerror(code))
    assert refused is not None
    return _raise(refused)


def _raise(error: OSError) -> NoReturn:
    raise error


def _choose_process_ids(init: int) -> bytes:
    """Let process ids in a container go on from a number of its own, so that programs there differ in theirs.

    Many take the process id for unique, in names of files and in seeds; in a new namespace all would be 2. The number
    can be set only from within: a child goes there. Answers with it, or with 0 where the kernel does not allow it.
    """
    first = FIRST_PROCESS_IDS[int.from_bytes(os.urandom(4), "big") % len(FIRST_PROCESS_IDS)]
    try:
        namespace = os.open(f"/proc/{init}/ns/pid", os.O_RDONLY)
        try:
            setns(namespace, Namespace.PID)
        finally:
            os.close(namespace)
        # No fork: it runs what libraries of our parent have registered for it, and Arrow's ends a child that has no
        # descriptors of Arrow any more.
        script = f"echo {first} >/proc/sys/kernel/ns_last_pid"
        child = os.posix_spawn("/bin/sh", ["sh", "-c", f"({script}) 2>/dev/null"], {})
        os.waitpid(child, 0)
    except OSError:
        return b"0"
    return str(first + 1).encode()


def _write(path: str, text: str) -> None:
    """Write a kernel's setting, if it may be written here."""
    with suppress(OSError):
        _set(path, text)


def _set(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
