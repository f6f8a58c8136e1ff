"""Find the records that a container cannot take among those of a payload that fails, and word what is told of them.

Theory. A payload that fails for good is cut in two at a record's end, and each half is sent like a payload of its own;
halves that fail are cut again, down to the single records that are bad. n bad records among m cost about n log2 m more
requests. What the halves answered, put together in the order of the input, is the answer of the payload. Pure.
"""

import base64
from dataclasses import dataclass

import orjson

from millrace.dataplane.csv_records import middle_record
from millrace.dataplane.frames import FrameReader
from millrace.dataplane.payload import Payload
from millrace.dataplane.split import FRAMINGS
from millrace.jobs.transform import ALGORITHM_ERROR, SplitType

__all__ = ["BadRecord", "Isolation", "error_line", "halves", "quarantine_key"]

SHOWN_BYTES = 1024 * 1024
"""Of a bad record as much is told; a longer one is cut, and that is told too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BadRecord:
    """A record without a result. `record` counts from 1, `offset` is its first byte in the (decompressed) object."""

    record: int
    offset: int
    text: bytes
    """The record as it stands in the object, or its beginning; without its framing, if it was sent without."""
    label: str
    message: str
    status: int | None = None
    answer: str | None = None
    length: int | None = None
    """How many bytes of the object the record takes, framing included; None if it is all of `text`."""

    @property
    def size(self) -> int:
        """How many bytes of the object it takes."""
        return len(self.text) if self.length is None else self.length

    @property
    def is_by_algorithm(self) -> bool:
        """Whether the container is at fault for it, and not the client."""
        return self.label == ALGORITHM_ERROR


class Isolation:
    """Gathers what became of the parts of one payload, until each of them has a result or is a bad record."""

    def __init__(self, payload: Payload) -> None:
        self.payload = payload
        self.pending = 1
        """Parts that have neither a result nor were found bad; the payload itself is the first."""
        self.room = 0
        """Bytes of room that the answers of parts took."""
        self.bad: list[BadRecord] = []
        self._answers: list[tuple[int, bytes]] = []

    def cut(self, parts: int) -> None:
        """Take note that one part was cut into several."""
        self.pending += parts - 1

    def succeed(self, part: Payload, answer: bytes) -> bool:
        """Take the result of a part; True if it was the last one."""
        self._answers.append((part.offset, answer))
        self.room += len(answer)
        self.pending -= 1
        return not self.pending

    def fail(self, part: Payload, bad: BadRecord, placeholder: bytes | None) -> bool:
        """Take note of a bad record and of what stands for it, if anything does; True if it was the last part."""
        self.bad.append(bad)
        if placeholder is not None:
            self._answers.append((part.offset, placeholder))
        self.pending -= 1
        return not self.pending

    def skip(self) -> bool:
        """Take note of a part of which nothing was to be sent, or nothing is wanted; True if it was the last one."""
        self.pending -= 1
        return not self.pending

    def answers(self) -> list[bytes]:
        """Return the results in the order of the input."""
        return [answer for _, answer in sorted(self._answers)]

    def bad_records(self) -> list[BadRecord]:
        """Return the bad records in the order of the input."""
        return sorted(self.bad, key=lambda bad: bad.offset)


def halves(payload: Payload, original: bytes, split: SplitType, *, quoted_newlines: bool = False) -> list[Payload]:
    """Return a payload of several records as two of about the same size, both with at least one record.

    Args:
        payload: What failed.
        original: Its bytes as they stand in the object.
        split: What its records are.
        quoted_newlines: Whether lines of CSV may go on behind line feeds between quotes.
    """
    if split in FRAMINGS:
        cut, before = _middle_frame(original, split)
    elif quoted_newlines:
        cut, before = middle_record(original)
    else:
        cut = original.find(b"\n", len(original) // 2) + 1
        if not 0 < cut < len(original):
            cut = original.rfind(b"\n", 0, len(original) - 1) + 1
        before = original.count(b"\n", 0, cut)
    if not cut:
        return [payload]
    first, second = original[:cut], original[cut:]
    parts = [
        Payload(first, len(first), payload.record, payload.offset, before),
        Payload(second, len(second), payload.record + before, payload.offset + cut, payload.records - before),
    ]
    for part in parts:
        part.index = payload.index
    return parts


def _middle_frame(original: bytes, split: SplitType) -> tuple[int, int]:
    """Return the end of the record in the middle, and how many records end there."""
    reader = FrameReader(FRAMINGS[split]())
    reader.feed(original)
    reader.finish()
    ends = []
    while (step := reader.next_step()) is not None:
        ends += [end for end, *_ in step.spans] if step.spans else [step.end]
    count = max(1, len(ends) // 2)
    return (ends[count - 1], count) if len(ends) > 1 else (0, 0)


def quarantine_key(output_key: str) -> str:
    """Return the key of the object that tells of the bad records of the input with that output."""
    return output_key.removesuffix(".out") + ".errors.jsonl"


def error_line(bad: BadRecord) -> bytes:
    """Return a line of that object: what is UTF-8 as text, anything else in base64."""
    shown = bad.text[:SHOWN_BYTES]
    line: dict[str, object] = {"record": bad.record, "offset": bad.offset, "size": bad.size}
    try:
        line["input"] = shown.decode()
    except UnicodeDecodeError:
        line["input_base64"] = base64.b64encode(shown).decode()
    line |= {"error": f"{bad.label}: {bad.message}", "status": bad.status, "answer": bad.answer}
    return orjson.dumps(line) + b"\n"
