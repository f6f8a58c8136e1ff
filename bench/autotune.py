"""Whole jobs with autotuning against the best static setting, which a grid finds for each of four servers.

The servers are programs of bench/programs/limited_server.py on the first core, the data plane runs on the second, in
memory. What the server that computes loses of its core to other programs is not counted, to either side. A point of the
grid that takes longer than the best one so far is stopped. The best then takes turns with autotuning, which is told
nothing.
"""

import asyncio
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import uvloop

from bench import goals
from bench.case import Case, Options
from bench.dataplane_run import CLIENT_CORE, CONTENT_TYPE, SERVER_CORE, SOURCE, TARGET, ComparedObjects
from bench.inputs import json_lines
from bench.machine import cpu_seconds, on_core, pinned, versions
from bench.turns import Comparison, Outcome, OutputDiffers, Sample, run
from millrace.clock import SystemClock
from millrace.dataplane import EffectiveSettings, InputObject, run_transform
from millrace.dataplane.autotune_settings import AutotuneSettings
from millrace.jobs.transform import MIB, AssembleWith, BatchStrategy, InstanceOutcome, SplitType, TransformSpec
from millrace.names import ObjectPrefix
from millrace.ports.runtime import Address

__all__ = ["CASE"]

RECORDS, RECORD_BYTES = 10_000, 1000
TUNED = "autotuned"
AT_LEAST = 0.95
CONCURRENCIES = (2, 8, 32, 256)
LARGEST = 6 * MIB
SIZES = (256 * 1024, 1_000_000, LARGEST)


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """A server, and how much it is sent: about 20 seconds' worth."""

    title: str
    arguments: str
    megabytes: int
    strategy: BatchStrategy = BatchStrategy.MULTI_RECORD


SERVERS = (
    Served(title="CPU-bound: one core, 3 ms a request and 50 ms a MB", arguments="--burn --request-ms 3 --mb-ms 50",
           megabytes=400),
    Served(title="50 ms of sleep for each record", arguments="--request-ms 50", megabytes=100,
           strategy=BatchStrategy.SINGLE_RECORD),
    Served(title="Two slots, 503 beyond, 20 ms a request and 100 ms a MB",
           arguments="--slots 2 --refuse --request-ms 20 --mb-ms 100", megabytes=400),
    Served(title="Memory-limited: two slots, 413 above a megabyte, 20 ms a request and 100 ms a MB",
           arguments="--slots 2 --largest 1000000 --request-ms 20 --mb-ms 100", megabytes=350),
)  # fmt: skip


def cases(options: Options) -> Iterator[Outcome]:
    """Search each server's grid, then compare."""
    lines = json_lines(RECORDS, RECORD_BYTES)
    for served in SERVERS:
        text = lines * max(1, served.megabytes * 1_000_000 // len(lines) // (4 if options.quick else 1))
        with _server(served) as address:
            best, name, points = _best_of_grid(served, text, address)
            yield run(
                Comparison(
                    title=f"{served.title}: {len(text) / 1e6:.0f} MB, lines of {RECORD_BYTES} bytes",
                    unit="MB",
                    contenders={
                        TUNED: partial(_tuned, served, text, address),
                        name: partial(_static, served, text, address, best),
                    },
                    references=(name,),
                    warm_up=False,
                    goals=(goals.speed(TUNED, name, AT_LEAST),),
                    sides=f"The static setting is the best of {points}; autotuning begins anew in each turn.",
                ),
                options.rounds,
            )


def _best_of_grid(served: Served, text: bytes, address: Address) -> tuple[EffectiveSettings, str, int]:
    """Return the quickest setting, its name, and how many there were."""
    sizes: Sequence[int] = SIZES if served.strategy is BatchStrategy.MULTI_RECORD else (LARGEST,)
    grid = [
        EffectiveSettings(max_concurrent_transforms=slots, max_payload_bytes=size, strategy=served.strategy)
        for slots in reversed(CONCURRENCIES)
        for size in sizes
    ]
    best, seconds = grid[-1], float("inf")
    for setting in grid:
        sample = _transform(served, text, address, setting, give_up_after=seconds)
        if sample is not None and sample.seconds < seconds:
            best, seconds = setting, sample.seconds
    sized = f" of {best.max_payload_bytes / MIB:g} MB" if len(sizes) > 1 else ""
    return best, f"{best.max_concurrent_transforms} requests{sized}", len(grid)


def _tuned(served: Served, text: bytes, address: Address) -> Sample:
    setting = EffectiveSettings(
        max_concurrent_transforms=AutotuneSettings().first_concurrency,
        max_payload_bytes=LARGEST,
        strategy=served.strategy,
    )
    tuning = AutotuneSettings(tunes_payload=served.strategy is BatchStrategy.MULTI_RECORD, max_payload_bytes=LARGEST)
    return _finished(_transform(served, text, address, setting, tuning=tuning))


def _static(served: Served, text: bytes, address: Address, setting: EffectiveSettings) -> Sample:
    return _finished(_transform(served, text, address, setting))


def _finished(sample: Sample | None) -> Sample:
    if sample is None:
        raise OutputDiffers("the job failed, or its output differs from its input, which the server echoes")
    return sample


def _transform(
    served: Served,
    text: bytes,
    address: Address,
    setting: EffectiveSettings,
    *,
    tuning: AutotuneSettings | None = None,
    give_up_after: float = float("inf"),
) -> Sample | None:
    """Run a job in this process; None if it failed or was given up."""
    objects = ComparedObjects(text, text, whole=False)
    with on_core(CLIENT_CORE):
        lost, cpu, started = _lost(address), cpu_seconds(), time.perf_counter()
        outcome = uvloop.run(_run(served, len(text), address, setting, objects, tuning, give_up_after))
        seconds = time.perf_counter() - started
        cpu = cpu_seconds() - cpu
        lost = _lost(address) - lost
    if outcome.stopped or outcome.failure_count:
        return None
    if not objects.committed or not objects.equal or objects.written != len(text):
        raise OutputDiffers(f"{served.title}: output differs within {objects.written} bytes")
    facts = {
        "s lost to others": lost,
        "requests": float(outcome.progress.requests),
        "repeated": float(outcome.progress.retries),
    }
    if outcome.tuning is not None:
        facts |= {"chosen slots": outcome.tuning.concurrency, "chosen MB": (outcome.tuning.payload_bytes or 0) / MIB}
    return Sample(seconds=seconds - lost, cpu_seconds=cpu, work=len(text) / 1e6, facts=facts)


async def _run(
    served: Served,
    size: int,
    address: Address,
    setting: EffectiveSettings,
    objects: ComparedObjects,
    tuning: AutotuneSettings | None,
    give_up_after: float,
) -> InstanceOutcome:
    async def guard() -> None:
        return None

    stop = asyncio.Event()
    if give_up_after < float("inf"):
        asyncio.get_running_loop().call_later(give_up_after, stop.set)
    return await run_transform(
        TransformSpec(
            model="limited",
            source=ObjectPrefix(SOURCE.bucket, "in/"),
            output=ObjectPrefix(TARGET.bucket, "out"),
            split=SplitType.LINE,
            strategy=served.strategy,
            assemble_with=AssembleWith.NONE,
            content_type=CONTENT_TYPE,
            accept=CONTENT_TYPE,
        ),
        [InputObject(ref=SOURCE, size=size, output=TARGET)],
        objects=objects,
        address=address,
        effective=setting,
        data_log=lambda line: None,
        on_progress=lambda progress: None,
        stop=stop,
        commit_guard=guard,
        clock=SystemClock(),
        autotune=tuning,
    )


def _lost(address: Address) -> float:
    """Return the seconds that the server has lost to other programs."""
    with urllib.request.urlopen(f"http://{address}/lost") as answer:
        return float(answer.read())


@contextmanager
def _server(served: Served) -> Iterator[Address]:
    script = Path(__file__).with_name("programs") / "limited_server.py"
    command = [sys.executable, str(script), *served.arguments.split()]
    with subprocess.Popen(pinned(command, SERVER_CORE), stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None, "it is a pipe"
        try:
            yield Address.parse(server.stdout.readline().strip())
        finally:
            server.kill()


CASE = Case(
    name="autotune",
    question="how near to the best static setting does autotuning come, exploration included?",
    run=cases,
    versions=lambda: versions("millrace", "uvloop", "httptools"),
)
