"""Specs and states come back from their documents as they were."""

from datetime import UTC, datetime

import orjson

from millrace.jobs.documents import from_document, to_document
from millrace.jobs.endpoint import ModelContainer, ModelData
from millrace.jobs.job import Instance, InstanceFinished, InstanceState, JobStatus, TransformJob
from millrace.jobs.transform import (
    DataProcessing,
    InstanceOutcome,
    JoinSource,
    ObjectFailure,
    Progress,
    SplitType,
    TransformSpec,
)
from millrace.names import ObjectPrefix, sagemaker_arn

MOMENT = datetime(2026, 2, 3, 4, 5, 6, 789012, tzinfo=UTC)


def job() -> TransformJob:
    outcome = InstanceOutcome(
        progress=Progress(objects_total=3, records=10, latency_p50_ms=1.5),
        failures=(ObjectFailure(key="k", label="ClientError", message="m", record=2, offset=7),),
        failure_count=1,
    )
    return TransformJob(
        name="j",
        arn=sagemaker_arn("transform-job", "j", region="eu-west-1"),
        status=JobStatus.FAILED,
        created_at=MOMENT,
        modified_at=MOMENT,
        ended_at=MOMENT,
        failure_reason="ClientError: x",
        spec=TransformSpec(
            model="m",
            source=ObjectPrefix("b", "in/"),
            output=ObjectPrefix("b", "out"),
            split=SplitType.LINE,
            max_payload_bytes=0,
            processing=DataProcessing(input_filter="$[1:]", join_source=JoinSource.INPUT),
            environment={"A": "1"},
        ),
        containers=(ModelContainer(image="i", data=ModelData(uri="s3://b/m.tar.gz"), environment={"B": "2"}),),
        instances=(Instance(index=0, state=InstanceState.DONE, attempt=2, outcome=outcome),),
    )


def test_a_job_survives_its_document() -> None:
    """What is stored as JSON is read as it was."""
    stored = orjson.loads(orjson.dumps(to_document(job())))
    assert from_document(TransformJob, stored) == job()


def test_an_event_survives_its_document() -> None:
    """Events are stored in the same way."""
    event = InstanceFinished(at=MOMENT, index=1, attempt=3, failure_reason="AlgorithmError: y")
    assert from_document(InstanceFinished, orjson.loads(orjson.dumps(to_document(event)))) == event


def test_members_of_a_newer_release_are_ignored() -> None:
    """A document with unknown members can still be read."""
    document = {**to_document(job()), "from_the_future": {"x": 1}}
    assert from_document(TransformJob, document) == job()


def test_defaults_are_not_stored() -> None:
    """Documents hold what was said, so that they stay small and defaults can be told apart."""
    spec = TransformSpec(model="m", source=ObjectPrefix("b", ""), output=ObjectPrefix("b", "o"))
    assert set(to_document(spec)) == {"model", "source", "output"}
