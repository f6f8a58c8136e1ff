"""`millrace jobs`: look at jobs and stop them, with or without a running server."""

import asyncio
import contextlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from millrace.commands.open_jobs import OpenJobs
from millrace.jobs.documents import to_document
from millrace.jobs.job import EndpointJob, Job, JobKind, JobStatus, StopRequested
from millrace.names import DEFAULT_REGION
from millrace.ports.jobs import AgentRecord, JobQuery, JobSummary, NoSuchJob
from millrace.ports.logs import NoSuchLogStream
from millrace.settings import Settings
from millrace.store.log_files import LogFiles
from millrace.told import printable

__all__ = ["ListOptions", "list_jobs", "show_job", "show_logs", "stop_job"]

_GROUPS = {
    JobKind.TRANSFORM: "/aws/sagemaker/TransformJobs",
    JobKind.TRAINING: "/aws/sagemaker/TrainingJobs",
    JobKind.PROCESSING: "/aws/sagemaker/ProcessingJobs",
}

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

FOLLOW_SECONDS = 0.25
"""Time between two looks for new log lines."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ListOptions:
    """Which jobs to list; None stands for all."""

    region: str | None = None
    kind: JobKind | None = None
    status: JobStatus | None = None
    name_contains: str | None = None
    limit: int = 30
    as_json: bool = False


def list_jobs(settings: Settings, options: ListOptions) -> int:
    """Print the newest jobs."""
    with OpenJobs(settings) as jobs:
        entries = asyncio.run(_list(jobs, options))
    for summary, kind in entries:
        if options.as_json:
            _print_json(_entry(summary, kind))
            continue
        created = summary.created_at.strftime("%Y-%m-%d %H:%M:%S")
        print(f"{created}  {summary.status.value:<11} {kind.value}/{summary.name}")
        if summary.failure_reason:
            print(f"{'':21}{printable(summary.failure_reason)}")
    return 0


async def _list(jobs: OpenJobs, options: ListOptions) -> list[tuple[JobSummary, JobKind]]:
    entries = []
    for kind in JobKind if options.kind is None else (options.kind,):
        query = JobQuery(
            kind=kind,
            region=options.region or DEFAULT_REGION,
            status=options.status,
            name_contains=options.name_contains,
            limit=options.limit,
        )
        page = await jobs.store.list_jobs(query)
        entries += [(summary, kind) for summary in page.summaries]
    entries.sort(key=lambda entry: entry[0].created_at, reverse=True)
    return entries[: options.limit]


def _entry(summary: JobSummary, kind: JobKind) -> Mapping[str, Any]:
    return {
        "kind": kind.value,
        "name": summary.name,
        "arn": summary.arn,
        "status": summary.status.value,
        "created_at": summary.created_at,
        "ended_at": summary.ended_at,
        "failure_reason": summary.failure_reason,
    }


def _print_json(document: Mapping[str, Any]) -> None:
    """Print one document on a line of its own."""
    sys.stdout.buffer.write(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE))


def show_job(settings: Settings, name: str, *, region: str | None) -> int:
    """Print one job, its instances' live counters and its history, as JSON."""
    with OpenJobs(settings) as jobs:
        kind, job = asyncio.run(jobs.find(name, region or DEFAULT_REGION))
        agents = asyncio.run(jobs.store.list_agents(job.id))
        history = asyncio.run(jobs.store.history(job.id))
    document = {
        "kind": kind.value,
        **with_times(to_document(job)),
        "created_at": job.created_at,
        "modified_at": job.modified_at,
        "agents": [_agent(agent) for agent in agents],
        "history": [{"at": at, "event": event} for at, event, _ in history],
    }
    sys.stdout.buffer.write(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    return 0


def with_times(document: Any) -> Any:
    """Return a job's document with times that people read; in the store they are microseconds."""
    if isinstance(document, Mapping):
        return {
            name: EPOCH + timedelta(microseconds=value)
            if isinstance(value, int) and (name == "at" or name.endswith("_at"))
            else with_times(value)
            for name, value in document.items()
        }
    return [with_times(entry) for entry in document] if isinstance(document, list) else document


def _agent(agent: AgentRecord) -> Mapping[str, Any]:
    return {
        "instance": agent.ref.index,
        "attempt": agent.ref.attempt,
        "process_id": agent.process_id,
        "heartbeat_at": agent.heartbeat_at,
        "progress": None if agent.progress is None else {**agent.progress, **_rates(agent, agent.progress)},
    }


def _rates(agent: AgentRecord, progress: Mapping[str, Any]) -> Mapping[str, float]:
    """Return the mean rates of a transform instance so far, and the seconds that the rest takes at them."""
    seconds = (agent.heartbeat_at - agent.registered_at).total_seconds()
    done = progress.get("bytes_done", progress.get("bytes_in", 0))
    if seconds <= 0 or not done:
        return {}
    rates = {"records_per_second": progress["records"] / seconds, "bytes_per_second": done / seconds}
    if progress.get("listed", True):  # an older release tells nothing before all is listed
        rates["eta_seconds"] = max(0, progress["bytes_total"] - done) * seconds / done
    return {name: round(value, 3) for name, value in rates.items()}


def show_logs(settings: Settings, name: str, *, region: str | None, follow: bool) -> int:
    """Print all log lines of a job, stream by stream; go on with those to come until its end if told to follow."""
    with OpenJobs(settings) as jobs, contextlib.suppress(BrokenPipeError):
        return asyncio.run(_show_logs(jobs, LogFiles(settings.logs_dir), name, region or DEFAULT_REGION, follow))
    return 0


async def _show_logs(jobs: OpenJobs, logs: LogFiles, name: str, region: str, follow: bool) -> int:
    kind, job = await jobs.find(name, region)
    printer = _LogPrinter(logs, kind, job)
    while True:
        # The status is read before the lines: what is written before the end is printed.
        over = not follow or job.is_terminal
        printer.print_new()
        if over:
            return 0
        await jobs.store.wait_for_change(FOLLOW_SECONDS)
        try:
            job = await jobs.store.get_by_id(job.id)
        except NoSuchJob:
            printer.print_new()
            return 0


class _LogPrinter:
    """Prints each line of a job's streams once."""

    def __init__(self, logs: LogFiles, kind: JobKind, job: Job) -> None:
        self._logs = logs
        endpoint = isinstance(job, EndpointJob)
        self._group = f"/aws/sagemaker/Endpoints/{job.name}" if endpoint else _GROUPS[kind]
        self._prefix = "" if endpoint else f"{job.name}/"
        self._offsets: dict[str, int] = {}
        self._shown: str | None = None
        self._escapes = sys.stdout.isatty()
        """A terminal obeys control characters, and lines are a container's; elsewhere they stay as they are."""

    def print_new(self) -> None:
        """Print what came since the last call."""
        try:
            streams = self._logs.list_streams(self._group, self._prefix)
        except NoSuchLogStream:
            return
        for stream in streams:
            with contextlib.suppress(NoSuchLogStream):  # deleted meanwhile
                self._print_stream(stream.name)
        sys.stdout.flush()

    def _print_stream(self, name: str) -> None:
        first = name not in self._offsets
        offset = self._offsets.get(name, 0)
        while True:
            page = self._logs.read(self._group, name, offset=offset)
            if (page.events or first) and self._shown != name:
                print(f"==> {name}")
                self._shown = name
            first = False
            for event in page.events:
                print(printable(event.message) if self._escapes else event.message)
            if page.end_offset == offset:
                break
            offset = page.end_offset
        self._offsets[name] = offset


def stop_job(settings: Settings, name: str, *, region: str | None) -> int:
    """Ask for a job's stop; the server, running or to come, carries it out."""
    with OpenJobs(settings) as jobs:
        _, job = asyncio.run(jobs.find(name, region or DEFAULT_REGION))
        if isinstance(job, EndpointJob):
            raise SystemExit(f"millrace jobs: {name} is an endpoint; delete it with `aws sagemaker delete-endpoint`")
        if job.is_terminal:
            raise SystemExit(f"millrace jobs: {name} is {job.status.value} already")
        asyncio.run(jobs.store.post(job.id, StopRequested(at=jobs.clock.now())))
    print(f"asked {name} to stop")
    return 0
