"""Event streams with botocore's decoder as the other end."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from millrace.errors import S3Error
from millrace.protocol.eventstream import encode_message, event_stream
from millrace.protocol.operations import service


def _decode(content: bytes) -> list[tuple[dict[str, Any], bytes]]:
    buffer = EventStreamBuffer()
    buffer.add_data(content)
    return [(event.headers, event.payload) for event in buffer]


@pytest.mark.spec("api-surface 3.3")
@given(st.dictionaries(st.text(min_size=1, max_size=20), st.text(max_size=50) | st.booleans()), st.binary())
def test_messages_come_back_from_botocore(headers: dict[str, Any], payload: bytes) -> None:
    """Headers and payload of a message are what botocore decodes, checksums included."""
    assert _decode(encode_message(headers, payload)) == [(headers, payload)]


def test_header_values_keep_their_types() -> None:
    """Numbers, bytes and times have types of their own."""
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    [(headers, _)] = _decode(encode_message({"n": 7, "b": b"\x00", "t": moment}, b""))
    assert headers == {"n": 7, "b": b"\x00", "t": 1767225600000}


async def test_an_error_ends_the_stream_as_a_message() -> None:
    """An ApiError in mid-stream is told as an exception message with its code."""

    async def events() -> AsyncIterator[dict[str, Any]]:
        yield {"Part": b"x"}
        raise S3Error("ModelStreamError", "broke", status=400)

    pieces = [piece async for piece in event_stream(events(), lambda name, value: encode_message({"n": name}, value))]
    [_, (headers, payload)] = _decode(b"".join(pieces))
    assert (headers[":message-type"], headers[":exception-type"]) == ("exception", "ModelStreamError")
    assert payload == b'{"Message":"broke"}'


async def test_members_beside_a_stream_go_first() -> None:
    """In the JSON protocols the other members are a message of their own, before the events."""

    async def events() -> AsyncIterator[dict[str, Any]]:
        yield {"fields": {"data": b"abc"}}

    response = service("logs").operation("GetLogObject").serialize({"fieldStream": events()}, "id")
    assert not isinstance(response.body, bytes)
    pieces = [piece async for piece in response.body]  # type: ignore[union-attr]
    messages = _decode(b"".join(pieces))
    assert [headers[":event-type"] for headers, _ in messages] == ["initial-response", "fields"]
