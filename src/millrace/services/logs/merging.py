"""Merge the events of several streams by time, in pages that continue where the last one ended."""

import base64
import binascii
import heapq
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import orjson

from millrace.ports.logs import LogEvent, LogPage
from millrace.services.logs.faults import InvalidParameter

__all__ = ["MergedEvent", "MergedPage", "ReadFrom", "decode_positions", "encode_positions", "merge_page"]

_MAX_TOKEN_BYTES = 16 * 1024 * 1024
"""Bytes of an unpacked token at most, so that a made-up one cannot fill the memory."""

ReadFrom = Callable[[str, int], LogPage]
"""Returns the next events of a stream from an offset on; an empty page at its end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MergedEvent:
    """An event, its stream, and its offset there."""

    stream: str
    offset: int
    event: LogEvent

    @property
    def id(self) -> str:
        """A name of the event that is always the same: `aws logs tail` leaves out what it has shown by it."""
        return f"{self.event.timestamp_ms:015d}{zlib.crc32(self.stream.encode()):010d}{self.offset:015d}"


@dataclass(frozen=True, kw_only=True, slots=True)
class MergedPage:
    """Events by time, and the offset in each stream from which the next page goes on; None if there is no more."""

    events: Sequence[MergedEvent]
    positions: Mapping[str, int] | None


def merge_page(
    streams: Sequence[str],
    positions: Mapping[str, int],
    read: ReadFrom,
    *,
    matches: Callable[[str], bool],
    limit: int,
    max_scanned: int,
) -> MergedPage:
    """Return the next events of all streams by time.

    Events of one stream stay in their order, whatever their times; streams are interleaved by the time of their next
    event, ties going to the earlier stream. One page of each stream is held in memory.

    Args:
        streams: Names, in order.
        positions: Where to go on in streams that were begun; the others start at 0.
        read: Reads a stream.
        matches: Tells whether a text is wanted.
        limit: Events of the page at most.
        max_scanned: Events looked at at most; a page may end before its limit, as S3's and the real service's may.
    """
    reached = dict(positions)
    events: list[MergedEvent] = []
    merged = heapq.merge(
        *(_events(stream, positions.get(stream, 0), read) for stream in streams),
        key=lambda found: found[0].event.timestamp_ms,
    )
    for scanned, (found, after) in enumerate(merged):
        if len(events) == limit or scanned == max_scanned:
            return MergedPage(events=events, positions=reached)
        if matches(found.event.message):
            events.append(found)
        reached[found.stream] = after
    return MergedPage(events=events, positions=None)


def _events(stream: str, position: int, read: ReadFrom) -> Iterator[tuple[MergedEvent, int]]:
    """Yield each event with the offset from which to go on after it."""
    while True:
        page = read(stream, position)
        if not page.events:
            return
        ends = [*page.offsets[1:], page.end_offset]
        for event, offset, end in zip(page.events, page.offsets, ends, strict=True):
            yield MergedEvent(stream=stream, offset=offset, event=event), end
        position = page.end_offset


def encode_positions(positions: Mapping[str, int]) -> str:
    """Return a token for the next page."""
    return base64.urlsafe_b64encode(zlib.compress(orjson.dumps(dict(positions)))).decode()


def decode_positions(token: str | None) -> dict[str, int]:
    """Return the positions of a token; raises InvalidParameter if it is none of ours."""
    if token is None:
        return {}
    try:
        unpacker = zlib.decompressobj()
        positions = orjson.loads(unpacker.decompress(base64.urlsafe_b64decode(token.encode()), _MAX_TOKEN_BYTES))
    except (binascii.Error, zlib.error, ValueError):
        positions = None
    if not isinstance(positions, dict) or not all(isinstance(value, int) for value in positions.values()):
        raise InvalidParameter(f"The specified nextToken is invalid: {token[:80]!r}")
    return positions
