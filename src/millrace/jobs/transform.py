"""What a transform job was asked to do, with every default filled in, and how one instance of it fared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from millrace.errors import FAILURE_REASON_LIMIT
from millrace.jobs.transform_options import FailuresAllowed
from millrace.names import ObjectPrefix
from millrace.told import printable, shortened

__all__ = [
    "FAILURE_PRECEDENCE",
    "LATENCY_BOUNDS",
    "AssembleWith",
    "BatchStrategy",
    "Compression",
    "DataCapture",
    "DataProcessing",
    "EffectiveSettings",
    "InstanceOutcome",
    "JoinSource",
    "ObjectFailure",
    "OpenObject",
    "Progress",
    "SourceType",
    "SplitType",
    "TransformSpec",
    "TuningOutcome",
    "TuningPoint",
    "transform_failure_reason",
]

MIB = 1024 * 1024
DEFAULT_MAX_PAYLOAD_BYTES = 6 * MIB

ALGORITHM_ERROR, CLIENT_ERROR = "AlgorithmError", "ClientError"
FAILURE_PRECEDENCE = ("InternalServerError", ALGORITHM_ERROR, CLIENT_ERROR)
"""Which class of failure names a job whose objects failed for different reasons."""


class SplitType(StrEnum):
    """How an object is cut into records."""

    NONE = "None"
    LINE = "Line"
    RECORDIO = "RecordIO"
    TFRECORD = "TFRecord"


class BatchStrategy(StrEnum):
    """How many records one payload holds."""

    MULTI_RECORD = "MultiRecord"
    SINGLE_RECORD = "SingleRecord"


class AssembleWith(StrEnum):
    """What follows each answer in the output object."""

    NONE = "None"
    LINE = "Line"


class Compression(StrEnum):
    """How input objects are compressed."""

    NONE = "None"
    GZIP = "Gzip"


class JoinSource(StrEnum):
    """What answers are joined with."""

    NONE = "None"
    INPUT = "Input"


class SourceType(StrEnum):
    """What the input URI names."""

    PREFIX = "S3Prefix"
    MANIFEST = "ManifestFile"


@dataclass(frozen=True, kw_only=True, slots=True)
class DataProcessing:
    """Filters as JSONPath texts ("$" does nothing), and the join."""

    input_filter: str = "$"
    output_filter: str = "$"
    join_source: JoinSource = JoinSource.NONE

    @property
    def is_identity(self) -> bool:
        """Whether bytes pass through untouched."""
        return self == DataProcessing()


@dataclass(frozen=True, kw_only=True, slots=True)
class DataCapture:
    """Where manifests of what was transformed go, and whether rows of the output get ids.

    `kms_key` is named to the store for the manifests; "" for none.
    """

    destination: ObjectPrefix
    kms_key: str = ""
    generate_inference_id: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformSpec:
    """What the client asked for.

    None stands for "not said" in the three settings that /execution-parameters may answer:
    `max_concurrent_transforms` (per instance), `max_payload_bytes` (0 = no limit), `strategy`.
    """

    model: str
    source: ObjectPrefix
    """The prefix, or (for a manifest) the manifest object."""
    source_type: SourceType = SourceType.PREFIX
    output: ObjectPrefix
    split: SplitType = SplitType.NONE
    compression: Compression = Compression.NONE
    assemble_with: AssembleWith = AssembleWith.NONE
    content_type: str | None = None
    accept: str | None = None
    max_concurrent_transforms: int | None = None
    max_payload_bytes: int | None = None
    strategy: BatchStrategy | None = None
    invocation_timeout_seconds: float = 600.0
    invocation_max_retries: int = 3
    processing: DataProcessing = field(default_factory=DataProcessing)
    instance_type: str = "ml.m5.large"
    instance_count: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)
    output_kms_key: str = ""
    capture: DataCapture | None = None

    @property
    def tags_rows(self) -> bool:
        """Whether each row of the output gets an id and the time of the inference."""
        return self.capture is not None and self.capture.generate_inference_id


@dataclass(frozen=True, kw_only=True, slots=True)
class EffectiveSettings:
    """What an instance runs with; `max_payload_bytes` 0 means no limit, and that bodies are sent chunked."""

    max_concurrent_transforms: int = 1
    max_payload_bytes: int = DEFAULT_MAX_PAYLOAD_BYTES
    strategy: BatchStrategy = BatchStrategy.MULTI_RECORD

    def __str__(self) -> str:
        """The first line of the data log."""
        strategy = "MULTI_RECORD" if self.strategy is BatchStrategy.MULTI_RECORD else "SINGLE_RECORD"
        return (
            f"MaxConcurrentTransforms={self.max_concurrent_transforms}, "
            f"MaxPayloadInMB={self.max_payload_bytes // MIB}, BatchStrategy={strategy}"
        )


LATENCY_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds; requests to containers are counted between these."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenObject:
    """How far one object is that is in work; sizes are those of the object as stored."""

    key: str
    bytes_in: int = 0
    bytes_done: int = 0
    """Of those that were read, about how many are of records with a result."""
    bytes_total: int = 0
    records: int = 0
    records_failed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """Live counters of one instance; all only grow, save `in_flight`, percentiles (milliseconds) and `bytes_done`."""

    objects_total: int = 0
    listed: bool = True
    """Whether all objects are listed; else there are more of them, and of bytes, than the totals tell."""
    objects_done: int = 0
    objects_failed: int = 0
    records: int = 0
    """Records with a result."""
    records_failed: int = 0
    """Bad records, where those do not fail their object."""
    records_filtered: int = 0
    """Records that are not sent, since they are blank."""
    records_failed_by_algorithm: int = 0
    """Of the bad ones, those that the container is at fault for: it answered 5xx, too much, or not at all."""
    requests: int = 0
    retries: int = 0
    bytes_total: int = 0
    """Size of the input objects as stored (compressed, if they are)."""
    bytes_in: int = 0
    """Bytes of them read so far."""
    bytes_done: int = 0
    """About how many are done with: those of records with a result, and of objects that failed."""
    bytes_out: int = 0
    rows_out: int = 0
    """Lines of outputs of objects that are done, by this attempt, where those can be counted."""
    in_flight: int = 0
    latency_p50_ms: float = 0.0
    latency_p99_ms: float = 0.0
    latency_seconds: float = 0.0
    """Sum over all requests to the container."""
    latency_counts: tuple[int, ...] = ()
    """Requests by latency: up to each of LATENCY_BOUNDS (and above the one before), then the rest."""
    open_objects: tuple[OpenObject, ...] = ()
    """Objects in work, the first ones in key order; none at the end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectFailure:
    """Why one object has no output.

    `label` is "ClientError" or "AlgorithmError". `record` counts from 1, `offset` is that record's first byte in the
    (decompressed) object; both None where they do not apply. `status` and `answer` (cut) are the container's.
    """

    key: str
    label: str
    message: str
    record: int | None = None
    offset: int | None = None
    status: int | None = None
    answer: str | None = None
    is_range: bool = False
    """Whether that happened in a range of the object, of which others may fail too."""

    @property
    def further_answer(self) -> str | None:
        """What the container answered, or None where the message says it all."""
        return None if self.answer == self.message else self.answer or None


@dataclass(frozen=True, kw_only=True, slots=True)
class TuningPoint:
    """One setting that the autotuner measured; a refusal has no rates."""

    at_seconds: float
    concurrency: int
    payload_bytes: int
    verdict: str
    records_per_second: float = 0.0
    megabytes_per_second: float = 0.0
    mean_latency_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class TuningOutcome:
    """What the autotuner of an instance found: in words, as settings, and as the curve that it saw.

    `payload_bytes` is None where only concurrency was searched for.
    """

    chosen: str
    concurrency: int
    payload_bytes: int | None = None
    curve: tuple[TuningPoint, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceOutcome:
    """How one instance ended: its failed objects in key order (the first ones in full), and the final counters.

    `effective` is what it ran with, None if it never came so far; `tuning` what the autotuner found.
    """

    progress: Progress
    failures: tuple[ObjectFailure, ...] = ()
    failure_count: int = 0
    stopped: bool = False
    effective: EffectiveSettings | None = None
    tuning: TuningOutcome | None = None


def transform_failure_reason(outcomes: Sequence[InstanceOutcome], allowed: FailuresAllowed | None = None) -> str | None:
    """Return a job's FailureReason out of its instances' outcomes, or None if no object failed.

    No more records than `allowed` may be bad, in all instances together; of those, too, any that the container is at
    fault for decides whose fault the job's failure is.

    SageMaker's own text stands first, for clients that match it; what it leaves to the log follows: how many objects
    failed, and where and why the first one did.

    Source:
        batch-transform.md 1.5: AlgorithmError wins over ClientError.
    """
    failures = [failure for outcome in outcomes for failure in outcome.failures]
    if not failures:
        return _too_many_bad_records(outcomes, allowed)
    count = sum(max(outcome.failure_count, len(outcome.failures)) for outcome in outcomes)
    ranges = [failure.key for failure in failures if failure.is_range]
    count -= len(ranges) - len(set(ranges))
    total = sum(outcome.progress.objects_total for outcome in outcomes)
    first = min(failures, key=lambda it: (FAILURE_PRECEDENCE.index(it.label), it.key.encode(), it.offset or 0))
    key = shortened(first.key)
    place = key if first.record is None else f"{key}, record {first.record} at byte {first.offset}"
    text = (
        f"{first.label}: See job logs for more information. "
        f"{count} of {total} object{'s' * (total != 1)} failed; first: {place}: {first.message}"
    )
    if first.further_answer:
        text += f": {' '.join(first.further_answer.split())}"
    return printable(text)[:FAILURE_REASON_LIMIT]


def _too_many_bad_records(outcomes: Sequence[InstanceOutcome], allowed: FailuresAllowed | None) -> str | None:
    failed = sum(outcome.progress.records_failed for outcome in outcomes)
    records = failed + sum(outcome.progress.records for outcome in outcomes)
    if allowed is None or not allowed.exceeded(failed, records):
        return None
    by_algorithm = any(outcome.progress.records_failed_by_algorithm for outcome in outcomes)
    return (
        f"{ALGORITHM_ERROR if by_algorithm else CLIENT_ERROR}: See job logs for more information. "
        f"{failed} of {records} records failed, more than {allowed.text} (MILLRACE_MAX_FAILED_RECORDS)"
    )
