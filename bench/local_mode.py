"""A container of one's own, Flask and pandas on gunicorn, under the SDK's local mode, aiohttp, wrk and Millrace."""

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import uvloop

from bench import goals, wrk
from bench.case import Case, Options
from bench.environments import LIGHT, LOCAL_MODE
from bench.inputs import csv_text
from bench.machine import TreeClock, cpu_seconds, versions
from bench.peer_jobs import run_script
from bench.platform import BUCKET, ROLE, Platform, serve
from bench.servers import RunningServer, free_port, running
from bench.turns import Comparison, Outcome, OutputDiffers, Sample, run
from millrace.clock import SystemClock
from millrace.dataplane import EffectiveSettings, InputObject, run_transform
from millrace.jobs.transform import MIB, BatchStrategy, InstanceOutcome, SplitType, TransformSpec
from millrace.names import ObjectPrefix, ObjectRef
from millrace.ports.runtime import Address
from millrace.store.filesystem import FilesystemObjects
from millrace_algorithms.serving.memory import keep_freed_memory

__all__ = ["CASE"]

ROWS, COLUMNS = 100_000, 100
CONTENT_TYPE = "text/csv"
PAYLOAD_BYTES = 6 * MIB
CONNECTIONS = 2
"""One for each worker of the container."""

PAYLOADS = 32
"""So many whole ones where rates are compared: of an odd number, or with a short one, one worker has the last alone."""

WRK_SECONDS = 2
RATE_TURNS = 3
LOCAL, AIOHTTP, FILES, JOB, WRK = "SDK local mode", "aiohttp loop", "millrace files", "millrace job", "wrk"
SHARE = "engine's share of CPU %"
IMAGE, NAME = "bench-pandas:1", "pandas"
PROGRAM = Path(__file__).with_name("peers") / "pandas_container.py"


def cases(options: Options) -> Iterator[Outcome]:
    """Compare one file of 95 MB, then rates over several of them."""
    wrk.ensure_installed()
    keep_freed_memory()  # as agents do
    if (absence := LIGHT.absence()) is not None:
        raise SystemExit(f"the container of this case needs {LIGHT.folder.name}: {absence}")
    text = csv_text(ROWS // 10 if options.quick else ROWS, COLUMNS)
    port = free_port()
    environment = LIGHT.variables() | {"SAGEMAKER_BIND_TO_PORT": str(port)}
    command = [str(LIGHT.python), str(PROGRAM), "serve"]
    with running(
        command, port=port, ready="/ping", log=options.folder / "container.log", environment=environment
    ) as container:
        with serve(_platform_folder(options.folder)) as platform:
            yield run(_files(text, container, platform, options), options.rounds)
        yield run(_rates(text, container, options), options.rounds)


class _Work:
    """One file of CSV through the running container, whose processor time is part of every turn's."""

    def __init__(self, folder: Path, text: bytes, container: RunningServer) -> None:
        self.source = folder / "store" / BUCKET / "in" / "rows.csv"
        self.source.parent.mkdir(parents=True)
        self.source.write_bytes(text)
        self.outputs: dict[str, Path] = {}
        self._folder = folder
        self._size = len(text)
        self._container = container
        self._clock = TreeClock(container.process_id)

    def local_mode(self) -> Sample:
        """Run the SDK's own loop."""
        target = self._folder / "local-mode"
        arguments = [self._container.netloc.rpartition(":")[2], str(self.source.parent), str(target)]
        return self._peer(
            LOCAL, target / "rows.csv.out", partial(run_script, LOCAL_MODE, "sdk_local_mode.py", arguments)
        )

    def aiohttp(self) -> Sample:
        """Run the loop on aiohttp."""
        target = self._folder / "aiohttp.out"
        url = f"{self._container.url}/invocations"
        arguments = [url, str(self.source), str(target), str(CONNECTIONS), CONTENT_TYPE, str(PAYLOAD_BYTES)]
        return self._peer(AIOHTTP, target, partial(run_script, LIGHT, "aiohttp_payloads.py", arguments))

    def data_plane(self) -> Sample:
        """Run one instance's share in this process, over the store of a real job."""
        self.outputs[FILES] = self._folder / "store" / BUCKET / "out" / "rows.csv.out"
        container, cpu, started = self._clock.look(), cpu_seconds(), time.perf_counter()
        outcome = uvloop.run(self._transform())
        seconds = time.perf_counter() - started
        cpu, container = cpu_seconds() - cpu, self._clock.look() - container
        if outcome.failure_count or outcome.stopped:
            raise OutputDiffers(f"{FILES}: {outcome}")
        return self._sample(seconds, cpu, container)

    def job(self, platform: Platform, numbers: "itertools.count[int]") -> Sample:
        """Run a whole job, which starts a container of its own."""
        name = f"pandas-{next(numbers)}"
        ended = platform.transform(name, NAME, "in/", MaxConcurrentTransforms=CONNECTIONS, MaxPayloadInMB=6)
        self.outputs[JOB] = platform.settings.objects_dir / BUCKET / "out" / name / "rows.csv.out"
        return Sample(
            seconds=ended.seconds,
            cpu_seconds=ended.cpu_seconds,
            work=self._size / 1e6,
            facts={
                "created to started s": ended.created_to_started,
                "started to ended s": ended.started_to_ended,
            },
        )

    def wrk(self, seconds: int) -> Sample:
        """Post the first payload over and over."""
        text = self.source.read_bytes()[:PAYLOAD_BYTES]
        body = text[: text.rindex(b"\n") + 1]
        url = f"{self._container.url}/invocations"
        container = self._clock.look()
        sample = wrk.post(url, body, connections=CONNECTIONS, seconds=seconds, core=None, content_type=CONTENT_TYPE)
        cpu = (sample.cpu_seconds or 0.0) + self._clock.look() - container
        return replace(sample, cpu_seconds=cpu, work=sample.work * len(body) / 1e6)

    def require_same(self) -> None:
        """Compare the outputs of all that have had a turn, byte by byte."""
        texts = {name: path.read_bytes() for name, path in self.outputs.items()}
        expected = texts[FILES]
        records, rows = self.source.read_bytes().count(b"\n"), expected.count(b"\n")
        if records != rows:
            raise OutputDiffers(f"{FILES}: expected a row for each of {records} records, got {rows}")
        for name, text in texts.items():
            if text != expected:
                raise OutputDiffers(f"{name}: its {len(text)} bytes are not the {len(expected)} of {FILES}")

    def _peer(self, name: str, output: Path, script: Callable[[], str]) -> Sample:
        self.outputs[name] = output
        container = self._clock.look()
        figures = json.loads(script())
        return self._sample(figures["seconds"], figures["cpu_seconds"], self._clock.look() - container)

    def _sample(self, seconds: float, engine: float, container: float) -> Sample:
        return Sample(
            seconds=seconds,
            cpu_seconds=engine + container,
            work=self._size / 1e6,
            facts={SHARE: 100 * engine / (engine + container), "engine's CPU s": engine},
        )

    async def _transform(self) -> InstanceOutcome:
        async def guard() -> None:
            return None

        return await run_transform(
            TransformSpec(
                model=NAME,
                source=ObjectPrefix(BUCKET, "in/"),
                output=ObjectPrefix(BUCKET, "out"),
                split=SplitType.LINE,
                content_type=CONTENT_TYPE,
                accept=CONTENT_TYPE,
            ),
            [
                InputObject(
                    ref=ObjectRef(BUCKET, "in/rows.csv"), size=self._size, output=ObjectRef(BUCKET, "out/rows.csv.out")
                )
            ],
            objects=FilesystemObjects(self._folder / "store"),
            address=Address.parse(self._container.netloc),
            effective=EffectiveSettings(max_concurrent_transforms=CONNECTIONS, strategy=BatchStrategy.MULTI_RECORD),
            data_log=lambda line: None,
            on_progress=lambda progress: None,
            stop=asyncio.Event(),
            commit_guard=guard,
            clock=SystemClock(),
        )


def _files(text: bytes, container: RunningServer, platform: Platform, options: Options) -> Comparison:
    work = _Work(options.folder / "one", text, container)
    platform.sagemaker.create_model(ModelName=NAME, ExecutionRoleArn=ROLE, PrimaryContainer={"Image": IMAGE})
    platform.put("in/rows.csv", text)
    taking_part: dict[str, Callable[[], Sample]] = {
        LOCAL: work.local_mode,
        AIOHTTP: work.aiohttp,
        FILES: work.data_plane,
        JOB: partial(work.job, platform, itertools.count()),
    }
    absence = LOCAL_MODE.absence() if options.peers else f"make {LOCAL_MODE.target} has it"
    if absence is not None:
        del taking_part[LOCAL]
    return Comparison(
        title=f"Flask and pandas on gunicorn: {len(text) / 1e6:.0f} MB of CSV, payloads of 6 MB",
        unit="MB",
        contenders=taking_part,
        references=(AIOHTTP,) if absence else (LOCAL, AIOHTTP),
        check=work.require_same,
        goals=(
            goals.speed(FILES, LOCAL, 7.5),
            goals.told_speed(JOB, LOCAL),
            goals.told_speed(FILES, AIOHTTP),
            goals.fact(FILES, SHARE, 5),
        ),
        absent={} if absence is None else {LOCAL: absence},
        sides="The container runs already, but for the whole job, which starts one of its own and ends it. Local mode "
        f"sends one request at a time, the others {CONNECTIONS}, one for each worker. Millrace has its output on disk "
        "(fsync) when the turn ends. Processor time is of client and container.",
    )


def _rates(text: bytes, container: RunningServer, options: Options) -> Comparison:
    payloads = 2 if options.quick else PAYLOADS
    work = _Work(options.folder / "many", _whole_payloads(text, payloads), container)
    return Comparison(
        title=f"Flask and pandas on gunicorn: {payloads} payloads of 6 MB as fast as the container takes them",
        unit="MB",
        contenders={
            WRK: partial(work.wrk, 1 if options.quick else WRK_SECONDS),
            AIOHTTP: work.aiohttp,
            FILES: work.data_plane,
        },
        references=(WRK, AIOHTTP),
        check=work.require_same,
        turns_per_round=RATE_TURNS,
        goals=(goals.speed(FILES, WRK, 0.97), goals.told_speed(AIOHTTP, WRK)),
        sides=f"{CONNECTIONS} requests at a time. wrk sends the first payload over and over, from memory, and throws "
        "the answers away; the others read a file and write one.",
    )


def _whole_payloads(text: bytes, count: int) -> bytes:
    """Return as many payloads as are asked for, each as large as it may be."""
    text *= 1 + count * PAYLOAD_BYTES // len(text)
    end = 0
    for _ in range(count):
        end = text.rindex(b"\n", end, end + PAYLOAD_BYTES) + 1
    return text[:end]


def _platform_folder(folder: Path) -> Path:
    """Return a data directory whose host image is the container."""
    data_dir = folder / "platform"
    data_dir.mkdir()
    command = f'["{LIGHT.python}", "{PROGRAM}"]'
    (data_dir / "host-images.toml").write_text(f'[[image]]\nmatch = "{IMAGE}"\ncommand = {command}\n', "utf-8")
    return data_dir


CASE = Case(
    name="local_mode",
    question="what is left of the SDK's local mode's time for the same container?",
    run=cases,
    versions=lambda: (
        f"{versions('millrace', 'uvloop', 'httptools')}, {wrk.version()}; container and aiohttp: {LIGHT.versions()}; "
        f"local mode: {LOCAL_MODE.versions()}"
    ),
    has_peers=True,
)
