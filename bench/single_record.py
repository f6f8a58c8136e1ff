"""Compare run_transform with wrk on one echo server, alternately; print JSON lines.

    python bench/single_record.py [--records 100000] [--rounds 3] [--case single|join|multi ...]

wrk sends the very bodies of the case to the same server. A ratio of 1.0 is wrk's rate. CPU figures are of this
process, which runs the data plane; the server runs on the other core.
"""

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import uvloop

from millrace.clock import SystemClock
from millrace.dataplane import EffectiveSettings, InputObject, run_transform
from millrace.jobs.transform import (
    MIB,
    AssembleWith,
    BatchStrategy,
    DataProcessing,
    InstanceOutcome,
    JoinSource,
    SplitType,
    TransformSpec,
)
from millrace.names import ObjectPrefix, ObjectRef
from millrace.ports.objects import ObjectInfo, ObjectMeta
from millrace.ports.runtime import Address
from millrace.testing.objects import MemoryObjects

RECORD_BYTES = 450
CONNECTIONS = 16
SOURCE, TARGET = "s3://bench/in/a.jsonl", "s3://bench/out/a.jsonl.out"


class Objects(MemoryObjects):
    """Reads as a local store with read-ahead does, one copy and no waiting, and compares what is written.

    What a store costs beyond that is its own affair and not measured here; nor is the cost of keeping the output.
    """

    def __init__(self, source: bytes, output: bytes) -> None:
        super().__init__()
        self._source = memoryview(source)
        self.output = output
        self.written = 0
        self.equal = True
        self.committed = False

    async def read(self, ref: ObjectRef, *, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        for position in range(0, len(self._source), MIB):
            yield bytes(self._source[position : position + MIB])

    async def open_writer(self, ref: ObjectRef, meta: ObjectMeta | None = None) -> "Sink":  # type: ignore[override]
        return Sink(self, ref)


class Sink:
    """Keeps the chunks of the one output."""

    def __init__(self, objects: Objects, ref: ObjectRef) -> None:
        self._objects = objects
        self._ref = ref

    async def write(self, chunk: bytes | memoryview) -> None:
        objects = self._objects
        objects.equal &= objects.output[objects.written : objects.written + len(chunk)] == chunk
        objects.written += len(chunk)

    async def commit(self) -> ObjectInfo:
        self._objects.committed = True
        return ObjectInfo(ref=self._ref, size=0, etag="", modified_at=SystemClock().now())

    async def abort(self) -> None:
        self._objects.equal = False


def record(number: int) -> bytes:
    """Return one JSON line of RECORD_BYTES bytes."""
    head = json.dumps({"id": number, "features": [0.5, 1.25, 3], "text": ""}, separators=(",", ":"))
    return (head[:-2] + "x" * (RECORD_BYTES - 1 - len(head)) + head[-2:]).encode() + b"\n"


def spec_of(case: str) -> TransformSpec:
    """Return the job of a case."""
    return TransformSpec(
        model="echo",
        source=ObjectPrefix("bench", "in/"),
        output=ObjectPrefix("bench", "out"),
        split=SplitType.LINE,
        assemble_with=AssembleWith.LINE if case == "join" else AssembleWith.NONE,
        content_type="application/jsonlines",
        accept="application/jsonlines",
        processing=DataProcessing(join_source=JoinSource.INPUT if case == "join" else JoinSource.NONE),
    )


async def transform(
    case: str, data: bytes, output: bytes, address: Address
) -> tuple[float, float, Objects, InstanceOutcome]:
    """Run one job; return seconds, CPU seconds, the store and the outcome."""
    objects = Objects(data, output)

    async def guard() -> None:
        return None

    before = resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    outcome = await run_transform(
        spec_of(case),
        [InputObject(ref=ObjectRef.parse(SOURCE), size=len(data), output=ObjectRef.parse(TARGET))],
        objects=objects,
        address=address,
        effective=EffectiveSettings(
            max_concurrent_transforms=4 if case == "multi" else CONNECTIONS,
            strategy=BatchStrategy.MULTI_RECORD if case == "multi" else BatchStrategy.SINGLE_RECORD,
        ),
        data_log=lambda line: None,
        on_progress=lambda progress: None,
        stop=asyncio.Event(),
        commit_guard=guard,
        clock=SystemClock(),
    )
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, objects, outcome


def wrk_rate(address: Address, body: bytes, connections: int, seconds: int) -> float:
    """Return wrk's requests per second."""
    with tempfile.TemporaryDirectory() as folder:
        payload, script = Path(folder, "body"), Path(folder, "post.lua")
        payload.write_bytes(body)
        script.write_text(
            f'local file = io.open("{payload}", "rb")\nwrk.method = "POST"\nwrk.body = file:read("*a")\nfile:close()\n'
            'wrk.headers["Content-Type"] = "application/jsonlines"\n'
        )
        command = [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{seconds}s",
            "-s",
            str(script),
            f"http://{address}/invocations",
        ]
        shown = subprocess.run(pinned(command, 1), check=True, capture_output=True, text=True).stdout
    return next(float(line.split()[1]) for line in shown.splitlines() if line.startswith("Requests/sec"))


def pinned(command: list[str], core: int) -> list[str]:
    """Return the command bound to one core."""
    return ["taskset", "-c", str(core), *command]


def expected(case: str, data: bytes) -> bytes:
    """Return the output that the job must have, worked out another way."""
    if case != "join":
        return data
    rows = []
    for line in data.splitlines():
        value = json.loads(line)
        joined = {"SageMakerOutput": dict(sorted(value.items())), **dict(sorted(value.items()))}
        rows.append(json.dumps(joined, separators=(",", ":")).encode() + b"\n")
    return b"".join(rows)


def measure(case: str, address: Address, records: int, seconds: int) -> dict[str, object]:
    """Run one paired round of a case."""
    data = b"".join(record(number) for number in range(records))
    multi = case == "multi"
    if multi:
        data = data * 8
    body = data[: 6 * MIB - (6 * MIB) % RECORD_BYTES] if multi else data[:RECORD_BYTES]
    wrk = wrk_rate(address, body, 4 if multi else CONNECTIONS, seconds)
    output = expected(case, data)
    taken, cpu, objects, outcome = uvloop.run(transform(case, data, output, address))
    if not objects.committed or not objects.equal or objects.written != len(output):
        raise SystemExit(f"case {case}: the output is wrong: {outcome}")
    rate = len(data) / taken / len(body)
    return {
        "case": case,
        "ratio": round(rate / wrk, 3),
        "wrk_per_s": round(wrk),
        "millrace_per_s": round(rate),
        "mb_per_s": round(len(data) / taken / 1e6, 1),
        "cpu_us_per_request": round(cpu / outcome.progress.requests * 1e6, 2),
        "p50_ms": outcome.progress.latency_p50_ms,
        "p99_ms": outcome.progress.latency_p99_ms,
    }


def main() -> int:
    """Parse the arguments and run all cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2, help="how long wrk runs in each round")
    parser.add_argument("--case", action="append", choices=["single", "join", "multi"])
    arguments = parser.parse_args()
    server_file = str(Path(__file__).with_name("echo_server.py"))
    with subprocess.Popen(pinned([sys.executable, server_file], 0), stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = Address.parse(server.stdout.readline().strip())
        try:
            for case in arguments.case or ["single", "join", "multi"]:
                rounds = []
                for _ in range(arguments.rounds):
                    rounds.append(measure(case, address, arguments.records, arguments.seconds))
                    print(json.dumps(rounds[-1]), flush=True)
                ratios = [float(str(one["ratio"])) for one in rounds]
                print(json.dumps({"case": case, "median_ratio": statistics.median(ratios)}), flush=True)
        finally:
            server.kill()
    return 0


if __name__ == "__main__":
    sys.exit(main())
