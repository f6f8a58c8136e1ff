"""Have TCP serve short exchanges with a server on the same machine, and ask it what became of a request."""

import ipaddress
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial

__all__ = ["has_taken_nothing", "set_up"]

_QUICK_ACKNOWLEDGEMENT = getattr(socket, "TCP_QUICKACK", 0)
"""0 where the system knows nothing like it."""

_CONGESTION_CONTROL = getattr(socket, "TCP_CONGESTION", 0)
"""0 where the system knows nothing like it."""

_TCP_INFO = getattr(socket, "TCP_INFO", 0)
_RETRANSMITS, _BYTES_ACKNOWLEDGED = 2, slice(120, 128)
"""Where Linux tells in its `tcp_info` how often in a row it had to send the same again, and what the other end took."""


def set_up(sock: socket.socket | None) -> Callable[[], None] | None:
    """Set the options of a new connection's socket; return what acknowledges a head at once, if there is need for it.

    Many servers write head and body apart. The kernel would hold our acknowledgement of the head back for 40
    milliseconds, and with it (Nagle's algorithm) the server's the body. The option lasts for one answer.
    """
    if sock is None or sock.family == socket.AF_UNIX:
        return None
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if _CONGESTION_CONTROL and _is_here(sock):
        # Many hosts use BBR by default, which sets a timer for each piece that it sends: a tenth of the
        # processor time of large payloads, for a network that is not there. Any process may choose Reno.
        with suppress(OSError):  # a kernel that has it not uses what it has
            sock.setsockopt(socket.IPPROTO_TCP, _CONGESTION_CONTROL, b"reno")
    if not _QUICK_ACKNOWLEDGEMENT:
        return None
    return partial(sock.setsockopt, socket.IPPROTO_TCP, _QUICK_ACKNOWLEDGEMENT, 1)


def has_taken_nothing(sock: socket.socket) -> bool:
    """Return whether the other end is on this machine and has taken nothing, though it was sent more than once."""
    if not _TCP_INFO or sock.family == socket.AF_UNIX or not _is_here(sock):
        return False
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _BYTES_ACKNOWLEDGED.stop)
    except OSError:  # it is closed already
        return False
    acknowledged = int.from_bytes(info[_BYTES_ACKNOWLEDGED], sys.byteorder)
    return len(info) == _BYTES_ACKNOWLEDGED.stop and info[_RETRANSMITS] > 0 and acknowledged <= 1  # that is the SYN


def _is_here(sock: socket.socket) -> bool:
    """Return whether the other end of a connection is on this machine."""
    try:
        return ipaddress.ip_address(sock.getpeername()[0]).is_loopback
    except (OSError, ValueError):  # it is closed already; or an address with a zone
        return False
