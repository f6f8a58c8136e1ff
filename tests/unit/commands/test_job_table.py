"""What `millrace jobs watch` draws."""

import io

from rich.console import Console

from millrace.commands.job_table import _table
from millrace.commands.job_view import InstanceView, JobView
from millrace.jobs.job import JobKind, JobStatus


def _drawn(*views: JobView) -> str:
    file = io.StringIO()
    Console(width=160, file=file).print(_table(views))
    return file.getvalue()


def _view(*instances: InstanceView, status: JobStatus = JobStatus.IN_PROGRESS, reason: str | None = None) -> JobView:
    return JobView(
        kind=JobKind.TRANSFORM,
        name="prices",
        region="us-east-1",
        status=status,
        elapsed_seconds=3725.0,
        instances=instances,
        failure_reason=reason,
    )


def _instance(index: int, attempt: int = 1) -> InstanceView:
    return InstanceView(
        index=index,
        attempt=attempt,
        state="Running",
        objects_done=1,
        objects_total=4,
        records=12_000,
        bytes_done=50,
        bytes_total=100,
        records_per_second=1500.0,
        bytes_per_second=2.5,
    )


def test_a_job_is_a_row_with_its_rates_and_the_time_left() -> None:
    """One instance needs no row of its own."""
    drawn = _drawn(_view(_instance(0)))
    for cell in ("transform-job/prices", "InProgress", "1/4", "12,000", "1,500", "1:02:05", "0:20"):
        assert cell in drawn
    assert "instance 0" not in drawn


def test_several_instances_have_rows() -> None:
    """With the attempt where it is not the first."""
    drawn = _drawn(_view(_instance(0), _instance(1, attempt=3)))
    assert "instance 0" in drawn
    assert "instance 1, attempt 3" in drawn
    assert "24,000" in drawn


def test_why_a_job_failed_stands_below_it() -> None:
    """A reason with brackets is text, not markup."""
    drawn = _drawn(_view(status=JobStatus.FAILED, reason="ClientError: [/b] see a[0]"))
    assert "ClientError: [/b] see a[0]" in drawn
