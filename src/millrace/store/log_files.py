"""Keep logs as append-only text files: one folder per group, one file per stream, one line per event.

A line is `<epoch ms>\t<text>\n`, with newlines and backslashes of the text escaped. Its byte offset is its address for
ever, so readers continue where they left off and need nothing remembered for them. The first line of a file is JSON and
tells the stream's name and the time it was made.

Each call of `append` is one write to a file opened with O_APPEND: events of two writers do not mix. A line without
its end is still being written, or was cut off when its writer died: readers stop before it, the next writer ends it.
"""

import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

from millrace.clock import Clock, SystemClock
from millrace.ports.logs import LogEvent, LogGroup, LogPage, LogStream, NoSuchLogStream

__all__ = ["LogFiles", "decode_line", "encode_line"]

_BLOCK_BYTES = 256 * 1024
_NAME_LIMIT = 180
_KEPT = _NAME_LIMIT - 66
"""Characters of a long name that its file's name starts with; a tilde and a digest of it all follow."""
_GROUP_FILE = "group.json"
_SUFFIX = ".log"
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"\\": b"\\"}


class LogFiles:
    """A LogStore over files.

    Args:
        root: Folder of all groups; made when first needed.
        page_bytes: Bytes of text after which a page is full, whatever its limit of events.
        clock: Tells when groups and streams were made.
    """

    def __init__(self, root: Path, *, page_bytes: int = 1024 * 1024, clock: Clock | None = None) -> None:
        self._root = root
        self._page_bytes = page_bytes
        self._clock = clock or SystemClock()

    def append(self, group: str, stream: str, events: Sequence[LogEvent]) -> None:
        """Add events in the order given; they are readable when this returns. Makes group and stream as needed."""
        text = b"".join(map(encode_line, events))
        if not text:
            return
        descriptor = self._open_for_append(group, stream)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                text = b"\n" + text
            view = memoryview(text)
            while view:
                view = view[os.write(descriptor, view) :]
        finally:
            os.close(descriptor)

    def create(self, group: str, stream: str | None = None) -> bool:
        """Make a group, or a stream in it (and the group); return False if it was there."""
        folder = self._group_path(group)
        made = self._make_file(folder / _GROUP_FILE, {"group": group, "created": self._now_ms()})
        if stream is None:
            return made
        header = {"stream": stream, "created": self._now_ms()}
        return self._make_file(self._stream_path(group, stream), header)

    def configure(
        self, group: str, *, retention_days: int | None = None, tags: Mapping[str, str] | None = None
    ) -> None:
        """Keep what users say about a group; raises NoSuchLogStream if the group is missing."""
        path = self._group_path(group) / _GROUP_FILE
        facts = self._group_facts(group)
        facts |= {"retention": retention_days, "tags": dict(tags or {})}
        temporary = path.with_name(f"{_GROUP_FILE}.{secrets.token_hex(4)}.new")
        temporary.write_bytes(orjson.dumps(facts) + b"\n")
        temporary.replace(path)

    def list_groups(self, prefix: str = "") -> list[LogGroup]:
        """Return groups by name."""
        groups = []
        for path in self._root.glob(f"*/{_GROUP_FILE}"):
            try:
                facts = orjson.loads(path.read_bytes())
                if facts["group"].startswith(prefix):
                    with os.scandir(path.parent) as entries:
                        sizes = [entry.stat().st_size for entry in entries if entry.name.endswith(_SUFFIX)]
                    groups.append(_group(facts, sum(sizes)))
            except FileNotFoundError:
                continue  # deleted meanwhile
        return sorted(groups, key=lambda group: group.name)

    def list_streams(self, group: str, prefix: str = "") -> list[LogStream]:
        """Return streams by name; raises NoSuchLogStream if the group is missing."""
        self._group_facts(group)
        # A file's name starts with that of its stream, escaped: most streams need not be opened.
        start = _escape(prefix)[:_KEPT]
        streams = []
        with os.scandir(self._group_path(group)) as entries:
            names = [entry.name for entry in entries if entry.name.endswith(_SUFFIX) and entry.name.startswith(start)]
        for name in names:
            with suppress(FileNotFoundError):  # deleted meanwhile
                stream = self._describe(self._group_path(group) / name)
                if stream.name.startswith(prefix):
                    streams.append(stream)
        return sorted(streams, key=lambda stream: stream.name)

    def read(
        self,
        group: str,
        stream: str,
        *,
        offset: int = 0,
        limit: int = 10_000,
        start_ms: int | None = None,
        end_ms: int | None = None,
    ) -> LogPage:
        """Return at most `limit` events (and about `page_bytes`) from a byte offset on; times are [start, end)."""
        descriptor = self._open_for_reading(group, stream)
        try:
            chosen = _Chosen(limit, self._page_bytes, start_ms, end_ms)
            start = position = max(0, offset)
            for line_start, line in _lines(descriptor, start):
                if chosen.full:
                    break
                position = line_start + len(line)
                chosen.offer(line_start, line)
        finally:
            os.close(descriptor)
        return LogPage(events=chosen.events, offsets=chosen.offsets, start_offset=start, end_offset=position)

    def read_back(
        self,
        group: str,
        stream: str,
        *,
        offset: int | None = None,
        limit: int = 10_000,
        start_ms: int | None = None,
        end_ms: int | None = None,
    ) -> LogPage:
        """Return the last at most `limit` events before a byte offset (None: the end), in order."""
        descriptor = self._open_for_reading(group, stream)
        try:
            chosen = _Chosen(limit, self._page_bytes, start_ms, end_ms)
            end = position = _line_end(descriptor, offset)
            for line_start, line in _lines_back(descriptor, end):
                if chosen.full:
                    break
                position = line_start
                chosen.offer(line_start, line)
        finally:
            os.close(descriptor)
        events, offsets = chosen.events[::-1], chosen.offsets[::-1]
        return LogPage(events=events, offsets=offsets, start_offset=position, end_offset=end)

    def delete(self, group: str, stream: str | None = None) -> None:
        """Remove a stream, or a whole group; raises NoSuchLogStream if it is missing."""
        if stream is None:
            self._group_facts(group)
            shutil.rmtree(self._group_path(group), ignore_errors=True)
            return
        try:
            self._stream_path(group, stream).unlink()
        except FileNotFoundError:
            raise NoSuchLogStream(f"{group}: {stream}") from None

    def delete_untouched(self, group: str, stream: str, *, since_ms: int) -> bool:
        """Remove a stream, unless something was written to it since a moment; return whether it is gone by this."""
        path = self._stream_path(group, stream)
        with suppress(FileNotFoundError):
            if path.stat().st_mtime * 1000 < since_ms:
                path.unlink()
                return True
        return False

    def _group_path(self, group: str) -> Path:
        return self._root / _file_name(group)

    def _stream_path(self, group: str, stream: str) -> Path:
        return self._group_path(group) / (_file_name(stream) + _SUFFIX)

    def _group_facts(self, group: str) -> dict[str, Any]:
        try:
            facts: dict[str, Any] = orjson.loads((self._group_path(group) / _GROUP_FILE).read_bytes())
        except FileNotFoundError:
            raise NoSuchLogStream(group) from None
        return facts

    def _open_for_append(self, group: str, stream: str) -> int:
        path = self._stream_path(group, stream)
        for _ in range(2):
            with suppress(FileNotFoundError):
                return os.open(path, os.O_RDWR | os.O_APPEND)
            self.create(group, stream)
        return os.open(path, os.O_RDWR | os.O_APPEND)

    def _open_for_reading(self, group: str, stream: str) -> int:
        try:
            return os.open(self._stream_path(group, stream), os.O_RDONLY)
        except FileNotFoundError:
            raise NoSuchLogStream(f"{group}: {stream}") from None

    def _make_file(self, path: Path, header: Mapping[str, Any]) -> bool:
        """Make a file with its first line at once: a writer that finds the file also finds the line."""
        if path.exists():
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{secrets.token_hex(8)}.new")
        temporary.write_bytes(orjson.dumps(header) + b"\n")
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        return True

    def _describe(self, path: Path) -> LogStream:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            size = os.fstat(descriptor).st_size
            lines = _lines(descriptor, 0)
            header = orjson.loads(next(lines)[1])
            first = next((event for _, line in lines if (event := decode_line(line)) is not None), None)
            back = _lines_back(descriptor, _line_end(descriptor, None))
            last = next((event for _, line in back if (event := decode_line(line)) is not None), None)
        finally:
            os.close(descriptor)
        return LogStream(
            name=header["stream"],
            created_ms=header["created"],
            first_event_ms=None if first is None else first.timestamp_ms,
            last_event_ms=None if last is None else last.timestamp_ms,
            stored_bytes=size,
        )

    def _now_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)


def encode_line(event: LogEvent) -> bytes:
    """Return an event as one line."""
    text = event.message.encode("utf-8", "replace")
    if b"\n" in text or b"\\" in text:
        text = text.replace(b"\\", b"\\\\").replace(b"\n", b"\\n")
    return b"%d\t%b\n" % (event.timestamp_ms, text)


def decode_line(line: bytes) -> LogEvent | None:
    """Return the event of a line, or None for one that is no event: a file's first, or one that a crash cut off."""
    timestamp_ms, text = _parse_line(line)
    return None if timestamp_ms is None else _event(timestamp_ms, text)


def _parse_line(line: bytes) -> tuple[int | None, bytes]:
    time, tab, text = line[:-1].partition(b"\t")
    return (int(time) if tab and time.isdigit() else None), text


def _event(timestamp_ms: int, text: bytes) -> LogEvent:
    if b"\\" in text:
        text = _ESCAPE.sub(lambda match: _ESCAPED.get(match[1], match[0]), text)
    return LogEvent(timestamp_ms, text.decode("utf-8", "replace"))


class _Chosen:
    """Collects the events that a page wants, until it is full."""

    def __init__(self, limit: int, page_bytes: int, start_ms: int | None, end_ms: int | None) -> None:
        self.events: list[LogEvent] = []
        self.offsets: list[int] = []
        self._room = page_bytes
        self._limit = limit
        self._start_ms = start_ms
        self._end_ms = end_ms

    @property
    def full(self) -> bool:
        return len(self.events) >= self._limit or self._room <= 0

    def offer(self, offset: int, line: bytes) -> None:
        time, text = _parse_line(line)
        if time is None or (self._start_ms is not None and time < self._start_ms):
            return
        if self._end_ms is not None and time >= self._end_ms:
            return
        self.events.append(_event(time, text))
        self.offsets.append(offset)
        self._room -= len(line)


def _lines(descriptor: int, position: int) -> Iterator[tuple[int, bytes]]:
    """Yield the offset and bytes of each complete line from a position on."""
    rest = b""
    while block := os.pread(descriptor, _BLOCK_BYTES, position + len(rest)):
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            yield position, line + b"\n"
            position += len(line) + 1


def _lines_back(descriptor: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Yield the offset and bytes of each line before a line's end, the last one first."""
    rest = b""
    position = end
    while position > 0:
        size = min(_BLOCK_BYTES, position)
        position -= size
        data = os.pread(descriptor, size, position) + rest
        # What comes before the first newline belongs to a line that starts in an earlier block.
        cut = data.find(b"\n") + 1 if position else 0
        rest, data = data[:cut], data[cut:]
        line_end = position + cut + len(data)
        for line in reversed(data.split(b"\n")[:-1]):
            line_end -= len(line) + 1
            yield line_end, line + b"\n"


def _line_end(descriptor: int, offset: int | None) -> int:
    """Return the end of the last complete line that ends at or before an offset."""
    size = os.fstat(descriptor).st_size
    end = size if offset is None else max(0, min(offset, size))
    position = end
    while position > 0:
        start = max(0, position - _BLOCK_BYTES)
        newline = os.pread(descriptor, position - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        position = start
    return 0


def _escape(name: str) -> str:
    """Return a name as part of a file's: reversible, without a slash, a leading dot or a tilde."""
    escaped = quote(name, safe="#").replace("~", "%7E")
    return f"%2E{escaped[1:]}" if escaped.startswith(".") else escaped


def _file_name(name: str) -> str:
    escaped = _escape(name)
    if len(escaped) <= _NAME_LIMIT:
        return escaped
    return f"{escaped[:_KEPT]}~{sha256(name.encode()).hexdigest()}"


def _group(facts: Mapping[str, Any], size: int) -> LogGroup:
    return LogGroup(
        name=facts["group"],
        created_ms=facts["created"],
        stored_bytes=size,
        retention_days=facts.get("retention"),
        tags=facts.get("tags") or {},
    )
