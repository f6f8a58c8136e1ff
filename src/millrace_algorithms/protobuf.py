"""Encode and decode SageMaker's protobuf records (package aialgs.data), one record at a time.

    Record { map<string, Value> features = 1; map<string, Value> label = 2; uid 3; metadata 4; configuration 5 }
    Value  { oneof { Float32Tensor 2; Float64Tensor 3; Int32Tensor 7; Bytes 9 } }
    Tensor { repeated values = 1; repeated uint64 keys = 2; repeated uint64 shape = 3 }

The decoder is tolerant as protobuf asks for: packed or not, fields in any order, unknown fields skipped.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

__all__ = ["Record", "Tensor", "decode", "encode", "encode_varint"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FLOAT32, _FLOAT64, _INT32 = 2, 3, 7
_DTYPES: Mapping[int, npt.DTypeLike] = {_FLOAT32: "<f4", _FLOAT64: "<f8", _INT32: np.int32}
TensorArray = npt.NDArray[np.float32] | npt.NDArray[np.float64] | npt.NDArray[np.int32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tensor:
    """A vector of values; sparse if it has keys, the flat positions within `shape`."""

    values: TensorArray
    keys: npt.NDArray[np.int64] | None = None
    shape: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """A record's tensors by name; a plain vector is `features["values"]`, its label `label["values"]`."""

    features: Mapping[str, Tensor] = field(default_factory=dict)
    label: Mapping[str, Tensor] = field(default_factory=dict)


def encode_varint(value: int) -> bytes:
    """Return a protobuf varint; negative numbers take ten bytes, as protobuf's int32 does."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _message(number: int, content: bytes) -> bytes:
    return encode_varint(number << 3 | _BYTES) + encode_varint(len(content)) + content


def _encode_tensor(tensor: Tensor) -> bytes:
    values = tensor.values
    if values.dtype == np.int32:
        kind, packed = _INT32, b"".join(encode_varint(int(v)) for v in values)
    elif values.dtype == np.float64:
        kind, packed = _FLOAT64, values.astype("<f8").tobytes()
    else:
        kind, packed = _FLOAT32, values.astype("<f4").tobytes()
    content = _message(1, packed)
    if tensor.keys is not None:
        content += _message(2, b"".join(encode_varint(int(k)) for k in tensor.keys))
    if tensor.shape:
        content += _message(3, b"".join(map(encode_varint, tensor.shape)))
    return _message(kind, content)


def encode(record: Record) -> bytes:
    """Return the record as the SDK's writers do: packed fields, features before label."""
    return b"".join(
        _message(number, _message(1, name.encode()) + _message(2, _encode_tensor(tensor)))
        for number, tensors in ((1, record.features), (2, record.label))
        for name, tensor in tensors.items()
    )


def _read_varint(message: bytes, start: int) -> tuple[int, int]:
    """Return the varint at `start` and the position after it."""
    value = shift = 0
    while True:
        if start >= len(message) or shift > 63:
            raise ValueError("truncated or overlong varint")
        byte = message[start]
        start += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (1 << 64) - 1, start
        shift += 7


def _fields(message: bytes) -> Iterator[tuple[int, int, bytes | int]]:
    """Yield (number, wire type, content) of each field."""
    start = 0
    while start < len(message):
        tag, start = _read_varint(message, start)
        number, wire = tag >> 3, tag & 7
        content: bytes | int
        if wire == _VARINT:
            content, start = _read_varint(message, start)
        else:
            if wire == _BYTES:
                length, start = _read_varint(message, start)
            elif wire in (_FIXED64, _FIXED32):
                length = 8 if wire == _FIXED64 else 4
            else:
                raise ValueError(f"unknown protobuf wire type {wire}")
            if start + length > len(message):
                raise ValueError("truncated protobuf field")
            content = message[start : start + length]
            start += length
        if not number:
            raise ValueError("protobuf field number 0")
        yield number, wire, content


def _varints(content: bytes | int) -> list[int]:
    """Return the numbers of a packed field, or of one that is not."""
    if isinstance(content, int):
        return [content]
    numbers, start = [], 0
    while start < len(content):
        number, start = _read_varint(content, start)
        numbers.append(number)
    return numbers


def _signed32(number: int) -> int:
    number &= 0xFFFFFFFF
    return number - (1 << 32) if number >> 31 else number


def _decode_tensor(kind: int, message: bytes) -> Tensor:
    floats: list[bytes] = []
    integers: list[int] = []
    keys: list[int] = []
    shape: list[int] = []
    for number, _, content in _fields(message):
        if number == 1 and kind == _INT32:
            integers.extend(map(_signed32, _varints(content)))
        elif number == 1:
            if isinstance(content, int):
                raise ValueError("expected floating-point values, got a varint")
            floats.append(content)
        elif number == 2:
            keys.extend(_varints(content))
        elif number == 3:
            shape.extend(_varints(content))
    if any(number >> 63 for number in (*keys, *shape)):
        raise ValueError("keys and shape must be less than 2**63")
    values = np.array(integers, np.int32) if kind == _INT32 else np.frombuffer(b"".join(floats), _DTYPES[kind])
    return Tensor(values=values, keys=np.array(keys, np.int64) if keys else None, shape=tuple(shape))


def _decode_entry(message: bytes) -> tuple[str, Tensor | None]:
    """Return name and tensor of one map entry; None for a value that is no tensor (Bytes)."""
    name, tensor = "", None
    for number, _, content in _fields(message):
        if isinstance(content, int):
            continue
        if number == 1:
            name = content.decode()
        elif number == 2:
            for kind, _, value in _fields(content):
                if kind in _DTYPES and not isinstance(value, int):
                    tensor = _decode_tensor(kind, value)
    return name, tensor


def decode(payload: bytes) -> Record:
    """Return the tensors of a record; raises ValueError if the bytes are no such message."""
    features: dict[str, Tensor] = {}
    label: dict[str, Tensor] = {}
    try:
        for number, wire, content in _fields(payload):
            if number in (1, 2) and wire == _BYTES and isinstance(content, bytes):
                name, tensor = _decode_entry(content)
                if tensor is not None:
                    (features if number == 1 else label)[name] = tensor
    except struct.error as exc:
        raise ValueError(str(exc)) from exc
    return Record(features=features, label=label)
