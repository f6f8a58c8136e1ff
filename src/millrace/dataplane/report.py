"""Report how a transform job went: what went in, what became of it, how fast, and with which settings.

The numbers obey one law: records in = records with a result + bad ones + blank ones, which are not sent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from millrace.dataplane.answer_lines import rows_out
from millrace.dataplane.report_html import render_report
from millrace.jobs.job import TransformJob
from millrace.jobs.report_keys import HTML_NAME, JSON_NAME, report_key
from millrace.jobs.transform import (
    LATENCY_BOUNDS,
    MIB,
    InstanceOutcome,
    ObjectFailure,
    Progress,
    TransformSpec,
    TuningPoint,
    transform_failure_reason,
)
from millrace.jobs.transform_options import job_options
from millrace.names import Arn, ObjectPrefix, ObjectRef
from millrace.ports.objects import ObjectMeta, ObjectStore

__all__ = ["JobReport", "job_report", "local_report", "write_report", "write_report_files"]

SHOWN_FAILURES = 100
"""Of failed objects as many are told in full."""

_OURS = "MILLRACE_"
"""Only variables of this kind are told of with their values: others may hold secrets, and reports are handed on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceReport:
    """One instance's part."""

    index: int
    attempts: int
    settings: str
    tuning: str
    objects: int
    records: int
    bytes_in: int
    requests: int
    retries: int
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, kw_only=True, slots=True)
class JobReport:
    """A job's report; counts are sums over its instances, times are seconds unless the name says otherwise."""

    name: str
    arn: str
    status: str
    failure_reason: str | None
    model: str
    input: str
    output: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    seconds: float
    """From its start to its end, the model's start included."""
    objects: Mapping[str, int]
    records: Mapping[str, int]
    rows_out: int | None
    """Lines of all outputs that are not blank; None where lines are no rows, or other attempts wrote some of them."""
    size_bytes: Mapping[str, int]
    requests: Mapping[str, int]
    rates: Mapping[str, float]
    latency_ms: Mapping[str, float]
    latency_counts: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Any]
    instances: Sequence[InstanceReport]
    failures: Sequence[ObjectFailure]
    failures_not_shown: int
    tuning: Sequence[TuningPoint]
    """What the autotuners measured, in the order of the instances; empty without one."""

    def to_json(self) -> bytes:
        """Return the report as an indented JSON document."""
        document = asdict(self)
        if not self.tuning:
            del document["tuning"]
        return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)

    def to_html(self) -> str:
        """Return the report as one page that needs nothing else."""
        return render_report(orjson.loads(self.to_json()))


def job_report(job: TransformJob) -> JobReport:
    """Return the report of a job that has ended."""
    outcomes = {it.index: (it.attempt, it.outcome) for it in job.instances if it.outcome is not None}
    return _report(
        job.spec,
        outcomes,
        arn=job.arn,
        status=job.status.value,
        failure_reason=job.failure_reason,
        created_at=job.created_at,
        started_at=job.started_at,
        ended_at=job.ended_at,
    )


def local_report(
    spec: TransformSpec, outcomes: Sequence[InstanceOutcome], *, arn: Arn, created_at: datetime, ended_at: datetime
) -> JobReport:
    """Return the report of a transform that no server ran, of the outcomes of its instances."""
    reason = transform_failure_reason(outcomes, job_options(spec.environment).failures_allowed)
    status = "Failed" if reason is not None else "Completed"
    stopped = any(outcome.stopped for outcome in outcomes)
    return _report(
        spec,
        {index: (1, outcome) for index, outcome in enumerate(outcomes)},
        arn=arn,
        status="Stopped" if stopped else status,
        failure_reason=None if stopped else reason,
        created_at=created_at,
        started_at=created_at,
        ended_at=ended_at,
    )


def _report(
    spec: TransformSpec,
    outcomes: Mapping[int, tuple[int, InstanceOutcome]],
    *,
    arn: Arn,
    status: str,
    failure_reason: str | None,
    created_at: datetime,
    started_at: datetime | None,
    ended_at: datetime | None,
) -> JobReport:
    counters = [outcome.progress for _, outcome in outcomes.values()]
    seconds = max(0.0, (ended_at - started_at).total_seconds()) if ended_at and started_at else 0.0

    def total(field: str) -> int:
        return sum(getattr(progress, field) for progress in counters)

    failures = sorted(
        (
            replace(failure, answer=failure.further_answer)
            for _, outcome in outcomes.values()
            for failure in outcome.failures
        ),
        key=lambda failure: failure.key.encode(),
    )
    failed = sum(max(outcome.failure_count, len(outcome.failures)) for _, outcome in outcomes.values())
    ok, bad, filtered = total("records"), total("records_failed"), total("records_filtered")
    return JobReport(
        name=arn.name,
        arn=str(arn),
        status=status,
        failure_reason=failure_reason,
        model=spec.model,
        input=str(spec.source),
        output=str(spec.output),
        created_at=created_at,
        started_at=started_at,
        ended_at=ended_at,
        seconds=seconds,
        objects={
            "in": total("objects_total"),
            "out": total("objects_done"),
            "failed": total("objects_failed"),
            "not_done": max(0, total("objects_total") - total("objects_done") - total("objects_failed")),
        },
        records={"in": ok + bad + filtered, "out": ok, "failed": bad, "filtered": filtered},
        rows_out=rows_out(spec, list(outcomes.values())),
        size_bytes={"total": total("bytes_total"), "in": total("bytes_in"), "out": total("bytes_out")},
        requests={"sent": total("requests"), "retries": total("retries")},
        rates={
            "records_per_second": _rate(ok + bad + filtered, seconds),
            "bytes_per_second": _rate(total("bytes_in"), seconds),
        },
        latency_ms=_latencies(counters),
        latency_counts=_counts(counters),
        settings=_settings(spec),
        instances=[_instance(index, *entry) for index, entry in sorted(outcomes.items())],
        failures=failures[:SHOWN_FAILURES],
        failures_not_shown=max(0, failed - len(failures[:SHOWN_FAILURES])),
        tuning=[
            point
            for _, outcome in outcomes.values()
            for point in (outcome.tuning.curve if outcome.tuning is not None else ())
        ],
    )


def _rate(count: int, seconds: float) -> float:
    return round(count / seconds, 3) if seconds else 0.0


def _instance(index: int, attempts: int, outcome: InstanceOutcome) -> InstanceReport:
    progress = outcome.progress
    return InstanceReport(
        index=index,
        attempts=attempts,
        settings="" if outcome.effective is None else str(outcome.effective),
        tuning="" if outcome.tuning is None else outcome.tuning.chosen,
        objects=progress.objects_done,
        records=progress.records,
        bytes_in=progress.bytes_in,
        requests=progress.requests,
        retries=progress.retries,
        p50_ms=progress.latency_p50_ms,
        p99_ms=progress.latency_p99_ms,
    )


def _merged(counters: Sequence[Progress]) -> list[int]:
    counts = [0] * (len(LATENCY_BOUNDS) + 1)
    for progress in counters:
        for index, count in enumerate(progress.latency_counts):
            counts[index] += count
    return counts


def _latencies(counters: Sequence[Progress]) -> Mapping[str, float]:
    """Return mean, median and 99th percentile: as measured of one instance; of several, within their counted bounds."""
    counts = _merged(counters)
    number = sum(counts)
    mean = 1000 * sum(progress.latency_seconds for progress in counters) / number if number else 0.0
    if len(counters) == 1:
        p50, p99 = counters[0].latency_p50_ms, counters[0].latency_p99_ms
    else:
        p50, p99 = _percentile_ms(counts, 0.5), _percentile_ms(counts, 0.99)
    return {"mean": round(mean, 3), "p50": round(p50, 3), "p99": round(p99, 3)}


def _percentile_ms(counts: Sequence[int], share: float) -> float:
    """Return about the latency that this share of requests does not exceed: on a line between two bounds."""
    wanted = share * sum(counts)
    seen = 0
    for index, count in enumerate(counts):
        if count and seen + count >= wanted:
            low = LATENCY_BOUNDS[index - 1] if index else 0.0
            high = LATENCY_BOUNDS[index] if index < len(LATENCY_BOUNDS) else LATENCY_BOUNDS[-1]
            return 1000 * (low + (high - low) * (wanted - seen) / count)
        seen += count
    return 0.0


def _counts(counters: Sequence[Progress]) -> Sequence[Mapping[str, Any]]:
    bounds: list[float | None] = [1000 * bound for bound in LATENCY_BOUNDS]
    return [
        {"up_to_ms": bound, "requests": count}
        for bound, count in zip([*bounds, None], _merged(counters), strict=True)
        if count
    ]


def _settings(spec: TransformSpec) -> Mapping[str, Any]:
    """Return what was asked for; what the container was let decide is null here, and told by instance."""
    return {
        "SplitType": spec.split.value,
        "BatchStrategy": None if spec.strategy is None else spec.strategy.value,
        "AssembleWith": spec.assemble_with.value,
        "CompressionType": spec.compression.value,
        "ContentType": spec.content_type,
        "Accept": spec.accept,
        "MaxConcurrentTransforms": spec.max_concurrent_transforms,
        "MaxPayloadInMB": None if spec.max_payload_bytes is None else spec.max_payload_bytes // MIB,
        "InvocationsTimeoutInSeconds": int(spec.invocation_timeout_seconds),
        "InvocationsMaxRetries": spec.invocation_max_retries,
        "InputFilter": spec.processing.input_filter,
        "OutputFilter": spec.processing.output_filter,
        "JoinSource": spec.processing.join_source.value,
        "InstanceCount": spec.instance_count,
        "Environment": {name: _told(name, value) for name, value in sorted(spec.environment.items())},
    }


def _told(name: str, value: str) -> str:
    return value if name.startswith(_OURS) else "(not shown)"


async def write_report(objects: ObjectStore, output: ObjectPrefix, report: JobReport) -> ObjectRef:
    """Write both forms of a report below a job's output path; return the page's place. May be repeated."""
    page = output.join(report_key(report.name, HTML_NAME))
    forms = (
        (output.join(report_key(report.name, JSON_NAME)), "application/json", report.to_json()),
        (page, "text/html; charset=utf-8", report.to_html().encode()),
    )
    for ref, kind, body in forms:
        writer = await objects.open_writer(ref, ObjectMeta(headers={"content-type": kind}))
        try:
            await writer.write(body)
            await writer.commit()
        except BaseException:
            await writer.abort()
            raise
    return page


def write_report_files(report: JobReport, folder: Path) -> None:
    """Write both forms of a report into a local folder."""
    (folder / JSON_NAME).write_bytes(report.to_json())
    (folder / HTML_NAME).write_text(report.to_html(), encoding="utf-8")
