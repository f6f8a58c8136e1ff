"""What every LogStore must do: subclass LogStoreContract and give it a `store` fixture."""

import pytest

from millrace.ports.logs import LogEvent, LogPage, LogStore, NoSuchLogStream

__all__ = ["LogStoreContract"]

GROUP = "/aws/sagemaker/TrainingJobs"
STREAM = "my-job/algo-1-1700000000"


def texts(page: LogPage) -> list[str]:
    """Return the texts of a page."""
    return [event.message for event in page.events]


class LogStoreContract:
    """The contract of ports/logs.py."""

    def fill(self, store: LogStore, count: int, stream: str = STREAM) -> None:
        store.append(GROUP, stream, [LogEvent(1000 + n, f"line {n}") for n in range(count)])

    def test_events_read_back(self, store: LogStore) -> None:
        """Any text is one event, lines and backslashes and all."""
        events = [
            LogEvent(1, "plain"),
            LogEvent(2, ""),
            LogEvent(3, "two\nlines\n"),
            LogEvent(4, "C:\\new\\\\folder\\"),
            LogEvent(5, "progress 10%\rprogress 20%"),
            LogEvent(6, "tab\tand “ü” \x00"),
            LogEvent(7, "x" * 300_000),
        ]
        for event in events:
            store.append(GROUP, STREAM, [event])
        assert list(store.read(GROUP, STREAM).events) == events
        assert list(store.read_back(GROUP, STREAM).events) == events

    def test_reading_goes_on_where_it_ended(self, store: LogStore) -> None:
        """Pages of any size give each event once, also those that are added meanwhile."""
        self.fill(store, 10)
        seen: list[str] = []
        offset = 0
        for limit in (1, 2, 3, 100):
            page = store.read(GROUP, STREAM, offset=offset, limit=limit)
            seen += texts(page)
            offset = page.end_offset
        assert seen == [f"line {n}" for n in range(10)]
        page = store.read(GROUP, STREAM, offset=offset)
        assert (list(page.events), page.end_offset) == ([], offset)
        store.append(GROUP, STREAM, [LogEvent(5000, "more")])
        assert texts(store.read(GROUP, STREAM, offset=offset)) == ["more"]

    def test_reading_back_mirrors_reading(self, store: LogStore) -> None:
        """The pages before an offset are the last ones first, each in order."""
        self.fill(store, 10)
        last = store.read_back(GROUP, STREAM, limit=3)
        assert texts(last) == ["line 7", "line 8", "line 9"]
        before = store.read_back(GROUP, STREAM, offset=last.start_offset, limit=100)
        assert texts(before) == [f"line {n}" for n in range(7)]
        assert texts(store.read_back(GROUP, STREAM, offset=before.start_offset)) == []
        assert texts(store.read(GROUP, STREAM, offset=before.end_offset)) == texts(last)

    def test_offsets_name_events(self, store: LogStore) -> None:
        """Reading from an event's offset starts with that event."""
        self.fill(store, 5)
        page = store.read(GROUP, STREAM)
        assert len(page.offsets) == 5
        for offset, text in zip(page.offsets, texts(page), strict=True):
            assert texts(store.read(GROUP, STREAM, offset=offset, limit=1)) == [text]

    def test_times_are_half_open(self, store: LogStore) -> None:
        """The start counts, the end does not, and events of one time stay in order."""
        store.append(GROUP, STREAM, [LogEvent(t, f"{t}{c}") for t in (1, 2, 3) for c in "ab"])
        assert texts(store.read(GROUP, STREAM, start_ms=2, end_ms=3)) == ["2a", "2b"]
        assert texts(store.read(GROUP, STREAM, start_ms=2, limit=3)) == ["2a", "2b", "3a"]
        assert texts(store.read_back(GROUP, STREAM, end_ms=3, limit=3)) == ["1b", "2a", "2b"]

    def test_a_page_has_about_a_megabyte(self, store: LogStore) -> None:
        """Long lines fill a page before its limit; nothing is lost."""
        store.append(GROUP, STREAM, [LogEvent(n, str(n % 10) * 200_000) for n in range(20)])
        page = store.read(GROUP, STREAM)
        assert 1 <= len(page.events) < 10
        seen, offset = 0, 0
        while page.events:
            seen += len(page.events)
            offset = page.end_offset
            page = store.read(GROUP, STREAM, offset=offset)
        assert seen == 20

    def test_streams_are_listed_by_name(self, store: LogStore) -> None:
        """A group's streams are listed by name and prefix, with the times of their first and last events."""
        long = "x" * 500
        for stream in ("b/2", "b/1", "a", "ü~%2F", "..", long, "b"):
            self.fill(store, 3, stream)
        store.create(GROUP, "empty")
        assert [stream.name for stream in store.list_streams(GROUP)] == sorted(
            ["..", "a", "b", "b/1", "b/2", "empty", long, "ü~%2F"]
        )
        assert [stream.name for stream in store.list_streams(GROUP, "b/")] == ["b/1", "b/2"]
        assert [stream.name for stream in store.list_streams(GROUP, "x" * 300)] == [long]
        assert [stream.name for stream in store.list_streams(GROUP, "ü")] == ["ü~%2F"]
        first = store.list_streams(GROUP, "a")[0]
        assert (first.first_event_ms, first.last_event_ms) == (1000, 1002)
        assert first.stored_bytes > 0
        empty = store.list_streams(GROUP, "empty")[0]
        assert (empty.first_event_ms, empty.last_event_ms) == (None, None)
        assert list(store.read(GROUP, "empty").events) == []

    def test_groups_are_listed_by_name(self, store: LogStore) -> None:
        """Groups are listed by name and prefix."""
        for group in ("/b", "/a/2", "/a/1", ".", ".."):
            assert store.create(group) is True
            assert store.create(group) is False
        assert [group.name for group in store.list_groups()] == [".", "..", "/a/1", "/a/2", "/b"]
        assert [group.name for group in store.list_groups("/a")] == ["/a/1", "/a/2"]

    def test_streams_are_made_once(self, store: LogStore) -> None:
        """Making a stream makes its group; making it again leaves its events."""
        assert store.create(GROUP, STREAM) is True
        self.fill(store, 1)
        assert store.create(GROUP, STREAM) is False
        assert store.create(GROUP) is False
        assert len(store.read(GROUP, STREAM).events) == 1

    def test_a_group_keeps_what_is_said_about_it(self, store: LogStore) -> None:
        """Retention and tags are kept."""
        store.create(GROUP)
        store.configure(GROUP, retention_days=7, tags={"k": "v"})
        group = store.list_groups()[0]
        assert (group.retention_days, dict(group.tags)) == (7, {"k": "v"})
        store.configure(GROUP)
        assert store.list_groups()[0].retention_days is None

    def test_what_is_missing_is_told(self, store: LogStore) -> None:
        """Missing groups and streams raise NoSuchLogStream."""
        store.create("/there")
        for call in (
            lambda: store.read("/none", "s"),
            lambda: store.read("/there", "s"),
            lambda: store.read_back("/there", "s"),
            lambda: store.list_streams("/none"),
            lambda: store.delete("/none"),
            lambda: store.delete("/there", "s"),
            lambda: store.configure("/none"),
        ):
            with pytest.raises(NoSuchLogStream):
                call()

    def test_deleting_removes_events(self, store: LogStore) -> None:
        """A stream or a group is gone at once, and may be made anew."""
        self.fill(store, 3)
        store.delete(GROUP, STREAM)
        assert store.list_streams(GROUP) == []
        self.fill(store, 1)
        store.delete(GROUP)
        assert store.list_groups() == []
        self.fill(store, 1)
        assert len(store.read(GROUP, STREAM).events) == 1
