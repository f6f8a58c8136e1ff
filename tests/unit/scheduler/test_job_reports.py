"""Reports that are written when jobs end."""

from collections.abc import Mapping
from dataclasses import replace

import orjson
import pytest

from millrace.jobs.job import Instance, InstanceState, JobStatus, TransformJob
from millrace.jobs.transform import InstanceOutcome, Progress
from millrace.scheduler.job_reports import JobReports
from millrace.testing.contract_jobs import transform_job
from millrace.testing.objects import MemoryObjects


def _ended(environment: Mapping[str, str], status: JobStatus = JobStatus.COMPLETED) -> TransformJob:
    job = transform_job("prices")
    outcomes = [InstanceOutcome(progress=Progress(objects_total=1, objects_done=1, records=5)) for _ in range(2)]
    return replace(
        job,
        status=status,
        spec=replace(job.spec, environment=environment),
        instances=tuple(
            Instance(index=index, state=InstanceState.DONE, attempt=1, outcome=outcome)
            for index, outcome in enumerate(outcomes)
        ),
    )


async def _bucket() -> MemoryObjects:
    objects = MemoryObjects()
    await objects.create_bucket("b", region="us-east-1", owner="000000000000")
    return objects


async def test_a_job_that_asks_for_a_report_has_one_of_all_instances() -> None:
    """Before its end is seen."""
    objects = await _bucket()
    await JobReports(objects).before_end(_ended({"MILLRACE_REPORT": "true"}))
    report = orjson.loads(objects.data("s3://b/out/_millrace/prices/report.json"))
    assert (report["records"]["out"], len(report["instances"]), report["status"]) == (10, 2, "Completed")


@pytest.mark.parametrize(
    ("environment", "status"),
    [({}, JobStatus.COMPLETED), ({"MILLRACE_REPORT": "true"}, JobStatus.IN_PROGRESS)],
)
async def test_others_have_none(environment: Mapping[str, str], status: JobStatus) -> None:
    """Those that don't ask, and those that go on."""
    objects = await _bucket()
    await JobReports(objects).before_end(_ended(environment, status))
    assert objects.keys("b") == []


async def test_a_report_that_cannot_be_written_keeps_no_job_from_its_end(caplog: pytest.LogCaptureFixture) -> None:
    """The bucket may be gone; the log says so."""
    await JobReports(MemoryObjects()).before_end(_ended({"MILLRACE_REPORT": "true"}))
    assert "report can't be written" in caplog.text
