"""`millrace jobs`: look at jobs and stop them, with or without a running server."""

import asyncio
import contextlib
import sys
from collections.abc import Mapping
from typing import Any

import orjson

from millrace.clock import SystemClock
from millrace.jobs.documents import to_document
from millrace.jobs.job import EndpointJob, Job, JobKind, StopRequested
from millrace.names import DEFAULT_REGION
from millrace.ports.jobs import AgentRecord, JobQuery, NoSuchJob
from millrace.ports.logs import NoSuchLogStream
from millrace.settings import Settings
from millrace.store.log_files import LogFiles
from millrace.store.opening import has_state, open_database
from millrace.store.sql_jobs import SqlJobStore

__all__ = ["list_jobs", "show_job", "show_logs", "stop_job"]

_GROUPS = {
    JobKind.TRANSFORM: "/aws/sagemaker/TransformJobs",
    JobKind.TRAINING: "/aws/sagemaker/TrainingJobs",
    JobKind.PROCESSING: "/aws/sagemaker/ProcessingJobs",
}
PAGE = 100


class _Jobs:
    """The job store of a data directory, for the time of one command."""

    def __init__(self, settings: Settings) -> None:
        if not has_state(settings):
            raise SystemExit(f"millrace jobs: there is no state in {settings.data_dir} (MILLRACE_DATA_DIR, --data-dir)")
        self.clock = SystemClock()
        self._database = open_database(settings)
        self.store = SqlJobStore(self._database, clock=self.clock)

    def __enter__(self) -> "_Jobs":
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    async def find(self, name: str, region: str) -> tuple[JobKind, Job]:
        """Return the job of that name; `training-job/NAME` and its like tell kinds apart that share a name."""
        prefix, _, rest = name.partition("/")
        kinds, name = ([JobKind(prefix)], rest) if rest and prefix in list(JobKind) else (list(JobKind), name)
        found = []
        for kind in kinds:
            with contextlib.suppress(NoSuchJob):
                found.append((kind, await self.store.get(kind, region, name)))
        if not found:
            raise SystemExit(f"millrace jobs: there is no job {name!r} in region {region}")
        if len(found) > 1:
            choices = " or ".join(f"{kind.value}/{name}" for kind, _ in found)
            raise SystemExit(f"millrace jobs: {name!r} is the name of several jobs; say {choices}")
        return found[0]


def list_jobs(settings: Settings, *, region: str | None, limit: int) -> int:
    """Print the newest jobs of all kinds."""
    with _Jobs(settings) as jobs:
        entries = []
        for kind in JobKind:
            query = JobQuery(kind=kind, region=region or DEFAULT_REGION, limit=limit)
            page = asyncio.run(jobs.store.list_jobs(query))
            entries += [(summary, kind) for summary in page.summaries]
    entries.sort(key=lambda entry: entry[0].created_at, reverse=True)
    for summary, kind in entries[:limit]:
        created = summary.created_at.strftime("%Y-%m-%d %H:%M:%S")
        print(f"{created}  {summary.status.value:<11} {kind.value}/{summary.name}")
        if summary.failure_reason:
            print(f"{'':21}{summary.failure_reason}")
    return 0


def show_job(settings: Settings, name: str, *, region: str | None) -> int:
    """Print one job, its instances' live counters and its history, as JSON."""
    with _Jobs(settings) as jobs:
        kind, job = asyncio.run(jobs.find(name, region or DEFAULT_REGION))
        agents = asyncio.run(jobs.store.list_agents(job.id))
        history = asyncio.run(jobs.store.history(job.id))
    document = {
        "kind": kind.value,
        **to_document(job),
        "created_at": job.created_at,
        "modified_at": job.modified_at,
        "agents": [_agent(agent) for agent in agents],
        "history": [{"at": at, "event": event} for at, event, _ in history],
    }
    sys.stdout.buffer.write(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    return 0


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
    done = progress.get("bytes_in", 0)
    if seconds <= 0 or not done:
        return {}
    rates = {"records_per_second": progress["records"] / seconds, "bytes_per_second": done / seconds}
    left = max(0, progress["bytes_total"] - done)
    return {name: round(value, 3) for name, value in (*rates.items(), ("eta_seconds", left * seconds / done))}


def show_logs(settings: Settings, name: str, *, region: str | None) -> int:
    """Print all log lines of a job, stream by stream."""
    with _Jobs(settings) as jobs:
        kind, job = asyncio.run(jobs.find(name, region or DEFAULT_REGION))
    logs = LogFiles(settings.logs_dir)
    endpoint = isinstance(job, EndpointJob)
    group = f"/aws/sagemaker/Endpoints/{job.name}" if endpoint else _GROUPS[kind]
    try:
        streams = logs.list_streams(group, "" if endpoint else f"{job.name}/")
    except NoSuchLogStream:
        return 0
    for stream in streams:
        print(f"==> {stream.name}")
        offset = 0
        while True:
            page = logs.read(group, stream.name, offset=offset)
            for event in page.events:
                print(event.message)
            if page.end_offset == offset:
                break
            offset = page.end_offset
    return 0


def stop_job(settings: Settings, name: str, *, region: str | None) -> int:
    """Ask for a job's stop; the server, running or to come, carries it out."""
    with _Jobs(settings) as jobs:
        _, job = asyncio.run(jobs.find(name, region or DEFAULT_REGION))
        if isinstance(job, EndpointJob):
            raise SystemExit(f"millrace jobs: {name} is an endpoint; delete it with `aws sagemaker delete-endpoint`")
        if job.is_terminal:
            raise SystemExit(f"millrace jobs: {name} is {job.status.value} already")
        asyncio.run(jobs.store.post(job.id, StopRequested(at=jobs.clock.now())))
    print(f"asked {name} to stop")
    return 0
