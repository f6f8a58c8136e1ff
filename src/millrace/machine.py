"""Name this machine, and tell whether a process named by machine, number and start still runs.

A process number means something on one machine, since one boot, in one process namespace: a host name alone would let
two containers of one name take each other's processes for their own.
"""

import socket
from functools import cache
from pathlib import Path

from millrace.process_groups import process_start

__all__ = ["is_running", "machine_name"]


@cache
def machine_name() -> str:
    """Return the name under which processes of this machine are known: host, boot and process namespace."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    namespace = Path("/proc/self/ns/pid").stat().st_ino
    return f"{socket.gethostname()}/{boot}/{namespace}"


def is_running(machine: str, process_id: int, started: int) -> bool | None:
    """Return whether a process runs; None if it is another machine's, where we can't see it."""
    if machine != machine_name():
        return None
    return process_start(process_id) == started
