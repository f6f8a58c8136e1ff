"""Ports that programs bind a moment after they were chosen."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from millrace.runtimes import free_ports
from millrace.runtimes.free_ports import reserve_port

GIVEN = Path("/proc/sys/net/ipv4/ip_local_port_range")


def test_a_port_is_none_that_the_system_gives() -> None:
    """No connection that goes out can take it before the program binds it."""
    first, last = map(int, GIVEN.read_text().split())
    port = reserve_port()
    try:
        assert not first <= port.number <= last
    finally:
        port.release()


def test_others_are_not_given_a_reserved_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither this process nor another one is given it until it is released, though nobody has bound it."""
    given = tmp_path / "range"
    given.write_text(f"{free_ports.LOWEST + 2} 65535")
    monkeypatch.setattr(free_ports, "FEWEST", 2)
    first, second = reserve_port(given_by_system=given), reserve_port(given_by_system=given)
    both = {free_ports.LOWEST, free_ports.LOWEST + 1}
    try:
        assert {first.number, second.number} == both
        code = (
            "from pathlib import Path; from millrace.runtimes import free_ports; free_ports.FEWEST = 2; "
            f"print(free_ports.reserve_port(given_by_system=Path({str(given)!r})).number)"
        )
        other = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        assert int(other.stdout) not in both, "the system was asked for another one"
    finally:
        first.release()
        second.release()
    again = reserve_port(given_by_system=given)
    assert again.number in both
    again.release()


def test_a_port_that_is_bound_is_not_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that nobody reserved a port for may have it."""
    given = tmp_path / "range"
    given.write_text(f"{free_ports.LOWEST + 4} 65535")
    monkeypatch.setattr(free_ports, "FEWEST", 4)
    with socket.socket() as taken:
        taken.bind((free_ports.HOST, free_ports.LOWEST + 3))
        ports = [reserve_port(given_by_system=given) for _ in range(3)]
        assert taken.getsockname()[1] not in {port.number for port in ports}
        for port in ports:
            port.release()


@pytest.mark.parametrize("text", ["", "no numbers", "1024 65535"])
def test_where_no_range_is_known_the_system_is_asked(text: str, tmp_path: Path) -> None:
    """There is always a port that is free now."""
    given = tmp_path / "range"
    given.write_text(text)
    port = reserve_port(given_by_system=given)
    with socket.socket() as program:
        program.bind((free_ports.HOST, port.number))
