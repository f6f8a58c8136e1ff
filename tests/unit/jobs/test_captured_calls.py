"""What is written down of a captured call."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.jobs.captured_calls import CapturedCall, capture_key, capture_line
from millrace.jobs.endpoint import CaptureMode, DataCapture

AT = datetime(2026, 1, 31, 8, 15, 5, 42_000, tzinfo=UTC)


def settings(**members: Any) -> DataCapture:
    return DataCapture(
        **{
            "destination": "s3://shop/captured",
            "sampling_percentage": 100,
            "modes": (CaptureMode.INPUT, CaptureMode.OUTPUT),
            "csv_types": ("text/csv",),
            "json_types": ("application/json", "application/jsonlines"),
            **members,
        }
    )


def call(**members: Any) -> CapturedCall:
    return CapturedCall(
        **{
            "endpoint": "e",
            "variant": "v",
            "input_type": "text/csv",
            "input_body": b"1,2,3",
            "output_type": "text/csv; charset=utf-8",
            "output_body": b"0.97",
            **members,
        }
    )


def record(capture: DataCapture, captured: CapturedCall) -> Any:
    line = capture_line(capture, captured, at=AT, event_id="4b1e")
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    return json.loads(line)


def test_a_record_has_both_sides_and_says_when_it_was() -> None:
    """The form is the service's, version 0."""
    assert record(settings(), call(inference_id="my-id", custom_attributes="trace-1")) == {
        "captureData": {
            "endpointInput": {
                "observedContentType": "text/csv",
                "mode": "INPUT",
                "data": "1,2,3",
                "encoding": "CSV",
            },
            "endpointOutput": {
                "observedContentType": "text/csv; charset=utf-8",
                "mode": "OUTPUT",
                "data": "0.97",
                "encoding": "CSV",
            },
        },
        "eventMetadata": {
            "eventId": "4b1e",
            "inferenceId": "my-id",
            "customAttributes": ["trace-1"],
            "inferenceTime": "2026-01-31T08:15:05Z",
        },
        "eventVersion": "0",
    }


@pytest.mark.parametrize(
    ("content_type", "body", "encoding"),
    [
        ("text/csv", b"1,2", "CSV"),
        ("TEXT/CSV", b"1,2", "CSV"),
        ("application/jsonlines", b'{"a":1}\n', "JSON"),
        ("image/png", b"\x89PNG", "BASE64"),
        ("text/csv", b"\xff\xfe", "BASE64"),
        (None, b"1,2", "BASE64"),
    ],
)
def test_the_content_type_decides_how_data_are_written(content_type: str | None, body: bytes, encoding: str) -> None:
    """Listed types are text, everything else and what is no UTF-8 is base64."""
    side = record(settings(), call(input_type=content_type, input_body=body))["captureData"]["endpointInput"]
    assert side["encoding"] == encoding
    assert side["data"] == (base64.b64encode(body).decode() if encoding == "BASE64" else body.decode())
    assert side.get("observedContentType") == content_type


def test_without_lists_of_types_all_data_are_base64() -> None:
    """Nobody said what is text."""
    sides = record(settings(csv_types=(), json_types=()), call())["captureData"]
    assert {side["encoding"] for side in sides.values()} == {"BASE64"}


def test_only_the_modes_asked_for_are_written() -> None:
    """Input, output or both."""
    assert list(record(settings(modes=(CaptureMode.OUTPUT,)), call())["captureData"]) == ["endpointOutput"]


def test_the_object_is_named_for_endpoint_variant_and_time() -> None:
    """UTC, down to the millisecond; the id tells apart what came in the same one."""
    assert capture_key(call(), AT, "id") == "e/v/2026/01/31/08/15-05-042-id.jsonl"


@given(st.binary())
def test_any_body_comes_back(body: bytes) -> None:
    """Nothing is lost in the writing."""
    side = record(settings(), call(input_body=body))["captureData"]["endpointInput"]
    assert (base64.b64decode(side["data"]) if side["encoding"] == "BASE64" else side["data"].encode()) == body
