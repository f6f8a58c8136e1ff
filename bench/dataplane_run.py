"""Run the data plane in this process against an echo server: the same server, the same bodies, one core each.

The server echoes and runs on the first core; the contenders, in turn, run on the second. `in memory` is the data plane
alone; its output is compared whole in the first turn, by size and edges of chunks in the others. `files` is the data
plane with the object store of a real job: read from a file, written to a file, on disk when the turn ends; `copy to
disk` is what that takes alone.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import uvloop

from bench import wrk
from bench.case import Options
from bench.machine import cpu_seconds, on_core, pinned
from bench.turns import OutputDiffers, Sample
from millrace.clock import SystemClock
from millrace.dataplane import EffectiveSettings, InputObject, run_transform
from millrace.jobs.transform import (
    MIB,
    AssembleWith,
    BatchStrategy,
    DataProcessing,
    InstanceOutcome,
    SplitType,
    TransformSpec,
)
from millrace.names import ObjectPrefix, ObjectRef
from millrace.ports.objects import ObjectInfo, ObjectMeta, ObjectStore
from millrace.ports.runtime import Address
from millrace.store.filesystem import FilesystemObjects
from millrace.testing.objects import MemoryObjects

__all__ = ["CLIENT_CORE", "CONTENT_TYPE", "COPY", "FILES", "IN_MEMORY", "WRK", "Work", "contenders", "echo_server"]

WRK_SECONDS = 2
CONTENT_TYPE = "application/jsonlines"
SOURCE, TARGET = ObjectRef("bench", "in/a.jsonl"), ObjectRef("bench", "out/a.jsonl.out")
SERVER_CORE, CLIENT_CORE = 0, 1
EDGE_BYTES = 64
WRK, IN_MEMORY, FILES, COPY = "wrk", "millrace in memory", "millrace files", "copy to disk"


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """One way to send the records."""

    title: str
    strategy: BatchStrategy
    connections: int
    processing: DataProcessing = field(default_factory=DataProcessing)
    body_bytes: int
    """Bytes of wrk's body: what one request of ours carries."""
    unit: str
    unit_bytes: float


def contenders(
    work: Work, text: bytes, output: bytes, address: Address, options: Options
) -> dict[str, Callable[[], Sample]]:
    """Return wrk, the data plane in memory and over files, whose outputs are checked, and copying the file."""
    folder = options.folder / work.title.replace(" ", "-")
    stored, target = folder / SOURCE.bucket / SOURCE.key, folder / TARGET.bucket / TARGET.key
    stored.parent.mkdir(parents=True)
    stored.write_bytes(text)

    def limit() -> Sample:
        sample = wrk.post(
            f"http://{address}/invocations",
            text[: work.body_bytes],
            connections=work.connections,
            seconds=1 if options.quick else WRK_SECONDS,
            core=CLIENT_CORE,
            content_type=CONTENT_TYPE,
        )
        return replace(sample, work=sample.work * work.body_bytes / work.unit_bytes)

    warm = False

    def in_memory() -> Sample:
        nonlocal warm
        objects = ComparedObjects(text, output, whole=not warm)
        warm = True
        sample = _transform(work, text, address, lambda: objects)
        if not objects.committed or not objects.equal or objects.written != len(output):
            raise OutputDiffers(f"{work.title}, in memory: output differs within {objects.written} bytes")
        return sample

    def over_files() -> Sample:
        target.unlink(missing_ok=True)  # two copies at a time would have the page cache look for room
        sample = _transform(work, text, address, lambda: FilesystemObjects(folder))
        _require_same(work, target, output)
        return sample

    def copy() -> Sample:
        return _copy_to_disk(work, stored, folder / "copy")

    return {WRK: limit, IN_MEMORY: in_memory, FILES: over_files, COPY: copy}


def _require_same(work: Work, path: Path, output: bytes) -> None:
    """Compare piece by piece: a second copy in memory would push what is measured out of the caches."""
    position = 0
    with path.open("rb") as file:
        while piece := file.read(MIB):
            if output[position : position + len(piece)] != piece:
                raise OutputDiffers(f"{work.title}, files: output differs within {MIB} bytes from {position}")
            position += len(piece)
    if position != len(output):
        raise OutputDiffers(f"{work.title}, files: expected {len(output)} bytes, got {position}")


def _transform(work: Work, text: bytes, address: Address, open_store: Callable[[], ObjectStore]) -> Sample:
    """Run one instance's share in this process."""
    with on_core(CLIENT_CORE):
        cpu, started = cpu_seconds(), time.perf_counter()
        outcome = uvloop.run(_run(work, len(text), address, open_store()))
        seconds = time.perf_counter() - started
        cpu = cpu_seconds() - cpu
    if outcome.failure_count or outcome.stopped:
        raise OutputDiffers(f"{work.title}: {outcome}")
    return Sample(
        seconds=seconds,
        cpu_seconds=cpu,
        work=len(text) / work.unit_bytes,
        facts={
            "requests": outcome.progress.requests,
            "CPU us per request": cpu / outcome.progress.requests * 1e6,
            "p50 ms": outcome.progress.latency_p50_ms or 0.0,
            "p99 ms": outcome.progress.latency_p99_ms or 0.0,
        },
    )


def _copy_to_disk(work: Work, source: Path, target: Path) -> Sample:
    """Do what the store can't do without: have as many bytes on disk when the turn ends."""
    cpu, started = cpu_seconds(), time.perf_counter()
    with source.open("rb") as reading, target.open("wb") as writing:
        size = source.stat().st_size
        done = 0
        while done < size:
            done += os.sendfile(writing.fileno(), reading.fileno(), done, size - done)
        os.fsync(writing.fileno())
    return Sample(seconds=time.perf_counter() - started, cpu_seconds=cpu_seconds() - cpu, work=size / work.unit_bytes)


async def _run(work: Work, size: int, address: Address, objects: ObjectStore) -> InstanceOutcome:
    async def guard() -> None:
        return None

    return await run_transform(
        TransformSpec(
            model="echo",
            source=ObjectPrefix(SOURCE.bucket, "in/"),
            output=ObjectPrefix(TARGET.bucket, "out"),
            split=SplitType.LINE,
            assemble_with=AssembleWith.NONE if work.processing.is_identity else AssembleWith.LINE,
            content_type=CONTENT_TYPE,
            accept=CONTENT_TYPE,
            processing=work.processing,
        ),
        [InputObject(ref=SOURCE, size=size, output=TARGET)],
        objects=objects,
        address=address,
        effective=EffectiveSettings(max_concurrent_transforms=work.connections, strategy=work.strategy),
        data_log=lambda line: None,
        on_progress=lambda progress: None,
        stop=asyncio.Event(),
        commit_guard=guard,
        clock=SystemClock(),
    )


class ComparedObjects(MemoryObjects):
    """Reads as a local store with read-ahead does, one copy and no waiting, and compares what is written.

    `whole` compares every byte; else each chunk's edges, for comparing costs what the data plane would be charged with.
    """

    def __init__(self, source: bytes, output: bytes, *, whole: bool) -> None:
        super().__init__()
        self._source = memoryview(source)
        self.output = memoryview(output)
        self.whole = whole
        self.written = 0
        self.equal = True
        self.committed = False

    async def read(self, ref: ObjectRef, *, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        for position in range(0, len(self._source), MIB):
            yield bytes(self._source[position : position + MIB])

    async def open_writer(self, ref: ObjectRef, meta: ObjectMeta | None = None) -> "_Sink":  # type: ignore[override]
        return _Sink(self, ref)


class _Sink:
    """Compares the chunks of the one output."""

    def __init__(self, objects: ComparedObjects, ref: ObjectRef) -> None:
        self._objects = objects
        self._ref = ref

    async def write(self, chunk: bytes | memoryview) -> None:
        objects = self._objects
        wanted = objects.output[objects.written : objects.written + len(chunk)]
        edges = (slice(None),) if objects.whole else (slice(EDGE_BYTES), slice(-EDGE_BYTES, None))
        objects.equal &= all(bytes(wanted[edge]) == bytes(chunk[edge]) for edge in edges)
        objects.written += len(chunk)

    async def commit(self, *, origin: str = "") -> ObjectInfo:
        self._objects.committed = True
        return ObjectInfo(ref=self._ref, size=self._objects.written, etag="", modified_at=SystemClock().now())

    async def abort(self) -> None:
        self._objects.equal = False


@contextmanager
def echo_server(*arguments: str) -> Iterator[Address]:
    command = [sys.executable, str(Path(__file__).with_name("programs") / "echo_server.py"), *arguments]
    with subprocess.Popen(pinned(command, SERVER_CORE), stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None, "it is a pipe"
        try:
            yield Address.parse(server.stdout.readline().strip())
        finally:
            server.kill()
