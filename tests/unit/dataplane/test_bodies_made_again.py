"""Tests of long bodies that a filter makes: they are not held beside the records that they are made of."""

import gc
from dataclasses import replace
from typing import Any

import pytest
from tests.acceptance.transform_rig import job, run_job

from millrace.dataplane import EffectiveSettings
from millrace.dataplane.payload import SHORT_BODY_BYTES, Payload
from millrace.jobs.transform import AssembleWith, BatchStrategy, DataProcessing, JoinSource, SplitType
from millrace.jobs.transform_options import JobOptions, OnError
from millrace.testing.model_server import CLOSE, ModelReply, ModelRequest

ROWS = [b"%06d,%b,%d" % (n, b"x" * 40, n * n) for n in range(10_000)]
BODY_BYTES = 4 * SHORT_BODY_BYTES


def filtered_job(**settings: Any) -> Any:
    return job(
        split=SplitType.LINE,
        strategy=BatchStrategy.MULTI_RECORD,
        content_type="text/csv",
        accept="text/csv",
        assemble_with=AssembleWith.LINE,
        processing=DataProcessing(input_filter="$[1:]", output_filter="$[0,-1]", join_source=JoinSource.INPUT),
        **settings,
    )


SETTINGS = EffectiveSettings(
    max_concurrent_transforms=2, max_payload_bytes=BODY_BYTES, strategy=BatchStrategy.MULTI_RECORD
)
ONE_AT_A_TIME = replace(SETTINGS, max_concurrent_transforms=1)
EXPECTED = b"".join(b"%b,%b\n" % (row[:6], row.rsplit(b",", 1)[1]) for row in ROWS)


@pytest.mark.parametrize(("environment", "header"), [({}, b""), ({"MILLRACE_CSV_HEADER": "repeat"}, b"id,text,square")])
@pytest.mark.parametrize("closes", [False, True])
async def test_a_long_filtered_payload_is_sent_again_as_it_was(
    closes: bool, environment: dict[str, str], header: bytes
) -> None:
    """Another attempt has the same bytes, those that the header of each request has included."""
    seen: dict[bytes, int] = {}

    async def behave(request: ModelRequest) -> Any:
        if request.path != "/invocations":
            return ModelReply(status=404)
        seen[request.body] = seen.get(request.body, 0) + 1
        if seen[request.body] == 1 and closes and len(seen) == 3:  # on a connection that has been used
            return CLOSE
        if seen[request.body] == 1 and not closes:
            return ModelReply(b"busy", status=503, headers=(("Retry-After", "0"),))
        return ModelReply(request.body.removeprefix(b"text,square\n"))

    spec = filtered_job(environment=environment)
    result = await run_job(spec, behave, b"\n".join([header, *ROWS] if header else ROWS), effective=ONE_AT_A_TIME)
    assert result.output == EXPECTED
    assert sorted(seen.values())[-1] == 2
    assert sum(seen.values()) == (len(seen) + 1 if closes else 2 * len(seen))
    assert all(body.startswith(b"text,square\n") for body in seen) == bool(header)


@pytest.mark.parametrize("on_error", list(OnError))
async def test_what_was_sent_of_a_long_filtered_payload_is_not_held(on_error: OnError) -> None:
    """While its answer is awaited, its records are there alone: they are what the answer is joined with."""
    held = set[tuple[int, bool]]()

    async def behave(request: ModelRequest) -> ModelReply:
        if request.path != "/invocations":
            return ModelReply(status=404)
        payloads = [it for it in gc.get_objects() if type(it) is Payload and it.sent_size == len(request.body)]
        held.update((len(it.joined()), bool(it.raw)) for it in payloads)
        return ModelReply(request.body)

    result = await run_job(
        filtered_job(), behave, b"\n".join(ROWS), effective=SETTINGS, options=JobOptions(on_error=on_error)
    )
    assert result.output == EXPECTED
    assert {(size, has_records) for size, has_records in held if size > SHORT_BODY_BYTES} == set()
    assert (0, True) in held


@pytest.mark.parametrize("on_error", [OnError.SKIP, OnError.QUARANTINE])
async def test_records_that_bad_ones_are_looked_for_among_are_held_once(on_error: OnError) -> None:
    """What halves are cut from is what is sent."""
    twice: list[Payload] = []

    async def behave(request: ModelRequest) -> ModelReply:
        if request.path != "/invocations":
            return ModelReply(status=404)
        payloads = [it for it in gc.get_objects() if type(it) is Payload and it.sent_size == len(request.body)]
        twice.extend(it for it in payloads if it.raw is not it.body)
        return ModelReply(request.body)

    spec = job(split=SplitType.LINE, strategy=BatchStrategy.MULTI_RECORD, assemble_with=AssembleWith.NONE)
    text = b"".join(row + b"\n" for row in ROWS)
    result = await run_job(spec, behave, text, effective=SETTINGS, options=JobOptions(on_error=on_error))
    assert result.output == text
    assert not twice
