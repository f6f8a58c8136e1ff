"""Frame and unframe RecordIO."""

import struct
from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np

from millrace_algorithms.errors import MalformedRecord

__all__ = ["MAGIC", "frame", "framed_records", "record_blocks", "unframe"]

MAGIC = b"\x0a\x23\xd7\xce"
_HEADER = struct.Struct("<4sI")
_LENGTH_BITS = 29
_LENGTH_MASK = (1 << _LENGTH_BITS) - 1
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)


def frame(payload: bytes) -> bytes:
    """Return one whole record: header, payload, zero bytes up to a multiple of 4; raises ValueError from 512 MiB on."""
    if len(payload) > _LENGTH_MASK:
        raise ValueError(f"a RecordIO record holds at most {_LENGTH_MASK} bytes, got {len(payload)}")
    return _HEADER.pack(MAGIC, len(payload)) + payload + bytes(-len(payload) % 4)


def framed_records(chunks: Iterable[bytes]) -> Iterable[bytes]:
    """Return a payload as framed records, one bare record with a frame of its own.

    A batch job that sends single records takes their framing away. No record begins with the magic: what follows the
    first byte is the length of a map entry there, and then the tag of the entry's name, 0a, not d7.
    """
    remaining = iter(chunks)
    first = b""
    for chunk in remaining:
        first += chunk
        if len(first) >= len(MAGIC):
            break
    if first.startswith(MAGIC[: len(first)]):
        return chain([first] if first else [], remaining)
    return [frame(first + b"".join(remaining))]


def _read_header(framed: bytes, start: int, record: int) -> tuple[int, int]:
    """Return (continuation flag, payload length) of the header at `start`."""
    magic, word = _HEADER.unpack_from(framed, start)
    if magic != MAGIC:
        raise MalformedRecord(f"expected the RecordIO magic {MAGIC.hex()}, got {magic.hex()}", record=record)
    return word >> _LENGTH_BITS, word & _LENGTH_MASK


def unframe(framed: bytes, first_record: int = 0) -> Iterator[bytes]:
    """Yield the payloads of complete records; parts of a split record are joined with the magic between them.

    Raises:
        MalformedRecord: The bytes are no RecordIO or end within a record.
    """
    start, record = 0, first_record + 1
    parts: list[bytes] = []
    while start < len(framed):
        if len(framed) - start < _HEADER.size:
            raise MalformedRecord("truncated RecordIO header", record=record)
        flag, length = _read_header(framed, start, record)
        end = start + _HEADER.size + length
        if end > len(framed):
            raise MalformedRecord("truncated RecordIO payload", record=record)
        if (flag in (_MIDDLE, _LAST)) != bool(parts) or flag > _LAST:
            raise MalformedRecord(f"unexpected RecordIO continuation flag {flag}", record=record)
        parts.append(framed[start + _HEADER.size : end])
        if flag in (_WHOLE, _LAST):
            # "a reader must join the parts with the four magic bytes put back between them" (dmlc RecordIO)
            yield parts[0] if len(parts) == 1 else MAGIC.join(parts)
            parts = []
            record += 1
        start = end + -length % 4
    if parts:
        raise MalformedRecord("RecordIO ends within a split record", record=record)


def record_blocks(chunks: Iterable[bytes], block_bytes: int) -> Iterator[bytes]:
    """Yield framed bytes in blocks of at least `block_bytes` (the last one less), cut between whole records.

    Runs of records of one length are cut by arithmetic; each header on the way is still checked by whoever unframes.
    """
    pieces: list[bytes] = []
    size, wanted = 0, block_bytes
    for chunk in chunks:
        pieces.append(chunk)
        size += len(chunk)
        if size < wanted:
            continue
        gathered = b"".join(pieces)
        end = _last_boundary(gathered)
        if end:
            yield gathered[:end]
        pieces = [gathered[end:]]
        # A record longer than that is looked at again only when as much has come once more: not for every chunk.
        wanted = block_bytes if end else 2 * size
        size -= end
    if size:
        yield b"".join(pieces)


def _last_boundary(framed: bytes) -> int:
    """Return the end of the last complete record."""
    start = end = 0
    record = 1
    while len(framed) - start >= _HEADER.size:
        flag, length = _read_header(framed, start, record)
        stride = _HEADER.size + length + -length % 4
        if start + stride > len(framed):
            break
        alike = _equal_headers(framed, start, stride) if flag == _WHOLE else 1
        start += alike * stride
        if flag in (_WHOLE, _LAST):
            end = start
            record += alike
    return end


def _equal_headers(framed: bytes, start: int, stride: int) -> int:
    """Return how many complete records from `start` on have the very same header, without a step for each."""
    count = (len(framed) - start) // stride
    rows = np.frombuffer(framed, np.uint8, count * stride, start).reshape(count, stride)
    words = np.ascontiguousarray(rows[:, : _HEADER.size]).view(np.uint64)[:, 0]
    different = np.flatnonzero(words != words[0])
    return int(different[0]) if different.size else count
