"""List operations of jobs: parameters to a query, a page to a result."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from weakref import WeakKeyDictionary

from millrace.jobs.job import JobKind, JobStatus
from millrace.ports.jobs import JobPage, JobQuery, JobStore, JobSummary
from millrace.protocol.message import Context, Handler, Params, Result, WireEntries
from millrace.services.sagemaker.paging import DEFAULT_PAGE, parse_token, print_token
from millrace.services.sagemaker.told_times import told_after, told_before

__all__ = ["job_query", "list_handler"]

_Summarize = Callable[[JobSummary], dict[str, Any]]
_SORT_BY: Mapping[str, str] = {"Name": "name", "CreationTime": "created_at", "Status": "status"}


def list_handler(jobs: JobStore, kind: JobKind, member: str, summarize: _Summarize) -> Handler:
    """Return the handler of a List operation whose entries stand under `member`, in the terms of WireEntries."""

    told: WeakKeyDictionary[JobPage, WireEntries] = WeakKeyDictionary()

    async def list_jobs(context: Context, params: Params) -> Result:
        page = await jobs.list_jobs(job_query(kind, context, params))
        entries = told.get(page)
        if entries is None:
            entries = told[page] = WireEntries(map(summarize, page.summaries))
        return {member: entries, "NextToken": print_token(page.after, params)}

    return list_jobs


def job_query(kind: JobKind, context: Context, params: Params) -> JobQuery:
    """Return what a List request asks for."""
    status: Any = params.get("StatusEquals")
    sort_by = _SORT_BY.get(params.get("SortBy", "CreationTime"), "created_at")
    return JobQuery(
        kind=kind,
        region=context.region,
        name_contains=params.get("NameContains"),
        status=None if status is None else _status(status),
        created_after=_bound(params, "CreationTimeAfter", told_after),
        created_before=_bound(params, "CreationTimeBefore", told_before),
        modified_after=_bound(params, "LastModifiedTimeAfter", told_after),
        modified_before=_bound(params, "LastModifiedTimeBefore", told_before),
        sort_by=sort_by,
        descending=params.get("SortOrder", "Descending") == "Descending",
        limit=params.get("MaxResults", DEFAULT_PAGE),
        after=parse_token(params, int if sort_by == "created_at" else str, int),
    )


def _bound(params: Params, member: str, told: Callable[[datetime], datetime]) -> datetime | None:
    moment: datetime | None = params.get(member)
    return None if moment is None else told(moment)


def _status(value: str) -> JobStatus | None:
    """Return the status; a status of the model that no job of ours ever has is kept as one that matches nothing."""
    try:
        return JobStatus(value)
    except ValueError:
        return JobStatus.DELETING if value == "Deleting" else None
