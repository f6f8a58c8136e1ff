"""Ports and signals that are only recorded."""

import pytest

from millrace.images.recorded import BadRecord, check_port, check_signal


@pytest.mark.parametrize("port", ["8080", "8080/tcp", "53/UDP", "8000-8010", "1-65535/sctp"])
def test_ports_and_ranges_of_them_are_taken(port: str) -> None:
    """With each protocol that Docker knows."""
    check_port(port)


@pytest.mark.parametrize("port", ["99999/foo", "99999", "80/foo", "80/", "0", "8010-8000", "", "http", "²", "9" * 5000])
def test_what_is_no_port_is_refused(port: str) -> None:
    """As Docker does, by what was given."""
    with pytest.raises(BadRecord, match="EXPOSE"):
        check_port(port)


@pytest.mark.parametrize("signal", ["SIGTERM", "quit", "9", "SIGRTMIN+3", "RTMAX"])
def test_signals_are_named_or_numbered(signal: str) -> None:
    """In any case, with SIG or without."""
    check_signal(signal)


@pytest.mark.parametrize("signal", ["FOO", "0", "99", "SIG", "", "²"])
def test_what_is_no_signal_is_refused(signal: str) -> None:
    """As Docker does."""
    with pytest.raises(BadRecord, match="STOPSIGNAL takes"):
        check_signal(signal)
