"""Rates, time left and exit codes of jobs that are watched."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from millrace.commands.job_view import RateMeter, exit_code, view_document, view_line, view_of
from millrace.jobs.job import Instance, InstanceState, Job, JobKind, JobStatus
from millrace.names import Arn
from millrace.ports.jobs import AgentRecord, InstanceRef

START = datetime(2026, 1, 1, tzinfo=UTC)


def _agent(seconds: float, index: int = 0, attempt: int = 1, **counters: Any) -> AgentRecord:
    return AgentRecord(
        ref=InstanceRef(job_id=1, index=index, attempt=attempt),
        agent_id="a",
        process_id=1,
        process_start=1,
        host="h",
        registered_at=START,
        heartbeat_at=START + timedelta(seconds=seconds),
        stop_wanted=False,
        progress=counters,
    )


def _rates(meter: RateMeter, agent: AgentRecord) -> tuple[float | None, float | None]:
    view = meter.view(agent)
    return view.records_per_second, view.bytes_per_second


def _job(*, status: JobStatus = JobStatus.IN_PROGRESS, instances: int = 1) -> Job:
    return Job(
        id=1,
        name="prices",
        arn=Arn.parse("arn:aws:sagemaker:us-east-1:000000000000:transform-job/prices"),
        status=status,
        created_at=START,
        modified_at=START,
        instances=tuple(Instance(index=index, state=InstanceState.RUNNING, attempt=1) for index in range(instances)),
    )


def test_rates_are_means_over_the_last_seconds() -> None:
    """A burst of the beginning does not make the rate of now."""
    meter = RateMeter()
    rates = [
        _rates(meter, _agent(second, records=records, bytes_in=records * 10))
        for second, records in [(0, 0), (1, 1000), (2, 1000), (11, 1090), (12, 1100)]
    ]
    assert rates[0] == (None, None)
    assert rates[1] == (1000.0, 10000.0)
    assert rates[-1] == (10.0, 100.0)


def test_the_same_heartbeat_read_twice_changes_nothing() -> None:
    """Looking more often than agents report does not make rates flicker."""
    meter = RateMeter()
    for second in (0, 1, 1, 1):
        last = _rates(meter, _agent(second, records=second * 5, bytes_in=0))
    assert last == (5.0, 0.0)


def test_a_new_attempt_is_measured_anew() -> None:
    """Its counters start from nothing, which is no negative rate."""
    meter = RateMeter()
    meter.view(_agent(0, records=100, bytes_in=100))
    assert _rates(meter, _agent(1, attempt=2, records=5, bytes_in=5)) == (None, None)


def test_a_view_sums_over_instances_and_waits_for_the_slowest() -> None:
    """Counts and rates add up; the time left is that of the instance that takes longest."""
    meter = RateMeter()
    job = _job(instances=2)
    first = [_agent(0, index, records=0, bytes_in=0, bytes_total=100, objects_total=1) for index in (0, 1)]
    view_of(JobKind.TRANSFORM, job, first, now=START, meter=meter)
    then = [
        _agent(10, 0, records=50, bytes_in=50, bytes_total=100, objects_total=1, objects_done=0),
        _agent(10, 1, records=10, bytes_in=10, bytes_total=100, objects_total=1, objects_done=0),
    ]
    view = view_of(JobKind.TRANSFORM, job, then, now=START + timedelta(seconds=10), meter=meter)
    document = view_document(view)
    assert (document["records"], document["bytes_per_second"], document["eta_seconds"]) == (60, 6.0, 90.0)
    assert [entry["records_per_second"] for entry in document["instances"]] == [5.0, 1.0]
    assert view_line(view) == (
        "transform-job/prices InProgress, 30 % of 200 B, 0/2 objects, 60 records, 0 failed, 6 records/s, 6 B/s, "
        "0 in flight, 1:30 left"
    )


def test_an_instance_without_a_rate_leaves_the_time_open() -> None:
    """No guess is made from the others."""
    meter = RateMeter()
    agents = [_agent(0, bytes_in=5, bytes_total=100, records=1)]
    assert view_of(JobKind.TRANSFORM, _job(), agents, now=START, meter=meter).sums.eta_seconds is None


def test_a_job_without_agents_has_a_view() -> None:
    """One that waits shows its status and nothing else."""
    view = view_of(JobKind.TRAINING, _job(), [], now=START, meter=RateMeter())
    assert view_line(view) == "training-job/prices InProgress"


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        ([], 0),
        ([JobStatus.COMPLETED, JobStatus.IN_SERVICE], 0),
        ([JobStatus.COMPLETED, JobStatus.STOPPED], 2),
        ([JobStatus.STOPPED, JobStatus.FAILED], 1),
    ],
)
def test_the_exit_code_is_the_worst_end(statuses: list[JobStatus], code: int) -> None:
    """A failure counts more than a stop."""
    assert exit_code(statuses) == code
