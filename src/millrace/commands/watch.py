"""`millrace jobs watch`: follow jobs until they end."""

import asyncio
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import orjson

from millrace.commands.job_view import JobView, RateMeter, exit_code, view_document, view_line, view_of
from millrace.commands.open_jobs import OpenJobs
from millrace.jobs.job import EndpointJob, Job, JobKind, JobStatus, TrainingJob, TransformJob
from millrace.names import DEFAULT_REGION
from millrace.ports.jobs import NoSuchJob
from millrace.settings import Settings

__all__ = ["watch_jobs"]

LOOK_SECONDS = 1.0
"""Time between two looks; a job's move is seen sooner."""

LINE_SECONDS = 2.0
"""Least time between two lines about a job whose status is the same."""

Show = Callable[[Sequence[JobView]], None]


def watch_jobs(settings: Settings, name: str | None, *, region: str | None, as_json: bool) -> int:
    """Follow one job, or all that run, to the end.

    Returns:
        0 if all completed (an endpoint: is in service, or gone), 1 if one failed, 2 if one was stopped.
    """
    with OpenJobs(settings) as jobs:
        return asyncio.run(_watch(jobs, name, region or DEFAULT_REGION, as_json=as_json))


async def _watch(jobs: OpenJobs, name: str | None, region: str, *, as_json: bool) -> int:
    if name is not None:
        kind, job = await jobs.find(name, region)
        watched = {job.id: kind}
    else:
        watched = await _running(jobs)
        if not watched:
            print("no job runs", file=sys.stderr)
            return 0
    meter = RateMeter()
    ended: dict[int, JobView] = {}
    with _output(as_json, jobs) as show:
        while True:
            views = []
            for job_id, kind in list(watched.items()):
                view = ended.get(job_id) or await _look(jobs, kind, job_id, meter)
                if view is None:
                    del watched[job_id]
                    continue
                views.append(view)
                if _is_over(view):
                    ended[job_id] = view
            show(views)
            if len(ended) == len(watched):
                return exit_code([view.status for view in ended.values()])
            await jobs.store.wait_for_change(LOOK_SECONDS)
            if name is None:
                watched |= await _running(jobs)


async def _running(jobs: OpenJobs) -> dict[int, JobKind]:
    """Return the jobs, endpoints excepted, that are not at their end: those of all regions."""
    found = {}
    for job_id in await jobs.store.list_unfinished():
        try:
            job = await jobs.store.get_by_id(job_id)
        except NoSuchJob:  # forgotten meanwhile
            continue
        if not isinstance(job, EndpointJob):
            found[job_id] = _kind(job)
    return found


def _kind(job: Job) -> JobKind:
    if isinstance(job, TransformJob):
        return JobKind.TRANSFORM
    return JobKind.TRAINING if isinstance(job, TrainingJob) else JobKind.PROCESSING


async def _look(jobs: OpenJobs, kind: JobKind, job_id: int, meter: RateMeter) -> JobView | None:
    try:
        job = await jobs.store.get_by_id(job_id)
    except NoSuchJob:
        return None
    agents = await jobs.store.list_agents(job_id)
    return view_of(kind, job, agents, now=jobs.clock.now(), meter=meter)


def _is_over(view: JobView) -> bool:
    return view.status in (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.STOPPED, JobStatus.IN_SERVICE)


@contextmanager
def _output(as_json: bool, jobs: OpenJobs) -> Iterator[Show]:
    """Yield what shows views: a table on a terminal, else lines."""
    if not as_json and sys.stdout.isatty():
        from rich.console import Console  # it takes 50 ms: only where it is seen

        from millrace.commands.job_table import jobs_progress
        from millrace.commands.progress_table import LiveDisplay

        display = LiveDisplay(Console())
        if display.moves:
            with display:
                yield lambda views: display.show(jobs_progress(views))
            return
    write = _write_json if as_json else _write_line
    last: dict[str, tuple[JobStatus, str, float]] = {}

    def show(views: Sequence[JobView]) -> None:
        for view in views:
            _tell_change(view, last, jobs.clock.monotonic(), write)

    yield show


def _tell_change(
    view: JobView, last: dict[str, tuple[JobStatus, str, float]], now: float, write: Callable[[JobView], None]
) -> None:
    """Write a view if something but the time has changed, and if the last line about it is not too recent."""
    key = f"{view.region}/{view.kind.value}/{view.name}"
    progress = f"{view.sums} {view.instances}"
    known = last.get(key)
    if known is not None and known[0] is view.status and (known[1] == progress or now - known[2] < LINE_SECONDS):
        return
    last[key] = (view.status, progress, now)
    write(view)


def _write_json(view: JobView) -> None:
    sys.stdout.buffer.write(orjson.dumps(view_document(view), option=orjson.OPT_APPEND_NEWLINE))
    sys.stdout.buffer.flush()


def _write_line(view: JobView) -> None:
    print(view_line(view), flush=True)
