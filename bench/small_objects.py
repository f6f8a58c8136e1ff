"""A transform over many small objects, against posting the same bodies from memory and against Ray Data."""

import asyncio
import itertools
import json
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import uvloop

from bench import goals
from bench.case import Case, Options
from bench.dataplane_run import CLIENT_CORE, echo_server
from bench.environments import RAY
from bench.machine import cpu_seconds, on_core, versions
from bench.peer_jobs import SECOND, run_script
from bench.post_from_memory import post_all
from bench.turns import Comparison, Outcome, OutputDiffers, Sample, run
from millrace.clock import SystemClock
from millrace.dataplane import EffectiveSettings, run_transform
from millrace.dataplane.checkpoints import Checkpoints
from millrace.dataplane.listing import list_ahead
from millrace.jobs.transform import InstanceOutcome, TransformSpec
from millrace.names import ObjectPrefix
from millrace.ports.jobs import InstanceRef
from millrace.ports.runtime import Address
from millrace.store.filesystem import FilesystemObjects
from millrace.testing.journal import MemoryJournals

__all__ = ["CASE"]

OBJECTS, LEAST_BYTES, MOST_BYTES, CONNECTIONS = 20_000, 1_000, 10_000, 16
FILES, MEMORY, COPY, PEER = "millrace files", "raw client from memory", "copy, synced", "Ray Data"


def cases(options: Options) -> Iterator[Outcome]:
    """Compare a job's share with what it can't be faster than: the requests alone, and the files alone."""
    numbers = random.Random(1)
    count = OBJECTS // 10 if options.quick else OBJECTS
    bodies = [numbers.randbytes(numbers.randrange(LEAST_BYTES, MOST_BYTES)) for _ in range(count)]
    source = options.folder / "bench" / "in"
    source.mkdir(parents=True)
    for number, body in enumerate(bodies):
        (source / f"{number:06d}.bin").write_bytes(body)
    os.sync()
    with echo_server() as address:
        turns = itertools.count()
        written: list[Path] = []

        def files() -> Sample:
            output = f"out-{next(turns)}"
            written.append(options.folder / "bench" / output)
            return _measured(count, lambda: uvloop.run(_transform(options.folder, output, address)), is_pinned=False)

        def memory() -> Sample:
            return _measured(count, lambda: uvloop.run(_post(bodies, address)))

        def copy() -> Sample:
            target = options.folder / f"copy-{next(turns)}"
            target.mkdir()
            return _measured(count, lambda: _copy(source, target))

        peer = _RayPeer(options, address, source, count)
        takes_part = options.peers and RAY.absence() is None

        def check() -> None:
            for number, body in enumerate(bodies):
                if (written[0] / f"{number:06d}.bin.out").read_bytes() != body:
                    raise OutputDiffers(f"{FILES}: object {number} is not what was answered")

        contenders: dict[str, Callable[[], Sample]] = {FILES: files, MEMORY: memory, COPY: copy}
        if takes_part:
            contenders |= {PEER: peer.first, f"{PEER}{SECOND}": peer.second}
        yield run(
            Comparison(
                title=f"{count:,} objects of 1 to 10 kB, one request each over {CONNECTIONS} connections",
                unit="object",
                contenders=contenders,
                references=(MEMORY, COPY),
                check=check,
                goals=(
                    goals.speed(FILES, MEMORY, 0.9),
                    goals.speed(FILES, PEER, 5),
                    goals.told_speed(FILES, f"{PEER}{SECOND}"),
                    goals.told_speed(FILES, COPY),
                ),
                absent={} if takes_part else {PEER: RAY.absence() or "make bench-peers has it"},
                sides="Millrace lists, reads, posts and has one output per object, with its facts, on disk when its "
                "time ends. `copy, synced` is 16 threads that read, write, sync and rename each file: what the disk "
                "allows. Ray writes one Parquet dataset, left in the page cache; its session is up before its time "
                "begins. Millrace, with the process that writes its outputs, and Ray use both cores; the server has "
                "the first one, and the others the second one only.",
            ),
            options.rounds,
        )


def _measured(count: int, work: Callable[[], object], *, is_pinned: bool = True) -> Sample:
    with on_core(CLIENT_CORE) if is_pinned else nullcontext():
        cpu, started = _cpu_seconds(), time.perf_counter()
        work()
        seconds, cpu = time.perf_counter() - started, _cpu_seconds() - cpu
    return Sample(seconds=seconds, cpu_seconds=cpu, work=count, facts={"CPU us per object": cpu / count * 1e6})


def _cpu_seconds() -> float:
    """Return the processor time of this process, and of those that it has started and that have ended."""
    return cpu_seconds() + cpu_seconds(children=True)


async def _transform(folder: Path, output: str, address: Address) -> InstanceOutcome:
    """Run one instance's share of a job, from listing its input to having its outputs on disk."""

    async def guard() -> None:
        return None

    objects = FilesystemObjects(folder)
    spec = TransformSpec(model="echo", source=ObjectPrefix("bench", "in/"), output=ObjectPrefix("bench", output))
    async with await list_ahead(objects, spec, folder) as inputs:
        outcome = await run_transform(
            spec,
            inputs,
            objects=objects,
            address=address,
            effective=EffectiveSettings(max_concurrent_transforms=CONNECTIONS),
            data_log=lambda line: None,
            on_progress=lambda progress: None,
            stop=asyncio.Event(),
            commit_guard=guard,
            clock=SystemClock(),
            checkpoints=Checkpoints(
                journal=MemoryJournals().open(InstanceRef(job_id=1, index=0, attempt=1)), work="bench"
            ),
        )
    objects.close()
    if outcome.failure_count or outcome.stopped:
        raise OutputDiffers(f"{FILES}: {outcome}")
    return outcome


async def _post(bodies: Sequence[bytes], address: Address) -> None:
    answered = await post_all(bodies, address, connections=CONNECTIONS)
    if answered != sum(map(len, bodies)):
        raise OutputDiffers(f"{MEMORY}: expected answers of {sum(map(len, bodies))} bytes, got {answered}")


def _copy(source: Path, target: Path) -> None:
    """Have a copy of each file on disk, as whole files only, in the quickest plain way."""

    def copy(file: Path) -> None:
        draft = target / f".{file.name}"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            os.write(descriptor, file.read_bytes())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        draft.rename(target / file.name)

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(copy, source.iterdir()))
    descriptor = os.open(target, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


class _RayPeer:
    """The first and the second job of a session that is up."""

    def __init__(self, options: Options, address: Address, source: Path, count: int) -> None:
        self._folder = options.folder
        self._address = address
        self._source = source
        self._count = count
        self._figures: dict[str, float] = {}

    def first(self) -> Sample:
        """Start a session and run both jobs in it."""
        targets = [self._folder / f"ray-{position}" for position in (1, 2)]
        for target in targets:
            shutil.rmtree(target, ignore_errors=True)
        arguments = [str(time.time()), str(self._address), str(self._source), *map(str, targets)]
        self._figures = json.loads(run_script(RAY, "ray_small_objects.py", arguments))
        return self._sample("first")

    def second(self) -> Sample:
        """Return what the second job took, which ran behind the first."""
        return self._sample("second")

    def _sample(self, which: str) -> Sample:
        return Sample(
            seconds=self._figures[f"{which}_seconds"],
            cpu_seconds=self._figures[f"{which}_cpu_seconds"],
            work=self._count,
            facts={"start of the session s": self._figures["start_seconds"]},
        )


CASE = Case(
    name="small_objects",
    question="do many small objects keep the store and the model busy?",
    run=cases,
    versions=lambda: "; ".join([versions("millrace", "uvloop"), *([RAY.versions()] if RAY.versions() else [])]),
    has_peers=True,
)
