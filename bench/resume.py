"""What committing outputs in parts costs a job, and what it saves after a crash."""

import asyncio
import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from bench import goals
from bench.case import Case, Options
from bench.dataplane_run import CLIENT_CORE, CONTENT_TYPE, echo_server
from bench.goals import Goal
from bench.inputs import json_lines
from bench.machine import cpu_seconds, on_core, versions
from bench.platform import BUCKET, ROLE, Platform, serve
from bench.turns import Comparison, Outcome, OutputDiffers, Sample, run
from millrace.clock import SystemClock
from millrace.dataplane import EffectiveSettings, InputObject, run_transform
from millrace.dataplane.checkpoints import Checkpoints
from millrace.jobs.job import Instance, JobKind, JobStatus, TransformJob
from millrace.jobs.transform import BatchStrategy, InstanceOutcome, SplitType, TransformSpec
from millrace.names import ObjectPrefix, ObjectRef, sagemaker_arn
from millrace.ports.jobs import InstanceRef
from millrace.ports.runtime import Address
from millrace.settings import load
from millrace.store.database import Database
from millrace.store.filesystem import FilesystemObjects
from millrace.store.opening import open_database
from millrace.store.sql_jobs import SqlJobStore
from millrace.store.sql_journal import SqlJournal
from millrace_algorithms.serving.memory import keep_freed_memory

__all__ = ["CASE"]

RECORD_BYTES = 450
SINGLE_RECORDS, MANY_RECORDS = 400_000, 4_000_000
CONNECTIONS = 16
WITH, WITHOUT = "journal", "no journal"
FULL, RESUMED = "undisturbed", "after the kill"
CPU = "CPU s"
SHARE = 1.03
RESUMED_SHARE = 0.55
CRASH_RECORDS = 700_000
DELAY_MS = 60
"""What the container takes for a payload of 1 MB."""

IMAGE, NAME = "bench-slow-echo:1", "slow-echo"
SOURCE, TARGET = ObjectRef(BUCKET, "in/a.jsonl"), ObjectRef(BUCKET, "out/a.jsonl.out")
LOOK_SECONDS = 0.002


def cases(options: Options) -> Iterator[Outcome]:
    """Compare runs with and without a journal, then a job that was killed half way with one that was not."""
    keep_freed_memory()  # as agents do
    share = 10 if options.quick else 1
    with echo_server() as address:
        for strategy, records in (
            (BatchStrategy.SINGLE_RECORD, SINGLE_RECORDS // share),
            (BatchStrategy.MULTI_RECORD, MANY_RECORDS // share),
        ):
            text = json_lines(records, RECORD_BYTES)
            yield run(_comparison(_Work(options.folder / strategy.value, strategy, text, address)), options.rounds)
    yield run(_crash(options.folder / "platform", CRASH_RECORDS // share), options.rounds)


class _Work:
    """One object through the data plane and the object store of a real job, in this process."""

    def __init__(self, folder: Path, strategy: BatchStrategy, text: bytes, address: Address) -> None:
        self.strategy = strategy
        self.size = len(text)
        self._address = address
        self._settings = load({}, data_dir=folder)
        self._objects = folder / "objects"
        self._numbers = itertools.count(1)
        stored = self._objects / SOURCE.bucket / SOURCE.key
        stored.parent.mkdir(parents=True)
        stored.write_bytes(text)

    def turn(self, *, journal: bool) -> Sample:
        """Run it once, and compare sizes."""
        target = self._objects / TARGET.bucket / TARGET.key
        target.unlink(missing_ok=True)
        with closing(open_database(self._settings)) as database, on_core(CLIENT_CORE):
            cpu, started = cpu_seconds(), time.perf_counter()
            outcome = uvloop.run(self._run(database if journal else None))
            seconds, cpu = time.perf_counter() - started, cpu_seconds() - cpu
        if outcome.failure_count or target.stat().st_size != self.size:
            raise OutputDiffers(f"{self.strategy}: {outcome}")
        return Sample(seconds=seconds, cpu_seconds=cpu, work=self.size / 1e6, facts={CPU: cpu})

    async def _run(self, database: Database | None) -> InstanceOutcome:
        async def guard() -> None:
            return None

        return await run_transform(
            self._spec(),
            [InputObject(ref=SOURCE, size=self.size, output=TARGET, version="v")],
            objects=FilesystemObjects(self._objects),
            address=self._address,
            effective=EffectiveSettings(max_concurrent_transforms=CONNECTIONS, strategy=self.strategy),
            data_log=lambda line: None,
            on_progress=lambda progress: None,
            stop=asyncio.Event(),
            commit_guard=guard,
            clock=SystemClock(),
            checkpoints=None if database is None else await self._checkpoints(database),
        )

    def _spec(self) -> TransformSpec:
        return TransformSpec(
            model="echo",
            source=ObjectPrefix(SOURCE.bucket, "in/"),
            output=ObjectPrefix(TARGET.bucket, "out"),
            split=SplitType.LINE,
            content_type=CONTENT_TYPE,
        )

    async def _checkpoints(self, database: Database) -> Checkpoints:
        """Return a journal as an agent has it."""
        clock = SystemClock()
        jobs = SqlJobStore(database, clock=clock)
        name = f"{self.strategy.value}-{next(self._numbers)}"
        now = clock.now()
        job = TransformJob(
            name=name,
            arn=sagemaker_arn(JobKind.TRANSFORM, name, region="us-east-1", account="000000000000"),
            status=JobStatus.IN_PROGRESS,
            created_at=now,
            modified_at=now,
            spec=self._spec(),
            containers=(),
            instances=(Instance(index=0),),
        )
        added = await jobs.add(JobKind.TRANSFORM, job, {})
        ref = InstanceRef(job_id=added.id, index=0, attempt=1)
        await jobs.open_instance(ref)
        await jobs.register_agent(ref, agent_id="bench", process_id=os.getpid(), process_start=0, host="here")
        journal = SqlJournal(database, ref, agent_id="bench", clock=clock)
        return Checkpoints(journal=journal, work=job.work)


def _comparison(work: _Work) -> Comparison:
    return Comparison(
        title=f"{work.strategy}: {work.size / 1e6:.0f} MB, {CONNECTIONS} connections",
        unit="MB",
        contenders={WITH: partial(work.turn, journal=True), WITHOUT: partial(work.turn, journal=False)},
        references=(WITHOUT,),
        goals=(
            goals.speed(WITH, WITHOUT, 1 / SHARE),
            goals.fact_ratio(WITH, WITHOUT, CPU, at_least=0, at_most=SHARE),
        ),
        sides="Both read a file and have the output on disk when the turn ends.",
    )


def _crash(folder: Path, records: int) -> Comparison:
    text = json_lines(records, RECORD_BYTES)
    folder.mkdir()
    script = Path(__file__).with_name("programs") / "echo_server.py"
    command = f'["{sys.executable}", "{script}", "--delay-ms", "{DELAY_MS}"]'
    (folder / "host-images.toml").write_text(f'[[image]]\nmatch = "{IMAGE}"\ncommand = {command}\n', "utf-8")
    numbers = itertools.count()
    return Comparison(
        title=f"A job over one object of {len(text) / 1e6:.0f} MB whose agent and container are killed half way",
        unit="jobs",
        contenders={
            FULL: partial(_job, folder, text, numbers, kills=False),
            RESUMED: partial(_job, folder, text, numbers, kills=True),
        },
        references=(FULL,),
        warm_up=False,
        goals=(_time_share(RESUMED, FULL, RESUMED_SHARE),),
        sides=f"'{RESUMED}' counts from the SIGKILL until the job is completed, start of the next agent and container "
        "included; the payloads are of 1 MB, one at a time.",
    )


def _time_share(contender: str, reference: str, at_most: float) -> Goal:
    return Goal(
        text=f"{contender}: at most {at_most:g} of the time of {reference}",
        needs=(contender, reference),
        values=lambda outcome: [
            one.seconds / other.seconds
            for one, other in zip(outcome.samples(contender), outcome.samples(reference), strict=True)
        ],
        at_most=at_most,
    )


def _job(folder: Path, text: bytes, numbers: "itertools.count[int]", *, kills: bool) -> Sample:
    name = f"crash-{next(numbers)}"
    with serve(folder) as platform:
        if name == "crash-0":
            platform.sagemaker.create_model(ModelName=NAME, ExecutionRoleArn=ROLE, PrimaryContainer={"Image": IMAGE})
            platform.put("rows/rows.jsonl", text)
        killed: list[float] = []
        killer = threading.Thread(target=_kill_half_way, args=(platform, len(text) // 2, killed))
        if kills:
            killer.start()
        started = time.perf_counter()
        limits: dict[str, Any] = {"MaxPayloadInMB": 1, "MaxConcurrentTransforms": 1}
        platform.transform(name, NAME, "rows/", media_type=CONTENT_TYPE, **limits)
        ended = time.perf_counter()
        if kills:
            killer.join()
            started = killed[0]
        output = platform.settings.objects_dir / BUCKET / "out" / name / "rows.jsonl.out"
        if output.read_bytes() != text:
            raise OutputDiffers(f"{name}: the output is not the input")
        output.unlink()
    return Sample(seconds=ended - started)


def _kill_half_way(platform: Platform, size: int, killed: list[float]) -> None:
    """Kill the agent, with which its container ends, once so many bytes are written."""
    drafts = platform.settings.objects_dir / ".millrace" / BUCKET / "drafts"
    while not any(path.stat().st_size >= size for path in drafts.glob("*")):
        time.sleep(LOOK_SECONDS)
    with closing(open_database(platform.settings)) as database:
        jobs = SqlJobStore(database, clock=SystemClock())
        [job_id] = asyncio.run(jobs.list_unfinished())
        [agent] = asyncio.run(jobs.list_agents(job_id))
    os.kill(agent.process_id, signal.SIGKILL)
    killed.append(time.perf_counter())


CASE = Case(
    name="resume",
    question="what do outputs that can be gone on with cost, and what do they save?",
    run=cases,
    versions=lambda: versions("millrace", "uvloop", "httptools", "orjson"),
)
