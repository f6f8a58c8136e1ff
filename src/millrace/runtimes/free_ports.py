"""Choose ports for programs that bind them a moment later, so that nobody else takes them meanwhile.

Theory. A port that the system gives to whoever asks for any may be given to the next one, too: to another agent that
looks for a free port, or to a connection that goes out. So ports are chosen outside of the range that the system gives
from, and each is reserved among the agents of a machine by a name in Linux's abstract space of Unix sockets, which is
free again when its holder ends, however it ends. What is left is a program of somebody else that binds just that port
at just that moment: the container then fails to bind, and says so.
"""

import random
import socket
from pathlib import Path

__all__ = ["ReservedPort", "reserve_again", "reserve_port"]

HOST = "127.0.0.1"
LOWEST = 20_000
"""Below are ports that services are known by."""
HIGHEST = 65_535
FEWEST = 1_000
"""A smaller range is not chosen from: too many would be taken."""
TRIALS = 200
"""Ports that are tried before the system is asked for any."""

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


class ReservedPort:
    """A port that no other agent of this machine is given until it is released."""

    def __init__(self, number: int, name: socket.socket | None) -> None:
        self.number = number
        self._name = name

    def release(self) -> None:
        """Let others have it."""
        if self._name is not None:
            self._name.close()
            self._name = None


def reserve_port(*, given_by_system: Path = _RANGE) -> ReservedPort:
    """Return a port of the loopback interface that is free, and that others will not be given.

    Args:
        given_by_system: Tells the first and last port that the system gives to whoever asks for any.

    Raises:
        OSError: There is none.
    """
    ports = _choice(given_by_system)
    for _ in range(TRIALS if ports else 0):
        port = random.choice(ports)
        reserved = _reserve(port)
        if reserved is None:
            continue
        if _is_free(port):
            return reserved
        reserved.release()
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return ReservedPort(probe.getsockname()[1], None)


def reserve_again(number: int) -> ReservedPort:
    """Return a port that was reserved before, for another program that is to listen there."""
    return _reserve(number) or ReservedPort(number, None)


def _choice(given_by_system: Path) -> range:
    """Return the ports to choose from: below the system's, else above them; none where it can't be known."""
    try:
        first, last = map(int, given_by_system.read_text("ascii").split())
    except (OSError, ValueError):
        return range(0)
    below, above = range(LOWEST, first), range(last + 1, HIGHEST + 1)
    return next((ports for ports in (below, above) if len(ports) >= FEWEST), range(0))


def _reserve(port: int) -> ReservedPort | None:
    name = socket.socket(socket.AF_UNIX)
    try:
        name.bind(f"\0millrace-port-{port}")
    except OSError:
        name.close()
        return None
    return ReservedPort(port, name)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
