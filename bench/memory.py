"""How much memory a job's agent takes, whatever the size of its input."""

import itertools
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bench import goals, sparse_output
from bench.case import Case, Options
from bench.inputs import json_lines
from bench.machine import descendants, versions
from bench.platform import BUCKET, ROLE, Platform, serve
from bench.turns import Comparison, Outcome, OutputDiffers, Sample, run

__all__ = ["CASE"]

RECORDS, RECORD_BYTES = 100_000, 450
LARGE, LARGE_BYTES = "20 GB", 20_000_000_000
SIZES = {"0.1 GB": 100_000_000, "1 GB": 1_000_000_000, "5 GB": 5_000_000_000}
MEGABYTES, SPREAD = 150, 0.1
IMAGE, NAME = "bench-echo:1", "echo"
PEAK = "peak MB"
LOOK_SECONDS = 0.05
SPARE_BYTES = 2_000_000_000


def cases(options: Options) -> Iterator[Outcome]:
    """Run whole jobs over one object of each size, payloads of 6 MB, through an echo server on a socket."""
    sizes = dict(itertools.islice(SIZES.items(), 2)) if options.quick else dict(SIZES)
    _require_room(options.folder, sum(sizes.values()) + max(sizes.values()))
    folder = options.folder / "platform"
    folder.mkdir()
    script = Path(__file__).with_name("programs") / "echo_server.py"
    command = f'["{sys.executable}", "{script}"]'
    (folder / "host-images.toml").write_text(f'[[image]]\nmatch = "{IMAGE}"\ncommand = {command}\n', "utf-8")
    with serve(folder) as platform:
        platform.sagemaker.create_model(ModelName=NAME, ExecutionRoleArn=ROLE, PrimaryContainer={"Image": IMAGE})
        for name, size in sizes.items():
            _write(_source(platform, name), size)
        numbers = itertools.count()
        contenders: dict[str, Callable[[], Sample]] = {name: partial(_job, platform, name, numbers) for name in sizes}
        if options.large:
            sparse_output.write_input(_source(platform, LARGE), LARGE_BYTES)
            contenders[LARGE] = partial(_job_over_holes, platform, numbers)
        yield run(
            Comparison(
                title="A job of 6 MB payloads over one object, four requests at a time",
                unit="MB",
                contenders=contenders,
                references=(),
                warm_up=False,
                goals=tuple(_goals(list(contenders))),
                sides="Peak resident memory of the agent's process, what it shares with the process that it was "
                "forked from included, the container left out. The 20 GB are a file of holes with a line feed every "
                "256 KiB; each byte of their output is compared while the job writes it, and its room on the disk "
                "given back.",
            ),
            options.rounds,
        )


def _goals(names: list[str]) -> Iterator[goals.Goal]:
    for name in names:
        yield goals.fact(name, PEAK, MEGABYTES)
        if name != names[0]:
            yield goals.fact_ratio(name, names[0], PEAK, at_least=1 - SPREAD, at_most=1 + SPREAD)


def _write(path: Path, size: int) -> None:
    """Write lines until there are about so many bytes: a file in a bucket's folder is an object."""
    path.parent.mkdir(parents=True)
    text = json_lines(RECORDS, RECORD_BYTES)
    with path.open("wb") as file:
        for _ in range(max(1, round(size / len(text)))):
            file.write(text)
        os.fsync(file.fileno())


def _source(platform: Platform, name: str) -> Path:
    return platform.settings.objects_dir / BUCKET / "rows" / _folder(name) / "rows.jsonl"


def _folder(name: str) -> str:
    return name.replace(" ", "")


def _require_room(folder: Path, size: int) -> None:
    """See that the disk has room for as much, and something to spare."""
    free = shutil.disk_usage(folder).free
    if free < size + SPARE_BYTES:
        raise SystemExit(f"memory needs {(size + SPARE_BYTES) / 1e9:.0f} GB in {folder}, {free / 1e9:.0f} GB are free")


def _job(platform: Platform, name: str, numbers: "itertools.count[int]") -> Sample:
    source = _source(platform, name)
    target, sample = _run(platform, name, next(numbers), source)
    if subprocess.run(["cmp", "--silent", str(source), str(target)], check=False).returncode:
        raise OutputDiffers(f"{name}: the output differs from the input, which the server echoes")
    target.unlink()
    return sample


def _job_over_holes(platform: Platform, numbers: "itertools.count[int]") -> Sample:
    drafts = platform.settings.objects_dir / ".millrace" / BUCKET / "drafts"
    with sparse_output.Follower(drafts, LARGE_BYTES) as follower:
        target, sample = _run(platform, LARGE, next(numbers), _source(platform, LARGE))
        follower.finish(target)
    target.unlink()
    return sample


def _run(platform: Platform, name: str, number: int, source: Path) -> tuple[Path, Sample]:
    job = f"memory-{number}"
    with _Watch(platform.process_id) as watch:
        ended = platform.transform(
            job, NAME, f"rows/{_folder(name)}/", media_type="application/jsonlines", MaxConcurrentTransforms=4
        )
    return platform.settings.objects_dir / BUCKET / "out" / job / "rows.jsonl.out", Sample(
        seconds=ended.seconds,
        cpu_seconds=ended.cpu_seconds,
        work=source.stat().st_size / 1e6,
        facts={PEAK: watch.peak_megabytes},
    )


class _Watch:
    """Looks again and again for the agent among a server's processes, and keeps its high-water mark."""

    def __init__(self, server: int) -> None:
        self._server = server
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.peak_megabytes = 0.0

    def __enter__(self) -> "_Watch":
        self._before = set(descendants(self._server))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(LOOK_SECONDS):
            for process in set(descendants(self._server)) - self._before:
                self.peak_megabytes = max(self.peak_megabytes, _high_water(process))


def _high_water(process: int) -> float:
    """Return a process's peak in megabytes; nothing for the container, which is the echo server."""
    try:
        if b"echo_server.py" in Path(f"/proc/{process}/cmdline").read_bytes():
            return 0.0
        status = Path(f"/proc/{process}/status").read_text("utf-8")
    except OSError:  # ended since it was listed
        return 0.0
    return next((int(line.split()[1]) * 1024 / 1e6 for line in status.splitlines() if line.startswith("VmHWM:")), 0.0)


CASE = Case(
    name="memory",
    question="does the memory of a job grow with its input?",
    run=cases,
    versions=lambda: versions("millrace", "uvloop", "httptools"),
)
