"""Reports of jobs: sums, latencies, and the page."""

import re
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser

import orjson

from millrace.dataplane.report import JobReport, job_report, write_report
from millrace.jobs.job import Instance, InstanceState, JobStatus
from millrace.jobs.transform import (
    EffectiveSettings,
    InstanceOutcome,
    ObjectFailure,
    Progress,
    SplitType,
    TuningOutcome,
    TuningPoint,
)
from millrace.names import ObjectPrefix, ObjectRef
from millrace.testing.contract_jobs import transform_job
from millrace.testing.objects import MemoryObjects

HOSTILE = '<script>alert("x")</script>'


def _progress(**counts: object) -> Progress:
    given: dict[str, object] = {
        "objects_total": 3,
        "objects_done": 2,
        "objects_failed": 1,
        "records": 90,
        "records_failed": 8,
        "records_filtered": 2,
        "requests": 10,
        "retries": 1,
        "bytes_total": 1000,
        "bytes_in": 1000,
        "bytes_out": 500,
        "latency_p50_ms": 3.0,
        "latency_p99_ms": 9.0,
        "latency_seconds": 0.04,
        "latency_counts": (0, 0, 9, 1, *[0] * 12),
    }
    return Progress(**{**given, **counts})  # type: ignore[arg-type]


def _report(*outcomes: InstanceOutcome, **environment: str) -> JobReport:
    job = transform_job("prices")
    return job_report(
        replace(
            job,
            status=JobStatus.FAILED,
            failure_reason=f"ClientError: {HOSTILE}",
            started_at=job.created_at,
            ended_at=job.created_at + timedelta(seconds=10),
            spec=replace(job.spec, environment=environment),
            instances=tuple(
                Instance(index=index, state=InstanceState.DONE, attempt=index + 1, outcome=outcome)
                for index, outcome in enumerate(outcomes)
            ),
        )
    )


def _outcome(**members: object) -> InstanceOutcome:
    failure = ObjectFailure(
        key=f"in/{HOSTILE}", label="ClientError", message=HOSTILE, record=3, offset=8, answer=HOSTILE
    )
    given: dict[str, object] = {
        "progress": _progress(),
        "failures": (failure,),
        "failure_count": 1,
        "effective": EffectiveSettings(max_concurrent_transforms=4),
    }
    return InstanceOutcome(**{**given, **members})  # type: ignore[arg-type]


def test_records_are_conserved() -> None:
    """What went in is what came out, what was bad and what was not sent, over all instances."""
    report = _report(_outcome(), _outcome())
    assert report.records == {"in": 200, "out": 180, "failed": 16, "filtered": 4}
    assert report.objects == {"in": 6, "out": 4, "failed": 2, "not_done": 0}
    assert report.size_bytes == {"total": 2000, "in": 2000, "out": 1000}
    assert report.rates == {"records_per_second": 20.0, "bytes_per_second": 200.0}
    assert [(entry.attempts, entry.settings[:25]) for entry in report.instances] == [
        (1, "MaxConcurrentTransforms=4"),
        (2, "MaxConcurrentTransforms=4"),
    ]


def test_latencies_of_one_instance_are_as_measured_and_of_several_between_bounds() -> None:
    """Nine in ten requests took 2.5 to 5 ms, one 5 to 10."""
    assert _report(_outcome()).latency_ms == {"mean": 4.0, "p50": 3.0, "p99": 9.0}
    merged = _report(_outcome(), _outcome())
    assert 2.5 < merged.latency_ms["p50"] < 5.0 < merged.latency_ms["p99"] <= 10.0
    assert merged.latency_counts == [{"up_to_ms": 5.0, "requests": 18}, {"up_to_ms": 10.0, "requests": 2}]


def test_a_job_without_outcomes_has_a_report() -> None:
    """One whose container never came."""
    document = orjson.loads(_report().to_json())
    assert document["records"]["in"] == 0
    assert document["latency_ms"] == {"mean": 0.0, "p50": 0.0, "p99": 0.0}
    assert "tuning" not in document


def test_variables_of_the_container_are_named_without_their_values() -> None:
    """They may hold secrets, and reports are handed on."""
    report = _report(_outcome(), DATABASE="postgresql://me:sesame@db", MILLRACE_ON_ERROR="skip")
    assert report.settings["Environment"] == {"DATABASE": "(not shown)", "MILLRACE_ON_ERROR": "skip"}
    assert b"sesame" not in report.to_json()
    assert "sesame" not in report.to_html()


def test_the_curve_of_tuning_is_told_and_drawn() -> None:
    """Where the autotuner was at work."""
    point = TuningPoint(at_seconds=1.0, concurrency=8, payload_bytes=65536, verdict="better", records_per_second=900.0)
    report = _report(_outcome(tuning=TuningOutcome(chosen="8 at a time", concurrency=8, curve=(point,))))
    assert orjson.loads(report.to_json())["tuning"][0]["concurrency"] == 8
    assert "8 at a time, 65.5 kB payloads: 900 records a second, better" in report.to_html()


def test_what_was_tuned_is_drawn_by_setting_and_over_time() -> None:
    """By the size of payloads only where that was tried out."""
    points = [
        TuningPoint(at_seconds=at, concurrency=4, payload_bytes=size, verdict="same", records_per_second=10.0 * at)
        for at, size in ((1.0, 1000), (2.0, 1000), (3.0, 2000))
    ]

    def page(count: int) -> str:
        tuning = TuningOutcome(chosen="4 at a time", concurrency=4, curve=tuple(points[:count]))
        return _report(_outcome(tuning=tuning)).to_html()

    assert page(2).count("<figure>") == 2
    assert page(3).count("<figure>") == 3


def test_settings_are_told_as_they_are_asked_for() -> None:
    """In the members and units of CreateTransformJob."""
    settings = _report(_outcome()).settings
    assert settings["InvocationsTimeoutInSeconds"] == 600
    assert isinstance(settings["InvocationsTimeoutInSeconds"], int)
    assert "MaxPayloadInMB" in settings


def test_the_page_tells_where_bad_records_are() -> None:
    """And which share of all they are."""
    page = _report(_outcome()).to_html()
    assert "8 % are bad" in page
    assert ".errors.jsonl" in page


def test_rows_that_answers_left_out_are_told() -> None:
    """Where there are fewer, or more, than records."""
    progress = _progress(objects_failed=0, records_failed=0, rows_out=70)
    job = transform_job("prices")
    spec = replace(job.spec, split=SplitType.LINE, accept="text/csv")
    outcome = InstanceOutcome(progress=progress, effective=EffectiveSettings())
    instance = Instance(index=0, state=InstanceState.DONE, attempt=1, outcome=outcome)
    report = job_report(replace(job, status=JobStatus.COMPLETED, spec=spec, instances=(instance,)))
    assert (report.records["out"], report.rows_out) == (90, 70)
    assert "The answers have 70 rows" in report.to_html()


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.add(tag)
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_needs_nothing_else_and_escapes_everything() -> None:
    """Keys, answers and reasons are strangers' text; nothing is loaded and nothing runs."""
    page = _report(_outcome(), MILLRACE_X=HOSTILE).to_html()
    elements = _Elements()
    elements.feed(page)
    assert elements.open == []
    assert not elements.seen & {"script", "link", "img", "iframe", "object"}
    assert HOSTILE not in page
    assert not re.search(r"""(src|href)\s*=|url\(|@import""", page)


def test_an_answer_that_is_the_message_is_told_once() -> None:
    """A record that can't be joined is told as what the container might have answered, to the data log only."""
    failures = tuple(
        ObjectFailure(key=answer, label="ClientError", message="no", answer=answer) for answer in ("no", "never")
    )
    report = _report(_outcome(failures=failures))
    assert [(failure.key, failure.answer) for failure in report.failures] == [("never", "never"), ("no", None)]


def test_failures_are_bounded() -> None:
    """The first hundred in key order; of the rest it is told how many there are."""
    failures = tuple(ObjectFailure(key=f"in/{at:03}", label="ClientError", message="no") for at in range(150))
    report = _report(_outcome(failures=failures, failure_count=400))
    assert (len(report.failures), report.failures_not_shown) == (100, 300)


async def test_both_forms_are_written_below_the_output_path() -> None:
    """Again and again, if need be."""
    objects = MemoryObjects()
    await objects.create_bucket("b", region="us-east-1", owner="000000000000")
    report = _report(_outcome())
    for _ in range(2):
        page = await write_report(objects, ObjectPrefix("b", "out/"), report)
    assert page == ObjectRef("b", "out/_millrace/prices/report.html")
    assert objects.keys("b", "out/") == ["out/_millrace/prices/report.html", "out/_millrace/prices/report.json"]
    assert objects.data("s3://b/out/_millrace/prices/report.json") == report.to_json()
