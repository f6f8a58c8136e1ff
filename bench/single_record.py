"""One record a request: the data plane against wrk and against a loop on aiohttp, without and with a join."""

import json
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench import goals, wrk
from bench.case import Case, Options
from bench.dataplane_run import CLIENT_CORE, CONTENT_TYPE, FILES, IN_MEMORY, WRK, Work, contenders, echo_server
from bench.environments import LIGHT
from bench.inputs import json_lines
from bench.machine import pinned, versions
from bench.turns import Comparison, Outcome, OutputDiffers, Sample, run
from millrace.jobs.transform import BatchStrategy, DataProcessing, JoinSource
from millrace.ports.runtime import Address
from millrace_algorithms.serving.memory import keep_freed_memory

__all__ = ["CASE"]

RECORDS, RECORD_BYTES = 100_000, 450
CONNECTIONS = 16
AIOHTTP = "aiohttp loop"
AIOHTTP_SHARE = 5
"""The loop gets a fifth of the records: its rate is the same, its turn does not take ten seconds."""


def cases(options: Options) -> Iterator[Outcome]:
    """Compare sending, then sending and joining."""
    wrk.ensure_installed()
    keep_freed_memory()  # as agents do
    text = json_lines(RECORDS // 10 if options.quick else RECORDS, RECORD_BYTES)
    with echo_server() as address:
        yield run(_plain(text, address, options), options.rounds)
        yield run(_joined(text, address, options), options.rounds)


def _plain(text: bytes, address: Address, options: Options) -> Comparison:
    work = _work("SingleRecord", JoinSource.NONE)
    taking_part = contenders(work, text, text, address, options)
    absence = LIGHT.absence()
    if absence is None:
        share = text[: len(text) // AIOHTTP_SHARE // RECORD_BYTES * RECORD_BYTES]
        taking_part[AIOHTTP] = partial(_aiohttp, share, address, options.folder)
    return Comparison(
        title=_title(work, text),
        unit=work.unit,
        contenders=taking_part,
        references=(WRK, AIOHTTP) if absence is None else (WRK,),
        goals=(
            goals.speed(IN_MEMORY, WRK, 0.85),
            goals.speed(FILES, WRK, 0.85),
            goals.speed(FILES, AIOHTTP, 8),
            goals.told_speed(WRK, AIOHTTP),
        ),
        absent={} if absence is None else {AIOHTTP: absence},
        sides="wrk sends one body over and over; the others read records and write the answers in input order, the "
        "loop on aiohttp (on uvloop) without waiting for the disk.",
    )


def _joined(text: bytes, address: Address, options: Options) -> Comparison:
    work = _work("SingleRecord with JoinSource=Input", JoinSource.INPUT)
    return Comparison(
        title=_title(work, text),
        unit=work.unit,
        contenders=contenders(work, text, _joined_rows(text), address, options),
        references=(WRK,),
        goals=(goals.speed(IN_MEMORY, WRK, 0.4), goals.speed(FILES, WRK, 0.4)),
        sides="wrk joins nothing.",
    )


def _work(title: str, join: JoinSource) -> Work:
    return Work(
        title=title,
        strategy=BatchStrategy.SINGLE_RECORD,
        connections=CONNECTIONS,
        processing=DataProcessing(join_source=join),
        body_bytes=RECORD_BYTES,
        unit="requests",
        unit_bytes=RECORD_BYTES,
    )


def _title(work: Work, text: bytes) -> str:
    return f"{work.title}: {len(text) / 1e6:.0f} MB, lines of {RECORD_BYTES} bytes, {work.connections} connections"


def _joined_rows(text: bytes) -> bytes:
    """Return the output that the job must have, worked out another way."""
    rows = []
    for line in text.splitlines():
        value = json.loads(line)
        joined = {"SageMakerOutput": dict(sorted(value.items())), **dict(sorted(value.items()))}
        rows.append(json.dumps(joined, separators=(",", ":")).encode() + b"\n")
    return b"".join(rows)


def _aiohttp(text: bytes, address: Address, folder: Path) -> Sample:
    source, target = folder / "aiohttp.in", folder / "aiohttp.out"
    source.write_bytes(text)
    script = str(Path(__file__).with_name("peers") / "aiohttp_loop.py")
    command = [str(LIGHT.python), script, f"http://{address}/invocations", str(source), str(target)]
    command = pinned([*command, str(CONNECTIONS), CONTENT_TYPE], CLIENT_CORE)
    figures = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    if target.read_bytes() != text:
        raise OutputDiffers(f"{AIOHTTP}: output differs")
    return Sample(seconds=figures["seconds"], cpu_seconds=figures["cpu_seconds"], work=len(text) / RECORD_BYTES)


CASE = Case(
    name="single_record",
    question="how near to the fastest HTTP client does the data plane come with one record a request?",
    run=cases,
    versions=lambda: (
        f"{versions('millrace', 'uvloop', 'httptools', 'orjson')}, {wrk.version()}; peers: {LIGHT.versions()}"
    ),
)
