"""Which transform jobs may go on with the work of which."""

from dataclasses import replace
from datetime import timedelta

import pytest

from millrace.errors import ValidationError
from millrace.jobs.endpoint import ModelContainer, ModelData
from millrace.jobs.job import JobStatus, TransformJob
from millrace.jobs.resumption import check_resumption, resumed_jobs
from millrace.jobs.transform import (
    MIB,
    AssembleWith,
    BatchStrategy,
    Compression,
    DataCapture,
    DataProcessing,
    JoinSource,
    SourceType,
    SplitType,
    TransformSpec,
)
from millrace.names import ObjectPrefix
from millrace.testing.contract_jobs import transform_job

MODEL = ModelContainer(
    image="knn:1",
    resolved_image="knn@sha256:1",
    data=ModelData(uri="s3://b/model.tar.gz"),
    environment={"A": "secret", "MILLRACE_X": "1"},
)
EARLIER: TransformJob = replace(transform_job("old"), status=JobStatus.FAILED, containers=(MODEL,), id=7)
CAPTURE = DataCapture(destination=ObjectPrefix("b", "captured"))

SAME = {
    "max_concurrent_transforms": 9,
    "invocation_timeout_seconds": 1.0,
    "invocation_max_retries": 0,
    "instance_type": "ml.c5.large",
    "instance_count": 3,
    "model": "another-name",
    "capture": CAPTURE,
    "environment": {
        "MILLRACE_RESUME_FROM": "old",
        "MILLRACE_MAX_FAILED_RECORDS": "3",
        "MILLRACE_REPORT": "true",
    },
}
OTHER = [
    ({"source_type": SourceType.MANIFEST}, 'S3DataType ("ManifestFile" instead of "S3Prefix")'),
    ({"source": ObjectPrefix("b", "x")}, 'S3Uri ("s3://b/x" instead of "s3://b/in/")'),
    ({"content_type": "text/csv"}, 'TransformInput.ContentType ("text/csv" instead of none)'),
    ({"compression": Compression.GZIP}, 'TransformInput.CompressionType ("Gzip" instead of "None")'),
    ({"split": SplitType.LINE}, 'TransformInput.SplitType ("Line" instead of "None")'),
    ({"output": ObjectPrefix("b", "x")}, 'TransformOutput.S3OutputPath ("s3://b/x" instead of "s3://b/out")'),
    ({"accept": "text/csv"}, 'TransformOutput.Accept ("text/csv" instead of none)'),
    ({"assemble_with": AssembleWith.LINE}, 'TransformOutput.AssembleWith ("Line" instead of "None")'),
    ({"output_kms_key": "k"}, 'TransformOutput.KmsKeyId ("k" instead of none)'),
    ({"strategy": BatchStrategy.SINGLE_RECORD}, 'BatchStrategy ("SingleRecord" instead of none)'),
    ({"max_payload_bytes": 0}, 'MaxPayloadInMB ("0" instead of none)'),
    ({"max_payload_bytes": 3 * MIB}, 'MaxPayloadInMB ("3" instead of none)'),
    ({"processing": DataProcessing(input_filter="$[1]")}, 'DataProcessing.InputFilter ("$[1]" instead of "$")'),
    ({"processing": DataProcessing(output_filter="$[1]")}, 'DataProcessing.OutputFilter ("$[1]" instead of "$")'),
    (
        {"processing": DataProcessing(join_source=JoinSource.INPUT)},
        'DataProcessing.JoinSource ("Input" instead of "None")',
    ),
    ({"capture": replace(CAPTURE, generate_inference_id=True)}, 'GenerateInferenceId ("True" instead of "False")'),
    ({"environment": {"MILLRACE_CSV_HEADER": "skip"}}, 'Environment.MILLRACE_CSV_HEADER ("skip" instead of none)'),
    ({"environment": {"TOKEN": "s"}}, "Environment.TOKEN (their values are not told)"),
]
OTHER_MODELS = [
    ((), 'the number of the model\'s containers ("0" instead of "1")'),
    ((replace(MODEL, resolved_image="knn@sha256:2"),), 'Image ("knn@sha256:2" instead of "knn@sha256:1")'),
    ((replace(MODEL, data=None),), "container 1: model data (none instead of "),
    ((replace(MODEL, environment={"MILLRACE_X": "1"}),), "Environment.A (their values are not told)"),
    ((replace(MODEL, environment={"A": "secret"}),), 'Environment.MILLRACE_X (none instead of "1")'),
]


def new(**members: object) -> TransformJob:
    """Return a job that asks for what the earlier one did, and for other members."""
    spec: TransformSpec = replace(EARLIER.spec, **members)  # type: ignore[arg-type]
    return replace(EARLIER, name="new", status=JobStatus.IN_PROGRESS, spec=spec, id=8)


def test_what_decides_no_bytes_may_differ() -> None:
    """How many requests and instances there are, how long is waited, what the model is called."""
    check_resumption(new(**SAME), EARLIER)


def test_bad_records_may_be_quarantined_from_now_on() -> None:
    """Outputs have none so far; what is skipped is another text, and what was quarantined can't fail any more."""
    quarantines = {"environment": {"MILLRACE_ON_ERROR": "quarantine", "MILLRACE_MAX_FAILED_RECORDS": "9"}}
    check_resumption(new(**quarantines), EARLIER)
    check_resumption(new(**quarantines), replace(EARLIER, spec=new(environment={"MILLRACE_ON_ERROR": "fail"}).spec))
    quarantined = replace(EARLIER, spec=new(**quarantines).spec)
    with pytest.raises(ValidationError, match='MILLRACE_ON_ERROR \\(none instead of "quarantine"\\)'):
        check_resumption(new(), quarantined)
    with pytest.raises(ValidationError, match='MILLRACE_ON_ERROR \\("skip" instead of none\\)'):
        check_resumption(new(environment={"MILLRACE_ON_ERROR": "skip"}), EARLIER)


@pytest.mark.parametrize(("members", "text"), OTHER)
def test_what_decides_bytes_must_be_the_same(members: dict[str, object], text: str) -> None:
    """The message names the member and both values."""
    with pytest.raises(ValidationError) as raised:
        check_resumption(new(**members), EARLIER)
    assert text in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(("containers", "text"), OTHER_MODELS)
def test_the_model_must_be_the_same(containers: tuple[ModelContainer, ...], text: str) -> None:
    """Its images by digest, its data and variables."""
    with pytest.raises(ValidationError) as raised:
        check_resumption(replace(new(), containers=containers), EARLIER)
    assert text in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("status", [JobStatus.IN_PROGRESS, JobStatus.STOPPING])
def test_a_job_at_work_is_not_resumed(status: JobStatus) -> None:
    """It would be done by two."""
    with pytest.raises(ValidationError, match=f'"old" is in status "{status}" instead'):
        check_resumption(new(), replace(EARLIER, status=status))


def test_a_chain_is_known_latest_first() -> None:
    """Works of one name are told apart by the time of their creation."""
    second = replace(new(), resumes=resumed_jobs(EARLIER))
    third = replace(EARLIER, id=9, created_at=EARLIER.created_at + timedelta(seconds=1), resumes=resumed_jobs(second))
    assert [it.id for it in third.resumes] == [8, 7]
    assert third.resumes[1].work == EARLIER.work != third.work
