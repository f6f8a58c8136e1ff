"""Say what a framing of records must tell to those who follow it through an object."""

from typing import NamedTuple, Protocol

__all__ = ["BadFrame", "Frame", "Framing", "Span"]

Span = tuple[int, int, int]
"""Where a whole record ends in a chunk, and where its payload begins and ends; plain, for there is one per record."""


class BadFrame(Exception):
    """Bytes are no frame; the message says why, not where."""


class Frame(NamedTuple):
    """What a header says: how many bytes of payload and of trailer follow it, and whether the record ends with them."""

    body_bytes: int
    trailer_bytes: int
    ends_record: bool


class Framing(Protocol):
    """Reads the frames of one object. A record is one frame, or several whose payloads are joined."""

    name: str
    header_bytes: int
    joint: bytes
    """What stands between the payloads of a record's frames once they are joined."""

    def whole_records(self, chunk: bytes, start: int, stop: int, longest: int) -> list[Span]:
        """Return the records of one frame that follow each other from `start` on, those that begin before `stop`.

        It ends before anything else: a frame that is damaged, goes on beyond the chunk, has more than `longest`
        bytes, or is one of several. What that is, `open_frame` and `close_frame` tell.
        """
        ...

    def skip_records(self, chunk: bytes, start: int, stop: int) -> int:
        """Follow records of one frame from `start` on, and return where the first begins at `stop` or behind it.

        Only headers are looked at. It returns earlier, where a record begins that `open_frame` must look at: its header
        is not whole in the chunk, is damaged, or that of the first of several frames.
        """
        ...

    def open_frame(self, header: bytes, *, continues: bool) -> Frame:
        """Return what a header says; `continues` tells that the record began in an earlier frame. Raises BadFrame."""
        ...

    def add_to_checksum(self, checksum: int, piece: memoryview) -> int:
        """Return the checksum of a payload that began with one that had `checksum`; that of nothing is 0."""
        ...

    def close_frame(self, trailer: bytes, checksum: int) -> None:
        """Check the trailer against the checksum of the payload. Raises BadFrame."""
        ...
