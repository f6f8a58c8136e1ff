"""Read RecordIO frames: magic, length, payload, zero bytes up to a multiple of four.

    0a 23 d7 ce | flag << 29 | length | payload | 0 to 3 zero bytes

A writer cuts a payload at each of its aligned occurrences of the magic, which it leaves out, and marks the parts as
first, middle and last; a reader puts it back.

Source:
    batch-transform.md 3.3; dmlc-core's recordio.
"""

import struct

from millrace.dataplane.framing import BadFrame, Frame, Span

__all__ = ["RecordIO"]

MAGIC = b"\x0a\x23\xd7\xce"
_MAGIC_WORD = int.from_bytes(MAGIC, "little")
_LENGTH_BITS = 29
_LENGTH_MASK = (1 << _LENGTH_BITS) - 1
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
_HEADER = struct.Struct("<II")


class RecordIO:
    """The framing of MXNet and of the built-in algorithms; it has no checksums."""

    name = "RecordIO"
    header_bytes = _HEADER.size
    joint = MAGIC

    def whole_records(self, chunk: bytes, start: int, stop: int, longest: int) -> list[Span]:
        read_header = _HEADER.unpack_from
        size = len(chunk)
        stop = min(stop, size - _HEADER.size + 1)
        spans: list[Span] = []
        while start < stop:
            magic, length = read_header(chunk, start)
            if magic != _MAGIC_WORD or length > _LENGTH_MASK:  # a flag makes it greater
                break
            body = start + 8
            body_end = body + length
            end = body_end + (-length & 3)
            if end > size or end - start > longest:
                break
            spans.append((end, body, body_end))
            start = end
        return spans

    def skip_records(self, chunk: bytes, start: int, stop: int) -> int:
        read_header = _HEADER.unpack_from
        stop = min(stop, len(chunk) - _HEADER.size + 1)
        while start < stop:
            magic, length = read_header(chunk, start)
            if magic != _MAGIC_WORD or length > _LENGTH_MASK:  # a flag makes it greater
                break
            start += 8 + length + (-length & 3)
        return start

    def open_frame(self, header: bytes, *, continues: bool) -> Frame:
        magic, word = header[:4], int.from_bytes(header[4:], "little")
        if magic != MAGIC:
            raise BadFrame(f"expected the magic {MAGIC.hex(' ')}, got {magic.hex(' ')}")
        flag, length = word >> _LENGTH_BITS, word & _LENGTH_MASK
        if flag not in ((_MIDDLE, _LAST) if continues else (_WHOLE, _FIRST)):
            expected = "2 or 3 (a middle or last part)" if continues else "0 or 1 (a whole record or a first part)"
            raise BadFrame(f"expected the continuation flag {expected}, got {flag}")
        return Frame(length, -length & 3, flag in (_WHOLE, _LAST))

    def add_to_checksum(self, checksum: int, piece: memoryview) -> int:
        return 0

    def close_frame(self, trailer: bytes, checksum: int) -> None:
        """Take any padding: readers skip it."""
