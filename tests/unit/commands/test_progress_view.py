"""How a transform is going, as people are shown it."""

import io

import pytest
from rich.console import Console

from millrace.commands.progress_table import transform_progress
from millrace.commands.progress_view import (
    ProgressMeter,
    ProgressView,
    RateWindow,
    duration,
    progress_line,
    short_name,
    sum_views,
)


def _counters(**changes: object) -> dict[str, object]:
    return {
        "objects_done": 1,
        "objects_total": 3,
        "records": 1000,
        "bytes_in": 5_000_000,
        "bytes_total": 20_000_000,
        "in_flight": 4,
        "latency_p50_ms": 3.25,
        "latency_p99_ms": 12.0,
        "open_objects": [{"key": "in/a[1].csv", "bytes_in": 1_000_000, "bytes_total": 4_000_000, "records": 200}],
        **changes,
    }


def test_rates_are_means_over_the_last_seconds() -> None:
    """What was long ago is forgotten; one sample gives none."""
    window = RateWindow()
    window.add(0.0, 0, 0)
    assert window.rates() is None
    for second in range(1, 21):
        window.add(float(second), 1000 + second, 10 * second)
    assert window.rates() == (1.0, 10.0)


def test_a_view_has_rates_and_time_left_in_total_and_by_object() -> None:
    """The time left is that of the bytes that are still to be read."""
    meter = ProgressMeter()
    meter.view(0.0, _counters(records=0, bytes_in=0, open_objects=[]))
    meter.view(5.0, _counters(records=500, bytes_in=2_500_000, open_objects=[{"key": "in/a[1].csv"}]))
    view = meter.view(10.0, _counters())
    assert (view.records_per_second, view.bytes_per_second, view.eta_seconds) == (100.0, 500_000.0, 30.0)
    assert [(entry.records_per_second, entry.eta_seconds) for entry in view.objects] == [(40.0, 15.0)]
    assert progress_line(view) == (
        "25 % of 20.0 MB, 1/3 objects, 1,000 records, 0 failed, 100 records/s, 500.0 kB/s, 4 in flight, "
        "p50 3.25 ms, p99 12 ms, 0:30 left"
    )


def test_while_objects_are_listed_nobody_says_how_much_is_left() -> None:
    """Totals grow then: they are told with a plus, and no share of them; also if it is one of several instances."""
    meter = ProgressMeter()
    meter.view(0.0, _counters(records=0, bytes_in=0, listed=False))
    view = meter.view(2.0, _counters(objects_total=2000, listed=False))
    assert (view.percent, view.eta_seconds, view.told_objects) == (None, None, "1/2,000+")
    assert progress_line(view).startswith("- of 20.0 MB+, 1/2,000+ objects, ")
    listed = ProgressMeter().view(2.0, _counters())
    assert (listed.percent, listed.told_objects) == (25, "1/3")
    both = sum_views([view, listed])
    assert (both.percent, both.eta_seconds, both.told_objects) == (None, None, "2/2,003+")


def test_counters_of_an_older_release_are_enough() -> None:
    """What is not told counts as nothing."""
    view = ProgressMeter().view(0.0, {"records": 3})
    assert (view.records, view.in_flight, view.objects, view.eta_seconds) == (3, 0, (), None)


def test_what_was_read_ahead_is_not_done() -> None:
    """Bars, rates and the time left are those of records with a result."""
    meter = ProgressMeter()
    meter.view(0.0, _counters(bytes_in=20_000_000, bytes_done=0))
    view = meter.view(10.0, _counters(bytes_in=20_000_000, bytes_done=5_000_000))
    assert (view.bytes_per_second, view.eta_seconds) == (500_000.0, 30.0)
    assert progress_line(view).startswith("25 % of 20.0 MB")


def _drawn(view: ProgressView, width: int) -> str:
    file = io.StringIO()
    Console(width=width, file=file).print(transform_progress(view))
    return file.getvalue()


def _going(**changes: object) -> ProgressView:
    meter = ProgressMeter()
    meter.view(0.0, _counters(records=0, bytes_in=0))
    return meter.view(1.0, _counters(**changes))


def test_there_is_a_bar_in_total_and_for_each_object_in_work() -> None:
    """A key with brackets is text, not markup."""
    drawn = _drawn(_going(retries=2, records_failed=7, objects_failed=1), 160)
    for cell in ("1/3 objects", "5.0/20.0 MB", "1,000", "in/a[1].csv", "1.0/4.0 MB", "1 object, 7 records", "0:03"):
        assert cell in drawn
    assert "4 in flight, p50 3.25 ms, p99 12 ms, 2 retries" in drawn


@pytest.mark.parametrize("width", range(40, 200, 7))
def test_a_narrow_terminal_has_fewer_columns_and_no_half_numbers(width: int) -> None:
    """What matters least goes first: what was done, and the time left, stay."""
    drawn = _drawn(_going(open_objects=[{"key": "customers/2026/november/part-07-of-all-the-customers.csv"}]), width)
    assert all(len(line) <= width for line in drawn.splitlines())
    cells = {cell for line in drawn.splitlines() for cell in line.split("   ")}
    halves = [cell for cell in cells if cell.strip().endswith("…")]
    assert halves == []
    assert "0:03" in drawn


def test_columns_stay_where_they_are_while_numbers_grow() -> None:
    """A table that jumps can't be read."""
    first, later = (
        _drawn(_going(records=records, bytes_in=read), 110).splitlines()[0]
        for records, read in ((900, 900_000), (99_000, 19_900_000))
    )
    assert first == later


@pytest.mark.parametrize(("seconds", "text"), [(0.9, "0:00"), (65, "1:05"), (7384, "2:03:04")])
def test_times_are_told_as_people_read_them(seconds: float, text: str) -> None:
    """Hours only where there are some."""
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("in/a.csv", "in/a.csv"),
        ("customers/2026/november/part-07.csv", "…omers/2026/november/part-07.csv"),
        ("in/part-07-of-all-the-customers-of-2026.csv", "part-07-of-all-t…ers-of-2026.csv"),
    ],
)
def test_of_a_long_key_what_tells_parts_apart_is_shown(key: str, shown: str) -> None:
    """Folders are the first to go; of a long name both ends stay."""
    assert short_name(key, 32) == shown
    assert len(shown) <= 32
