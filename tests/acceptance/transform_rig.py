"""Run one transform instance over memory objects against a model stub on a real socket."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from millrace.clock import Clock, SystemClock
from millrace.dataplane import (
    Client,
    EffectiveSettings,
    InputObject,
    Limits,
    assign,
    effective_settings,
    list_inputs,
    run_transform,
    validate_spec,
    wait_until_healthy,
)
from millrace.dataplane.checkpoints import Checkpoints
from millrace.dataplane.formats.job import JobFormats
from millrace.dataplane.limits import Budget
from millrace.dataplane.range_rules import cut_inputs
from millrace.jobs.transform import InstanceOutcome, Progress, TransformSpec, transform_failure_reason
from millrace.jobs.transform_options import JobOptions, job_options
from millrace.names import ObjectPrefix
from millrace.ports.jobs import InstanceRef
from millrace.testing.journal import MemoryJournals
from millrace.testing.model_server import Behaviour, ModelReply, ModelRequest, ModelServer
from millrace.testing.objects import MemoryObjects

MIB = 1024 * 1024
Answering = Callable[[bytes], bytes]


def model(answer: Answering) -> Behaviour:
    """Return a model that answers a body with a body, and knows no /execution-parameters."""

    async def behave(request: ModelRequest) -> ModelReply:
        if request.path != "/invocations":
            return ModelReply(status=404)
        return ModelReply(answer(request.body))

    return behave


def _rowsum(body: bytes) -> bytes:
    return b"\n".join(b"%d" % sum(map(int, line.split(b","))) for line in body.split())


ECHO = model(lambda body: body)
TRIM = model(lambda body: body.removesuffix(b"\n"))
ROWSUM = model(_rowsum)
ONE = model(lambda body: b"\n".join(b'{"y":1}' for _ in body.splitlines()))
LEN = model(lambda body: b"%d" % len(body))
HEX = model(lambda body: body.hex().encode())


def fix(answer: str) -> Behaviour:
    """Return a model that always answers the same."""
    return model(lambda _: answer.encode())


def status(code: int, message: str = "", *, only: bytes | None = None) -> Behaviour:
    """Return a model that answers a status, to every body or to those that contain `only`; else it echoes."""

    async def behave(request: ModelRequest) -> ModelReply:
        if request.path != "/invocations":
            return ModelReply(status=404)
        if only is None or only in request.body:
            return ModelReply(message.encode(), status=code)
        return ModelReply(request.body)

    return behave


def header(name: str) -> Behaviour:
    """Return a model that answers the value of a request header, or "-"."""

    async def behave(request: ModelRequest) -> ModelReply:
        return ModelReply(request.headers.get(name.lower(), "-").encode())

    return behave


async def never(request: ModelRequest) -> ModelReply:
    """Behave as a model that does not answer within anybody's patience."""
    if request.path == "/invocations":
        await asyncio.Event().wait()
    return ModelReply(status=404)


def job(**settings: object) -> TransformSpec:
    """Return a spec with the vectors' defaults: bucket b, input s3://b/in/, output s3://b/out."""
    defaults: dict[str, object] = {
        "model": "stub",
        "source": ObjectPrefix("b", "in/"),
        "output": ObjectPrefix("b", "out"),
    }
    return TransformSpec(**{**defaults, **settings})  # type: ignore[arg-type]


@dataclass
class Result:
    """What a run left behind."""

    outcome: InstanceOutcome
    objects: MemoryObjects
    server: ModelServer
    log: list[str]
    progress: list[Progress] = field(default_factory=list)
    committed: list[InputObject] = field(default_factory=list)

    @property
    def output(self) -> bytes:
        """The output of in/a.csv."""
        return self.objects.data("s3://b/out/a.csv.out")

    @property
    def failed(self) -> bool:
        return self.outcome.failure_count > 0

    @property
    def reason(self) -> str:
        """The job's FailureReason."""
        reason = transform_failure_reason([self.outcome])
        assert reason is not None
        return reason

    @property
    def texts(self) -> list[str]:
        """The data log without its prefixes."""
        return [line.split("[sagemaker logs]: ", 1)[1] for line in self.log]


async def no_guard() -> None:
    """Let every commit pass."""


async def checkpoints_of(journals: MemoryJournals, attempt: int, **bounds: Any) -> Checkpoints:
    """Return what an attempt at one job, from 1, commits parts by; `bounds` say how often it does."""
    journal = journals.open(InstanceRef(job_id=1, index=0, attempt=attempt))
    return Checkpoints(journal=journal, work="job 1", resumes=attempt > 1, found=await journal.load(), **bounds)


async def run_job(
    spec: TransformSpec,
    behaviour: Behaviour,
    inputs: bytes | Mapping[str, bytes] = b"",
    *,
    before: Mapping[str, bytes] | None = None,
    clock: Clock | None = None,
    driver: Callable[[ModelServer], Awaitable[None]] | None = None,
    instance: int = 0,
    limits: Limits | None = None,
    stop: asyncio.Event | None = None,
    guard: Callable[[], Awaitable[None]] = no_guard,
    effective: EffectiveSettings | None = None,
    objects: MemoryObjects | None = None,
    job_start: datetime | None = None,
    budget: Budget | None = None,
    options: JobOptions | None = None,
    checkpoints: Checkpoints | None = None,
    scratch: Path | None = None,
    resumed: Sequence[int] | None = None,
    ping: Behaviour | None = None,
) -> Result:
    """Run one instance as the agent does: check, ping, ask, list, transform.

    With `resumed` the journal is taken up first, as agents do; else `checkpoints` know what was found.

    `inputs` are the bytes of in/a.csv, or objects by key; `before` are objects that exist besides. `driver` runs
    beside the job, to move a manual clock, say.
    """
    validate_spec(spec)
    store = objects or MemoryObjects()
    named = {"in/a.csv": inputs} if isinstance(inputs, bytes) else inputs
    for key, data in {**named, **(before or {})}.items():
        store.add(f"s3://b/{key}", data)
    log: list[str] = []
    progress: list[Progress] = []
    committed: list[InputObject] = []
    chosen_clock = clock or SystemClock()
    bounds = limits or Limits()
    room = budget or Budget(bounds.inflight_bytes)
    async with ModelServer(behaviour, ping=ping) as server:
        await wait_until_healthy(server.address, window_seconds=60, clock=chosen_clock)
        async with Client(server.address) as client:
            settled = effective or await effective_settings(client, spec)
        chosen = job_options(spec.environment) if options is None else options
        listed = await list_inputs(store, spec)
        if checkpoints is not None:
            listed = list(cut_inputs(listed, JobFormats(spec), chosen.range_bytes))
        inputs_taken = assign(listed, instance, spec.instance_count, chosen.scheduling)
        if resumed is not None and checkpoints is not None:
            await checkpoints.take_up(inputs_taken, resumed)
        driving = asyncio.ensure_future(driver(server)) if driver else None
        try:
            outcome = await run_transform(
                spec,
                inputs_taken,
                objects=store,
                address=server.address,
                effective=settled,
                data_log=log.append,
                on_progress=progress.append,
                stop=stop or asyncio.Event(),
                commit_guard=guard,
                clock=chosen_clock,
                limits=bounds,
                job_start=job_start,
                on_committed=committed.append,
                budget=room,
                options=chosen,
                checkpoints=checkpoints,
                scratch=scratch,
            )
            if driving is not None:
                await driving
        finally:
            if driving is not None:
                driving.cancel()
    assert store.open_writers == 0, "every writer is committed or aborted"
    assert outcome.stopped or room.held == 0, f"all room that was taken is given back: {room.held}"
    return Result(outcome, store, server, log, progress, committed)
