"""Laws of captured manifests and tagged rows."""

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from millrace.dataplane.answer_text import whole_text
from millrace.dataplane.batch import Payload
from millrace.dataplane.capture import iter_manifest, plan_manifests
from millrace.dataplane.inference_ids import ID_MEMBER, TIME_MEMBER, InferenceIds
from millrace.dataplane.jsonpath import Format
from millrace.dataplane.manifest import parse_manifest
from millrace.dataplane.plan import Found, name_outputs
from millrace.dataplane.processing import Processing
from millrace.dataplane.rows import parse_csv, serialize_csv
from millrace.errors import ClientFailure
from millrace.jobs.transform import DataCapture, SplitType, TransformSpec
from millrace.names import ObjectPrefix, ObjectRef, relative_key, sagemaker_arn

START = datetime(2024, 1, 1, tzinfo=UTC)
names = st.text("ab/", min_size=1, max_size=6)
prefixes = st.text("ab/", max_size=4)
cells = st.lists(st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), max_size=5), min_size=1)
rows = st.lists(cells.filter(lambda row: row != [""]), max_size=5)
documents = st.none() | st.integers() | st.lists(st.integers()) | st.dictionaries(st.text("abS", max_size=3), st.none())


def spec(accept: str) -> TransformSpec:
    """Return a job that gives ids to rows, and asks for nothing else."""
    return TransformSpec(
        model="m",
        source=ObjectPrefix("b", "in/"),
        output=ObjectPrefix("b", "out"),
        accept=accept,
        split=SplitType.LINE,
        capture=DataCapture(destination=ObjectPrefix("b", "c"), generate_inference_id=True),
    )


def written(accept: str, answer: bytes) -> bytes:
    return whole_text(Processing(spec(accept), InferenceIds(START)).complete(Payload(b"", 0, 1, 0, 1), answer))


@given(prefixes, st.sets(names, min_size=1, max_size=5), prefixes)
def test_a_manifest_names_what_was_captured(source: str, rest: set[str], output: str) -> None:
    """Read as a job's input, a captured manifest is the captured objects again, whatever they are called."""
    keys = {source + name for name in rest}
    try:
        captured = name_outputs(
            [Found(ObjectRef("b", key), 1, relative_key(source, key)) for key in keys], ObjectPrefix("b", output)
        )
    except ClientFailure:
        return  # two names that would be one output
    plans = plan_manifests(
        DataCapture(destination=ObjectPrefix("b", "c")),
        captured,
        output=ObjectPrefix("b", output),
        arn=sagemaker_arn("transform-job", "j", region="us-east-1"),
        created_at=START,
        job_start=START,
        index=0,
    )
    inputs, outputs = (parse_manifest(b"".join(iter_manifest(plan.groups)), "m") for plan in plans)
    assert [entry.ref for entry in inputs] == [entry.ref for entry in captured]
    assert [entry.ref for entry in outputs] == [entry.output for entry in captured]


@given(rows)
def test_a_tagged_csv_row_is_the_row_and_two_columns(table: list[list[str]]) -> None:
    """Without its last two columns the output is the answer."""
    answer = b"".join(serialize_csv(row) + b"\n" for row in table)
    found = [parse_csv(line) for line in written(Format.CSV, answer).splitlines()]
    assert [row[:-2] for row in found] == table
    assert {row[-1] for row in found} <= {"2024-01-01T00:00:00Z"}
    assert len({row[-2] for row in found}) == len(table)


@given(st.lists(documents, max_size=5))
def test_a_tagged_json_row_is_the_row_and_two_members(values: list[Any]) -> None:
    """Without the two members the output is the answer; what is no object stands as SageMakerOutput."""
    answer = b"".join(json.dumps(value).encode() + b"\n" for value in values)
    found = [json.loads(line) for line in written(Format.JSON_LINES, answer).splitlines()]
    assert len({row.pop(ID_MEMBER) for row in found}) == len(values)
    assert {row.pop(TIME_MEMBER) for row in found} <= {"2024-01-01T00:00:00Z"}
    assert found == [value if isinstance(value, dict) else {"SageMakerOutput": value} for value in values]
