"""What `millrace jobs watch` draws."""

import io

from rich.console import Console

from millrace.commands.job_table import jobs_progress
from millrace.commands.job_view import InstanceView, JobView
from millrace.commands.progress_view import ObjectView, ProgressView, sum_views
from millrace.jobs.job import JobKind, JobStatus


def _drawn(*views: JobView) -> str:
    file = io.StringIO()
    Console(width=180, file=file).print(jobs_progress(views))
    return file.getvalue()


def _view(
    *instances: InstanceView,
    name: str = "prices",
    status: JobStatus = JobStatus.IN_PROGRESS,
    reason: str | None = None,
) -> JobView:
    return JobView(
        kind=JobKind.TRANSFORM,
        name=name,
        region="us-east-1",
        status=status,
        elapsed_seconds=3725.0,
        instances=instances,
        sums=sum_views([instance.going for instance in instances]),
        failure_reason=reason,
    )


def _instance(index: int, attempt: int = 1, objects: int = 1) -> InstanceView:
    keys = [f"in/{index}-{number}.csv" for number in range(objects)]
    going = ProgressView(
        objects_done=1,
        objects_total=4,
        records=12_000,
        bytes_done=50,
        bytes_total=100,
        in_flight=3,
        latency_p50_ms=4.5,
        latency_p99_ms=20.0,
        records_per_second=1500.0,
        bytes_per_second=2.5,
        eta_seconds=20.0,
        objects=tuple(
            ObjectView(
                key=key,
                bytes_in=5,
                bytes_done=4,
                bytes_total=10,
                records=7,
                records_failed=2,
                records_per_second=None,
                bytes_per_second=None,
            )
            for key in keys
        ),
    )
    return InstanceView(index=index, attempt=attempt, state="Running", going=going)


def test_one_job_is_shown_with_the_objects_in_work() -> None:
    """Its one instance needs no row of its own."""
    drawn = _drawn(_view(_instance(0)))
    for cell in (
        "transform-job/prices  InProgress  1:02:05",
        "1/4 objects",
        "12,000",
        "1,500",
        "50/100 B",
        "0:20",
        "in/0-0.csv",
        "2 records",
        "3 in flight, p50 4.5 ms, p99 20 ms",
    ):
        assert cell in drawn
    assert "instance 0" not in drawn


def test_several_instances_have_rows() -> None:
    """With the attempt where it is not the first; of objects there are no more rows than an eye follows."""
    drawn = _drawn(_view(_instance(0, objects=6), _instance(1, attempt=3, objects=6)))
    assert "instance 0" in drawn
    assert "instance 1, attempt 3" in drawn
    assert "24,000" in drawn
    assert "2/8 objects" in drawn
    assert drawn.count("in/") == 8


def test_of_several_jobs_each_is_a_row() -> None:
    """With its status, its latencies and its time."""
    drawn = _drawn(_view(_instance(0)), _view(name="names", status=JobStatus.COMPLETED))
    for cell in ("  prices ", "InProgress", "1/4", "4.5/20", "  names ", "Completed", "1:02:05"):
        assert cell in drawn
    assert "in/0-0.csv" not in drawn


def test_why_a_job_failed_stands_below_it() -> None:
    """A reason with brackets is text, not markup."""
    drawn = _drawn(_view(status=JobStatus.FAILED, reason="ClientError: [/b] see a[0]"))
    assert "ClientError: [/b] see a[0]" in drawn
