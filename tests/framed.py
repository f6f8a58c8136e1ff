"""Write framed records, as the formats' own writers do: the other end of the data plane's readers."""

import struct

__all__ = ["recordio", "tfrecord", "tfrecord_header"]

_MAGIC = b"\x0a\x23\xd7\xce"


def recordio(payload: bytes) -> bytes:
    """Return one RecordIO record; the payload is cut at each aligned magic, which is left out."""
    parts = [b""]
    for start in range(0, len(payload), 4):
        word = payload[start : start + 4]
        if word == _MAGIC:
            parts.append(b"")
        else:
            parts[-1] += word
    flags = [0] if len(parts) == 1 else [1, *[2] * (len(parts) - 2), 3]
    return b"".join(
        _MAGIC + struct.pack("<I", flag << 29 | len(part)) + part + bytes(-len(part) % 4)
        for flag, part in zip(flags, parts, strict=True)
    )


def tfrecord(payload: bytes) -> bytes:
    """Return one TFRecord record."""
    return tfrecord_header(len(payload)) + payload + _masked(payload)


def tfrecord_header(length: int) -> bytes:
    """Return the header of a TFRecord record of that many bytes."""
    packed = struct.pack("<Q", length)
    return packed + _masked(packed)


def _masked(data: bytes) -> bytes:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC32C[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _checksum_of_byte(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value


_CRC32C = [_checksum_of_byte(value) for value in range(256)]
