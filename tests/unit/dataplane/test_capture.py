"""Where manifests of captured objects go, and what they say."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from millrace.dataplane.capture import ManifestPlan, iter_manifest, manifest_meta, plan_manifests
from millrace.dataplane.plan import Found, InputObject, name_outputs
from millrace.jobs.transform import DataCapture
from millrace.names import ObjectPrefix, ObjectRef, relative_key, sagemaker_arn

CAPTURE = DataCapture(destination=ObjectPrefix("mon", "captured/"))
ARN = sagemaker_arn("transform-job", "j", region="us-east-1")
CREATED = datetime(2024, 2, 29, 22, 0, tzinfo=UTC)
STARTED = datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC)


def found(source: str, *keys: str, output: str = "out") -> list[InputObject]:
    """Return what a job over a prefix of bucket b has, given its keys."""
    named = [Found(ObjectRef("b", key), 1, relative_key(source, key)) for key in keys]
    return name_outputs(named, ObjectPrefix("b", output))


def plan(captured: Sequence[InputObject], **changed: Any) -> tuple[ManifestPlan, ...]:
    """Plan the manifests of instance 0 of a job, or of what is changed of it."""
    facts: dict[str, Any] = {
        "output": ObjectPrefix("b", "out"),
        "arn": ARN,
        "created_at": CREATED,
        "job_start": STARTED,
        "index": 0,
    }
    return plan_manifests(CAPTURE, captured, **{**facts, **changed})


def texts(plans: Sequence[ManifestPlan]) -> list[str]:
    return [b"".join(iter_manifest(one.groups)).decode() for one in plans]


@pytest.mark.spec("B §9.7 J23")
def test_two_manifests_are_planned() -> None:
    """One lists the inputs and one their outputs, below the hour in which the job started."""
    plans = plan(found("in/", "in/b.csv", "in/a.csv"))
    assert [str(one.ref).rpartition("/")[0] for one in plans] == [
        "s3://mon/captured/input/2024/02/29/23",
        "s3://mon/captured/output/2024/02/29/23",
    ]
    assert texts(plans) == [
        '[{"prefix":"s3://b/in/"},"a.csv","b.csv"]',
        '[{"prefix":"s3://b/out/"},"a.csv.out","b.csv.out"]',
    ]


@pytest.mark.parametrize(
    ("source", "keys", "expected"),
    [
        ("in/", ["in/x/a.csv"], [{"prefix": "s3://b/in/"}, "x/a.csv"]),
        ("in", ["in/a.csv"], [{"prefix": "s3://b/in/"}, "a.csv"]),
        ("in/a.csv", ["in/a.csv"], [{"prefix": "s3://b/in/"}, "a.csv"]),
        ("in/pa", ["in/part-1", "in/part-2"], [{"prefix": "s3://b/in/"}, "part-1", "part-2"]),
        ("in", ["in-old/a.csv", "in/a.csv"], [{"prefix": "s3://b/"}, "in-old/a.csv", "in/a.csv"]),
        ("", ["a.csv"], [{"prefix": "s3://b/"}, "a.csv"]),
        ("in/", ["in/"], [{"prefix": "s3://b/"}, "in/"]),
        ("in/", ["in//a.csv"], [{"prefix": "s3://b/in/"}, "/a.csv"]),
        ("in/", ['in/a "ü"\\.csv'], [{"prefix": "s3://b/in/"}, 'a "ü"\\.csv']),
    ],
)
def test_inputs_are_listed_below_their_source(source: str, keys: list[str], expected: list[Any]) -> None:
    """The prefix is the folder that relative names start from: with it, an entry is a whole key again."""
    inputs, _ = texts(plan(found(source, *keys)))
    assert json.loads(inputs) == expected


@pytest.mark.parametrize(
    ("output", "prefix"), [("out", "s3://b/out/"), ("out/", "s3://b/out/"), ("", "s3://b/"), ("o/p/", "s3://b/o/p/")]
)
def test_outputs_are_listed_below_the_output_path(output: str, prefix: str) -> None:
    """However the path was written, prefix and entry together are the output's key."""
    _, outputs = texts(plan(found("in/", "in/x/a.csv", output=output), output=ObjectPrefix("b", output)))
    assert json.loads(outputs) == [{"prefix": prefix}, "x/a.csv.out"]


def test_inputs_of_several_buckets_have_a_prefix_each() -> None:
    """A manifest may name objects of several buckets; each run of entries follows its own prefix."""
    named = [Found(ObjectRef("b", "in/a.csv"), 1, "a.csv"), Found(ObjectRef("c", "d/e.csv"), 1, "e.csv")]
    inputs, _ = texts(plan(name_outputs(named, ObjectPrefix("b", "out"))))
    assert json.loads(inputs) == [{"prefix": "s3://b/in/"}, "a.csv", {"prefix": "s3://c/d/"}, "e.csv"]


def test_nothing_captured_is_nothing_planned() -> None:
    """An instance without successes writes no manifest."""
    assert plan([]) == ()


def test_another_attempt_names_its_manifests_the_same() -> None:
    """The name follows from job and instance, so that nothing is listed twice after a crash."""
    one = found("in/", "in/a.csv")
    both = found("in/", "in/a.csv", "in/b.csv")
    assert [entry.ref for entry in plan(one)] == [entry.ref for entry in plan(both)]


@pytest.mark.parametrize(
    "changed",
    [
        {"index": 1},
        {"arn": replace(ARN, resource="transform-job/k")},
        {"arn": replace(ARN, region="eu-west-1")},
        {"created_at": CREATED + timedelta(microseconds=1)},
    ],
)
def test_other_jobs_and_instances_name_theirs_differently(changed: dict[str, Any]) -> None:
    """Manifests of different jobs and instances stand side by side in one hour."""
    captured = found("in/", "in/a.csv")
    assert {entry.ref for entry in plan(captured)} & {entry.ref for entry in plan(captured, **changed)} == set()


def test_a_long_manifest_is_worded_in_pieces() -> None:
    """The pieces of ten thousand entries are one document, and none of them is most of it."""
    captured = found("in/", *[f"in/{n:05}.csv" for n in range(10_000)])
    pieces = list(iter_manifest(plan(captured)[0].groups))
    assert json.loads(b"".join(pieces)) == [{"prefix": "s3://b/in/"}, *[f"{n:05}.csv" for n in range(10_000)]]
    assert max(map(len, pieces)) < 60_000


def test_manifests_carry_their_type_and_key() -> None:
    """The key of the capture is named to the store, and none if none was given."""
    assert manifest_meta(CAPTURE).headers == {"content-type": "application/json"}
    headers = manifest_meta(replace(CAPTURE, kms_key="k")).headers
    assert headers["x-amz-server-side-encryption"] == "aws:kms"
    assert headers["x-amz-server-side-encryption-aws-kms-key-id"] == "k"
