"""Logs in files survive crashes and people who look at them."""

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from millrace.ports.logs import LogEvent
from millrace.store.log_files import LogFiles, decode_line, encode_line


@given(st.integers(0, 2**53), st.text())
def test_a_line_is_an_event(time: int, text: str) -> None:
    """Encoding then decoding gives the event back, and a line has one newline, at its end."""
    text = text.encode("utf-8", "replace").decode()
    line = encode_line(LogEvent(time, text))
    assert line.count(b"\n") == 1
    assert decode_line(line) == LogEvent(time, text)


def test_a_torn_line_waits_for_its_end(tmp_path: Path) -> None:
    """A line without its end is not read; the next append ends it, and reads as an event of its own."""
    logs = LogFiles(tmp_path)
    logs.append("/g", "s", [LogEvent(1, "whole")])
    path = tmp_path / "%2Fg" / "s.log"
    with path.open("ab") as file:
        file.write(b"2\ttor")
    page = logs.read("/g", "s")
    assert [event.message for event in page.events] == ["whole"]
    assert [event.message for event in logs.read_back("/g", "s").events] == ["whole"]
    assert logs.list_streams("/g")[0].last_event_ms == 1
    logs.append("/g", "s", [LogEvent(3, "next")])
    rest = logs.read("/g", "s", offset=page.end_offset)
    assert [event.message for event in rest.events] == ["tor", "next"]


def test_a_line_torn_within_its_time_is_passed_over(tmp_path: Path) -> None:
    """What is no event, as after a crash in the middle of a number, does not disturb the rest."""
    logs = LogFiles(tmp_path)
    logs.append("/g", "s", [LogEvent(1, "one")])
    with (tmp_path / "%2Fg" / "s.log").open("ab") as file:
        file.write(b"17")
    logs.append("/g", "s", [LogEvent(2, "two")])
    assert [event.message for event in logs.read("/g", "s").events] == ["one", "two"]


def test_pages_cross_blocks(tmp_path: Path) -> None:
    """Lines that straddle the blocks in which files are read come out whole, forwards and backwards."""
    logs = LogFiles(tmp_path, page_bytes=1 << 30)
    events = [LogEvent(n, os.urandom(n % 3000).hex()) for n in range(500)]
    logs.append("/g", "s", events)
    assert list(logs.read("/g", "s").events) == events
    assert list(logs.read_back("/g", "s").events) == events


def test_a_stream_is_a_readable_file(tmp_path: Path) -> None:
    """A person finds a stream under its name, one line per event."""
    LogFiles(tmp_path).append("/aws/sagemaker/TrainingJobs", "job/algo-1-17", [LogEvent(1700000000000, "hello")])
    text = (tmp_path / "%2Faws%2Fsagemaker%2FTrainingJobs" / "job%2Falgo-1-17.log").read_text()
    assert text.splitlines()[1:] == ["1700000000000\thello"]
