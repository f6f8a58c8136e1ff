"""Rows of answers, counted by their lines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.acceptance.transform_rig import job, model, run_job

from millrace.dataplane.answer_lines import LineCount, rows_out
from millrace.jobs.transform import AssembleWith, BatchStrategy, EffectiveSettings, InstanceOutcome, Progress, SplitType

TEXT = st.lists(st.sampled_from([b"", b"\n", b"a", b"b\n", b"\n\n\n", b"c\n\nd"]))


@given(TEXT, st.booleans())
def test_lines_that_are_not_blank_are_counted_however_the_text_is_cut(pieces: list[bytes], views: bool) -> None:
    """The last one needs no end."""
    count = LineCount()
    for piece in pieces:
        count.add(memoryview(piece) if views else piece)
    assert count.total == sum(1 for line in b"".join(pieces).split(b"\n") if line)


@pytest.mark.parametrize("strategy", list(BatchStrategy))
@pytest.mark.parametrize("assemble", list(AssembleWith))
async def test_a_model_that_leaves_rows_out_is_noticed(strategy: BatchStrategy, assemble: AssembleWith) -> None:
    """SageMaker allows it where nothing is joined; blank lines between answers are no rows."""
    asked = {"MILLRACE_REPORT": "true"}
    spec = job(split=SplitType.LINE, strategy=strategy, assemble_with=assemble, accept="text/csv", environment=asked)
    drops = model(lambda body: b"".join(line for line in body.splitlines(True) if not line.startswith(b"2")))
    result = await run_job(spec, drops, b"1\n2\n3\n2\n")
    assert (result.outcome.progress.records, result.outcome.progress.rows_out) == (4, 2)


async def test_placeholders_are_no_rows() -> None:
    """Not even where they are `null`."""
    spec = job(
        split=SplitType.LINE,
        accept="application/jsonlines",
        environment={"MILLRACE_ON_ERROR": "skip"},
    )
    outcome = InstanceOutcome(progress=Progress(records=3, records_failed=2, rows_out=5), effective=EffectiveSettings())
    assert rows_out(spec, [(1, outcome)]) == 3


@pytest.mark.parametrize(
    ("members", "attempt"),
    [({"accept": "image/png"}, 1), ({"split": SplitType.NONE}, 1), ({}, 2)],
)
async def test_what_is_not_known_is_not_told(members: dict[str, object], attempt: int) -> None:
    """Other types have no lines; an attempt counts its own only."""
    spec = job(**{"split": SplitType.LINE, "accept": "text/csv", **members})
    outcome = InstanceOutcome(progress=Progress(records=3), effective=EffectiveSettings())
    assert rows_out(spec, [(attempt, outcome)]) is None
