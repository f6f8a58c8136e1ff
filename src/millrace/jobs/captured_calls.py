"""What is written down of a captured call: one line of JSON, in an object named for the time.

Source:
    endpoints-triggers.md 10: `<destination>/<endpoint>/<variant>/yyyy/mm/dd/hh/<file>.jsonl`, event version 0.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from millrace.jobs.endpoint import CaptureMode, DataCapture

__all__ = ["MAX_CAPTURE_KEY_BYTES", "CapturedCall", "capture_key", "capture_line"]

EVENT_VERSION = "0"

MAX_CAPTURE_KEY_BYTES = 63 + 63 + len("//2026/01/31/08/59-58-000-.jsonl") + 36
"""Bytes of `capture_key` at most: names of endpoints and variants have at most 63 characters, the id is a UUID."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CapturedCall:
    """One call of an endpoint that was answered."""

    endpoint: str
    variant: str
    input_type: str | None
    input_body: bytes
    output_type: str | None
    output_body: bytes
    inference_id: str | None = None
    custom_attributes: str | None = None


def capture_key(call: CapturedCall, at: datetime, file_id: str) -> str:
    """Return the object's name below the destination.

    Args:
        call: One of those in the object; all have its endpoint and variant.
        at: When the first of them was made, UTC; all were made in the same hour.
        file_id: Tells apart objects of the same millisecond.
    """
    moment = f"{at:%Y/%m/%d/%H/%M-%S}-{at.microsecond // 1000:03d}"
    return f"{call.endpoint}/{call.variant}/{moment}-{file_id}.jsonl"


def capture_line(settings: DataCapture, call: CapturedCall, *, at: datetime, event_id: str) -> bytes:
    """Return the record of a call, with its line feed."""
    sides: dict[str, Any] = {}
    if CaptureMode.INPUT in settings.modes:
        sides["endpointInput"] = _side(settings, CaptureMode.INPUT, call.input_type, call.input_body)
    if CaptureMode.OUTPUT in settings.modes:
        sides["endpointOutput"] = _side(settings, CaptureMode.OUTPUT, call.output_type, call.output_body)
    event: dict[str, Any] = {"eventId": event_id}
    if call.inference_id is not None:
        event["inferenceId"] = call.inference_id
    if call.custom_attributes is not None:
        event["customAttributes"] = [call.custom_attributes]
    event["inferenceTime"] = f"{at:%Y-%m-%dT%H:%M:%SZ}"
    record = {"captureData": sides, "eventMetadata": event, "eventVersion": EVENT_VERSION}
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _side(settings: DataCapture, mode: CaptureMode, content_type: str | None, body: bytes) -> dict[str, Any]:
    encoding, data = _encoded(settings, content_type, body)
    side: dict[str, Any] = {} if content_type is None else {"observedContentType": content_type}
    return side | {"mode": mode.value, "data": data, "encoding": encoding}


def _encoded(settings: DataCapture, content_type: str | None, body: bytes) -> tuple[str, str]:
    """Return how a body is written and the body so written; text that is no UTF-8 goes the safe way, as base64."""
    essence = (content_type or "").partition(";")[0].strip().lower()
    for name, types in (("CSV", settings.csv_types), ("JSON", settings.json_types)):
        if _listed(essence, types):
            try:
                return name, body.decode()
            except UnicodeDecodeError:
                break
    return "BASE64", base64.b64encode(body).decode()


def _listed(essence: str, types: Sequence[str]) -> bool:
    return any(essence == it.lower() for it in types)
