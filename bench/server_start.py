"""From starting the server until it answers, and the memory that it then has."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bench import goals
from bench.case import Case, Options
from bench.environments import LIGHT
from bench.machine import TreeClock, versions
from bench.servers import await_answer, free_port, memory_of
from bench.turns import Comparison, Outcome, Sample, run

__all__ = ["CASE"]

SECONDS, MEGABYTES = 0.6, 100
TURNS_PER_ROUND = 2
SETTLE_SECONDS = 1.0
"""Time for what a server does after its first answer, before its memory is looked at."""
MILLRACE, MOTO, UVICORN = "millrace serve", "moto_server", "bare uvicorn"


def cases(options: Options) -> Iterator[Outcome]:
    """Compare with moto's server, and with the smallest program on the same HTTP server."""
    contenders: dict[str, Callable[[], Sample]] = {MILLRACE: partial(_millrace, options.folder)}
    absence = LIGHT.absence()
    if absence is None:
        contenders[MOTO] = partial(_moto, options.folder)
    contenders[UVICORN] = partial(_uvicorn, options.folder)
    yield run(
        Comparison(
            title="Start of the server until its first answer, with a data directory that was used before",
            unit="starts",
            contenders=contenders,
            references=(MOTO, UVICORN),
            turns_per_round=1 if options.quick else TURNS_PER_ROUND,
            goals=(goals.seconds(MILLRACE, SECONDS), goals.fact(MILLRACE, "MB of all its processes", MEGABYTES)),
            absent={} if absence is None else {MOTO: absence},
            sides="Memory is told a second after the first answer: of the server's own process, and of all its "
            "processes with shared pages divided among them. moto_server imports a service when it is first asked for.",
        ),
        options.rounds,
    )


def _millrace(folder: Path) -> Sample:
    port = free_port()
    command = [sys.executable, "-m", "millrace", "serve", "--port", str(port), "--data-dir", str(folder / "data")]
    return _start(command, port, "/_millrace/health", folder / "millrace.log")


def _moto(folder: Path) -> Sample:
    port = free_port()
    command = [str(LIGHT.python.with_name("moto_server")), "-p", str(port)]
    return _start(command, port, "/moto-api/", folder / "moto.log")


def _uvicorn(folder: Path) -> Sample:
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--loop", "uvloop", "--log-level", "warning", "--lifespan", "off"]
    command += ["--port", str(port), "bench.constant_app:app"]
    return _start(command, port, "/", folder / "uvicorn.log")


def _start(command: list[str], port: int, ready: str, log: Path) -> Sample:
    with log.open("ab") as output:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        await_answer(process, f"127.0.0.1:{port}", ready)
        seconds = time.perf_counter() - started
        cpu = TreeClock(process.pid).look()
        time.sleep(SETTLE_SECONDS)
        memory = memory_of(process.pid)
    finally:
        process.terminate()
        process.wait()
    facts = {"MB of its own process": memory.resident, "MB of all its processes": memory.proportional}
    return Sample(seconds=seconds, cpu_seconds=cpu, facts=facts)


CASE = Case(
    name="server_start",
    question="how soon is the server ready, and how much memory does it take?",
    run=cases,
    versions=lambda: f"{versions('millrace', 'uvicorn', 'botocore')}; peers: {LIGHT.versions()}",
)
