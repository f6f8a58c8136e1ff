"""Read TFRecord frames: length, its checksum, payload, the payload's checksum.

    length, 8 bytes | masked CRC-32C of these 8 bytes | payload | masked CRC-32C of the payload

All numbers are little-endian.

Source:
    batch-transform.md 3.4: "Verify the length CRC always and the data CRC by default".
"""

import importlib
import struct
from collections.abc import Callable

from millrace.dataplane.framing import BadFrame, Frame, Span

__all__ = ["TFRecord"]

KNOWN_HEADERS = 1024
"""Headers that are remembered as good: records of one length have the same one."""

_HEADER = struct.Struct("<QI")
_CHECKSUM = struct.Struct("<I")
_MASK_DELTA = 0xA282EAD8


class TFRecord:
    """The framing of TensorFlow; each object needs a new one."""

    name = "TFRecord"
    header_bytes = _HEADER.size
    joint = b""

    def __init__(self) -> None:
        # It takes 40 ms to import, and most jobs read no TFRecord.
        self._crc32c: Callable[..., int] = importlib.import_module("awscrt.checksums").crc32c
        self._lengths: dict[bytes, int] = {}

    def whole_records(self, chunk: bytes, start: int, stop: int, longest: int) -> list[Span]:
        lengths, crc32c, read_checksum = self._lengths, self._crc32c, _CHECKSUM.unpack_from
        view = memoryview(chunk)
        size = len(chunk)
        stop = min(stop, size - _HEADER.size + 1)
        spans: list[Span] = []
        while start < stop:
            body = start + 12
            header = chunk[start:body]
            length = lengths.get(header)
            if length is None:
                try:
                    length = self._length(header)
                except BadFrame:
                    break
            body_end = body + length
            end = body_end + 4
            if end > size or end - start > longest:
                break
            checksum = crc32c(view[body:body_end])
            masked = ((checksum >> 15 | checksum << 17) + _MASK_DELTA) & 0xFFFFFFFF
            if masked != read_checksum(chunk, body_end)[0]:
                break
            spans.append((end, body, body_end))
            start = end
        return spans

    def skip_records(self, chunk: bytes, start: int, stop: int) -> int:
        lengths = self._lengths
        stop = min(stop, len(chunk) - _HEADER.size + 1)
        while start < stop:
            header = chunk[start : start + 12]
            length = lengths.get(header)
            if length is None:
                try:
                    length = self._length(header)
                except BadFrame:
                    break
            start += 16 + length
        return start

    def open_frame(self, header: bytes, *, continues: bool) -> Frame:
        return Frame(self._length(header), _CHECKSUM.size, True)

    def _length(self, header: bytes) -> int:
        length, stated = _HEADER.unpack(header)
        computed = _masked(self._crc32c(header[:8]))
        if stated != computed:
            raise BadFrame(f"the length {length} has the checksum {computed:08x}, but the header says {stated:08x}")
        if len(self._lengths) >= KNOWN_HEADERS:
            self._lengths.clear()
        self._lengths[header] = length
        return int(length)

    def add_to_checksum(self, checksum: int, piece: memoryview) -> int:
        return self._crc32c(piece, checksum)

    def close_frame(self, trailer: bytes, checksum: int) -> None:
        stated, computed = int.from_bytes(trailer, "little"), _masked(checksum)
        if stated != computed:
            raise BadFrame(f"the record's bytes have the checksum {computed:08x}, but the record says {stated:08x}")


def _masked(checksum: int) -> int:
    """Return the checksum as it is stored.

    Source:
        batch-transform.md 3.4: "mask(c) = ((c >> 15 | c << 17) + 0xA282EAD8) mod 2^32".
    """
    return ((checksum >> 15 | checksum << 17) + _MASK_DELTA) & 0xFFFFFFFF
