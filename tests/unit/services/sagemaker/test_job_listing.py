"""Listings of jobs as clients get them, from the store to the JSON."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from millrace.clock import SystemClock
from millrace.jobs.job import JobKind, JobStatus
from millrace.ports.jobs import JobStore, JobSummary
from millrace.protocol.bodies import MemoryBody
from millrace.protocol.message import Context, Request, Response
from millrace.protocol.operations import service
from millrace.services.sagemaker.job_listing import list_handler
from millrace.store.sql_jobs import SqlJobStore
from millrace.store.sqlite import SqliteDatabase
from millrace.testing.contract_jobs import transform_job

MEMBER = "TransformJobSummaries"
CONTEXT = Context(
    request_id="1",
    service="sagemaker",
    operation="ListTransformJobs",
    region="us-east-1",
    account="000000000000",
    principal=None,
    base_url="http://localhost",
    request=Request(method="POST", path=b"/", query=b"", headers=(), body=MemoryBody()),
)


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[JobStore]:
    """Return a new store."""
    with closing(SqliteDatabase(tmp_path / "state.db")) as database:
        yield SqlJobStore(database, clock=SystemClock())


def summarizing(asked: list[str]) -> Callable[[JobSummary], dict[str, Any]]:
    """Return what makes an entry of a summary, and notes its name."""

    def summarize(summary: JobSummary) -> dict[str, Any]:
        asked.append(summary.name)
        return {"TransformJobName": summary.name, "TransformJobStatus": summary.stored_status}

    return summarize


def document(response: Response) -> dict[str, Any]:
    """Return the answer's JSON."""
    assert isinstance(response.body, bytes)
    found: dict[str, Any] = json.loads(response.body)
    return found


async def test_the_same_page_is_told_again_without_being_made_again(jobs: JobStore) -> None:
    """Entries of a page that is asked again are kept until the state changes; clients see no difference."""
    asked: list[str] = []
    handler = list_handler(jobs, JobKind.TRANSFORM, MEMBER, summarizing(asked))
    serialize = service("sagemaker").operation("ListTransformJobs").serialize

    async def told(**params: Any) -> dict[str, Any]:
        result = await handler(CONTEXT, params)
        assert isinstance(result, dict)
        return document(serialize(result, "1"))

    assert await told() == {MEMBER: []}
    job = await jobs.add(JobKind.TRANSFORM, transform_job(), {})
    for _ in range(5):
        assert await told() == {MEMBER: [{"TransformJobName": "job", "TransformJobStatus": "InProgress"}]}
    assert len(asked) < 5
    again = len(asked)
    await told()
    assert len(asked) == again
    await jobs.save(replace(job, status=JobStatus.COMPLETED))
    assert await told() == {MEMBER: [{"TransformJobName": "job", "TransformJobStatus": "Completed"}]}
    assert await told(StatusEquals="InProgress") == {MEMBER: []}


async def test_equal_queries_of_different_requests_have_tokens_of_their_own(jobs: JobStore) -> None:
    """A token belongs to the filters as they were said, also where a listing with defaults is the same."""
    for number in range(3):
        await jobs.add(JobKind.TRANSFORM, transform_job(f"job-{number}", seconds=number), {})
    handler = list_handler(jobs, JobKind.TRANSFORM, MEMBER, summarizing([]))
    plain: dict[str, Any] = {"MaxResults": 2}
    said = {**plain, "SortBy": "CreationTime", "SortOrder": "Descending"}
    for params in (plain, said):
        first = await handler(CONTEXT, params)
        assert isinstance(first, dict)
        assert [it["TransformJobName"] for it in first[MEMBER]] == ["job-2", "job-1"]
        rest = await handler(CONTEXT, {**params, "NextToken": first["NextToken"]})
        assert isinstance(rest, dict)
        assert [it["TransformJobName"] for it in rest[MEMBER]] == ["job-0"]


async def test_the_time_of_a_job_that_was_told_does_not_find_it_again(jobs: JobStore) -> None:
    """Bounds are exclusive for clients, who are told milliseconds of jobs that are made between them."""
    created = datetime(2026, 1, 31, 12, 0, 0, 560_400, tzinfo=UTC)
    await jobs.add(JobKind.TRANSFORM, replace(transform_job("new"), created_at=created), {})
    told = datetime(2026, 1, 31, 12, 0, 0, 560_000, tzinfo=UTC)
    handler = list_handler(jobs, JobKind.TRANSFORM, MEMBER, summarizing([]))

    async def names(**params: Any) -> list[str]:
        found = await handler(CONTEXT, params)
        assert isinstance(found, dict)
        return [entry["TransformJobName"] for entry in found[MEMBER]]

    assert await names(CreationTimeAfter=told) == await names(CreationTimeBefore=told) == []
    assert await names(CreationTimeAfter=told - timedelta(milliseconds=1)) == ["new"]
