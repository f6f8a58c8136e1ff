"""The event stream encoding: messages of headers and a payload, each with its checksums."""

from binascii import crc32
from collections.abc import AsyncIterator, Callable, Mapping
from struct import pack
from typing import Any

from millrace.errors import ApiError
from millrace.protocol import json
from millrace.protocol.wire_values import encode_base64

__all__ = ["EventEncoder", "EventStream", "encode_message", "event_encoder", "event_stream"]

EventEncoder = Callable[[str, Any], bytes]
"""From an event's name and value to its message."""

_StructureEncoder = Callable[[Any], Callable[[Any], bytes]]

_STRING, _BYTES, _LONG, _TRUE, _FALSE, _TIMESTAMP = 7, 6, 5, 0, 1, 8


def encode_message(headers: Mapping[str, Any], payload: bytes) -> bytes:
    """Return one message.

    Source:
        api-surface.md 3.3: total length u32, header length u32, CRC32 of those 8 bytes, headers (name length u8, name,
        type u8, value), payload, CRC32 of all before.
    """
    return _framed(_header_block(headers), payload)


def _header_block(headers: Mapping[str, Any]) -> bytes:
    return b"".join([_encode_header(name, value) for name, value in headers.items()])


def _framed(block: bytes, payload: bytes) -> bytes:
    prelude = pack(">II", 16 + len(block) + len(payload), len(block))
    head = prelude + pack(">I", crc32(prelude)) + block
    return b"".join((head, payload, pack(">I", crc32(payload, crc32(head)))))


def _encode_header(name: str, value: Any) -> bytes:
    label = name.encode()
    return bytes([len(label)]) + label + _encode_header_value(value)


def _encode_header_value(value: Any) -> bytes:
    if isinstance(value, bool):
        return bytes([_TRUE if value else _FALSE])
    if isinstance(value, int):
        return pack(">Bq", _LONG, value)
    if isinstance(value, bytes):
        return pack(">BH", _BYTES, len(value)) + value
    if hasattr(value, "timestamp"):
        return pack(">Bq", _TIMESTAMP, round(value.timestamp() * 1000))
    text = str(value).encode()
    return pack(">BH", _STRING, len(text)) + text


def event_encoder(shape: Any, encode_structure: _StructureEncoder, structure_type: str) -> EventEncoder:
    """Return the encoder of an event stream shape.

    Args:
        shape: The stream: its members are the kinds of events.
        encode_structure: Returns the function that writes a structure shape in the service's format.
        structure_type: The content type of that format.
    """
    kinds = {
        name: _kind_encoder(name, member, encode_structure, structure_type) for name, member in shape.members.items()
    }
    return lambda name, value: kinds[name](value)


def _kind_encoder(
    name: str, shape: Any, encode_structure: _StructureEncoder, structure_type: str
) -> Callable[[Any], bytes]:
    in_headers = [member for member, sub in shape.members.items() if sub.serialization.get("eventheader")]
    payload = next((member for member, sub in shape.members.items() if sub.serialization.get("eventpayload")), None)
    write, content_type = _payload_writer(shape, payload, encode_structure, structure_type)
    if not in_headers:
        # Chunks of answers come by the thousand, and their headers are always the same.
        plain = {":event-type": name, ":message-type": "event"}
        empty, full = _header_block(plain), _header_block({**plain, ":content-type": content_type})

        def encode_plain(value: Any) -> bytes:
            content = write(value)
            return _framed(full if content else empty, content)

        return encode_plain

    def encode(value: Any) -> bytes:
        headers: dict[str, Any] = {":event-type": name, ":message-type": "event"}
        content = write(value)
        if content:
            headers[":content-type"] = content_type
        headers.update({member: value[member] for member in in_headers if value.get(member) is not None})
        return encode_message(headers, content)

    return encode


def _payload_writer(
    shape: Any, payload: str | None, encode_structure: _StructureEncoder, structure_type: str
) -> tuple[Callable[[Any], bytes], str]:
    if payload is None:
        if not shape.members:
            return (lambda value: b""), structure_type
        return encode_structure(shape), structure_type
    member = shape.members[payload]
    if member.type_name == "blob":
        return (lambda value: _as_bytes(value.get(payload))), "application/octet-stream"
    if member.type_name == "string":
        return (lambda value: str(value.get(payload) or "").encode()), "text/plain"
    write = encode_structure(member)
    return (lambda value: write(value.get(payload) or {})), structure_type


def _as_bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value or b"")


class EventStream:
    """The messages of events given as {name: value}; an ApiError ends the stream as an exception message.

    It is no generator, so that closing it closes where the events come from even if none was asked for yet.
    """

    def __init__(self, events: AsyncIterator[Mapping[str, Any]], encode: EventEncoder) -> None:
        self._events = events
        self._encode = encode
        self._is_over = False

    def __aiter__(self) -> "EventStream":
        return self

    async def __anext__(self) -> bytes:
        if self._is_over:
            raise StopAsyncIteration
        try:
            event = await anext(self._events)
            return b"".join([self._encode(name, value) for name, value in event.items()])
        except ApiError as error:
            self._is_over = True
            return _exception(error)

    async def aclose(self) -> None:
        """Close where the events come from."""
        if hasattr(self._events, "aclose"):
            await self._events.aclose()


def event_stream(events: AsyncIterator[Mapping[str, Any]], encode: EventEncoder) -> EventStream:
    """Return the messages of events."""
    return EventStream(events, encode)


def _exception(error: ApiError) -> bytes:
    headers = {
        ":exception-type": error.wire_code,
        ":content-type": "application/json",
        ":message-type": "exception",
    }
    document = {"Message": error.message, **error.members}
    return encode_message(headers, _json(document))


def _json(document: Mapping[str, Any]) -> bytes:
    return json.encode({k: encode_base64(v) if isinstance(v, bytes) else v for k, v in document.items()})
