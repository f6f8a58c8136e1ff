"""A job of one row from creation to completion, and as a command, against what starting its model server costs."""

import http.client
import itertools
import os
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np

from bench import goals
from bench.case import Case, Options
from bench.environments import RAY
from bench.inputs import csv_text
from bench.machine import cpu_seconds, versions
from bench.peer_jobs import run_script
from bench.platform import Platform, serve
from bench.turns import Comparison, Outcome, OutputDiffers, Sample, run

__all__ = ["CASE"]

ROWS, COLUMNS, K = 1000, 10, 5
TURNS_PER_ROUND = 5
KEY = "rows/one.csv"
PING_SECONDS = 0.002
JOB, COMMAND, BARE = "millrace job", "millrace transform, cold", "bare model server"
NOTHING, RAY_DATA = "python -c pass", "Ray Data"
JOB_SECONDS, COMMAND_SECONDS = 0.12, 0.9


def cases(options: Options) -> Iterator[Outcome]:
    """Compare warm jobs with the bare start of their model server, and with an interpreter that does nothing."""
    rows = csv_text(ROWS, COLUMNS)
    one_row = rows[: rows.find(b"\n") + 1]
    labels = (np.arange(ROWS) % 3).tolist()
    labelled = b"".join(b"%d,%b\n" % pair for pair in zip(labels, rows.splitlines(), strict=True))
    with serve(options.folder / "platform") as platform:
        model = platform.train(
            "knn",
            {"train": labelled},
            k=str(K),
            sample_size=str(ROWS),
            predictor_type="classifier",
            feature_dim=str(COLUMNS),
        )
        platform.put(KEY, one_row)
        archive = platform.get("models/knn/output/model.tar.gz")
        server = _ModelServer(options.folder / "bare", archive, one_row)
        command = _Command(options.folder / "command", archive, one_row)
        numbers = itertools.count()

        def job() -> Sample:
            name = f"one-row-{next(numbers)}"
            ended = platform.transform(name, model, KEY)
            _require_equal(name, _output(platform, name), server.answer)
            return Sample(
                seconds=ended.seconds,
                cpu_seconds=ended.cpu_seconds,
                facts={
                    "created to started s": ended.created_to_started,
                    "started to ended s": ended.started_to_ended,
                    "ended to seen s": ended.ended_to_seen,
                },
            )

        server.first_answer()

        def cold() -> Sample:
            sample = command.run()
            _require_equal(COMMAND, command.output(), server.answer)
            return sample

        contenders: dict[str, Callable[[], Sample]] = {
            JOB: job,
            COMMAND: cold,
            BARE: server.first_answer,
            NOTHING: _bare_interpreter,
        }
        absence = RAY.absence() if options.peers else "make bench-peers has it"
        if absence is None:
            peer = _Ray(options.folder / "ray", labelled, one_row, server.answer)
            contenders[RAY_DATA] = peer.first_row
        yield run(
            Comparison(
                title="One row through built-in k-NN: CreateTransformJob to Completed on a warm server; as a command",
                unit="jobs",
                contenders=contenders,
                references=tuple(name for name in contenders if name not in (JOB, COMMAND)),
                turns_per_round=1 if options.quick or absence is None else TURNS_PER_ROUND,
                goals=(
                    goals.seconds(JOB, JOB_SECONDS),
                    goals.seconds(COMMAND, COMMAND_SECONDS),
                    goals.speed(JOB, RAY_DATA, 12),
                    goals.speed(COMMAND, RAY_DATA, 7),
                ),
                absent={} if absence is None else {RAY_DATA: absence},
                sides="`millrace transform` is told from the start of its process to its end, with local files and no "
                "server. Ray Data is told from the start of its process until its row is written, labelled by numpy.",
            ),
            options.rounds,
        )


def _output(platform: Platform, job: str) -> bytes:
    return platform.get(f"out/{job}/{KEY.rpartition('/')[2]}.out")


def _require_equal(name: str, got: bytes, wanted: bytes) -> None:
    if got.strip() != wanted.strip():
        raise OutputDiffers(f"{name}: expected {wanted!r}, got {got!r}")


class _ModelServer:
    """The same model server without a platform: started, asked once, and stopped."""

    def __init__(self, folder: Path, archive: bytes, row: bytes) -> None:
        self._folder = folder
        self._row = row
        self.answer = b""
        with tarfile.open(fileobj=BytesIO(archive)) as model:
            model.extractall(folder / "opt" / "ml" / "model", filter="data")
        self._socket = str(folder / "serve.sock")

    def first_answer(self) -> Sample:
        """Return the time from fork to the first answer of /invocations; its end is not part of it."""
        before = cpu_seconds(children=True)
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "millrace_algorithms", "knn", "serve"],
            env={
                "PATH": os.environ["PATH"],
                "SAGEMAKER_BASE_DIR": str(self._folder),
                "MILLRACE_BIND_UNIX": self._socket,
            },
            stdout=subprocess.DEVNULL,
        )
        try:
            self.answer = self._ask(process)
            seconds = time.perf_counter() - started
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
        return Sample(seconds=seconds, cpu_seconds=cpu_seconds(children=True) - before)

    def _ask(self, process: subprocess.Popen[bytes]) -> bytes:
        connection = http.client.HTTPConnection("localhost")
        while True:
            connection.sock = socket.socket(socket.AF_UNIX)
            try:
                connection.sock.connect(self._socket)
                break
            except OSError:
                connection.sock.close()
                if process.poll() is not None:
                    raise SystemExit("the bare model server ended before it answered") from None
                time.sleep(PING_SECONDS)
        connection.request("POST", "/invocations", self._row, {"Content-Type": "text/csv", "Accept": "text/csv"})
        body = connection.getresponse().read()
        connection.close()
        return body


class _Command:
    """`millrace transform` over local files, without a server and with nothing started before."""

    def __init__(self, folder: Path, archive: bytes, row: bytes) -> None:
        folder.mkdir()
        self._folder = folder
        (folder / "model.tar.gz").write_bytes(archive)
        (folder / "row.csv").write_bytes(row)

    def run(self) -> Sample:
        """Return the time of the whole process."""
        before = cpu_seconds(children=True)
        started = time.perf_counter()
        subprocess.run(
            [
                *(
                    str(Path(sys.executable).with_name("millrace")),
                    "transform",
                    "--data-dir",
                    str(self._folder / "data"),
                ),
                *("--model", str(self._folder / "model.tar.gz"), "--input", str(self._folder / "row.csv")),
                *("--output", str(self._folder / "out"), "--split-type", "Line"),
                *("--content-type", "text/csv", "--accept", "text/csv"),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return Sample(seconds=time.perf_counter() - started, cpu_seconds=cpu_seconds(children=True) - before)

    def output(self) -> bytes:
        """Return what the last run wrote, and remove it."""
        written = self._folder / "out" / "row.csv.out"
        content = written.read_bytes()
        written.unlink()
        return content


class _Ray:
    """Ray Data from nothing to the row written."""

    def __init__(self, folder: Path, labelled: bytes, row: bytes, answer: bytes) -> None:
        folder.mkdir()
        self._folder = folder
        self._answer = answer
        self._turns = itertools.count()
        (folder / "labelled.csv").write_bytes(labelled)
        (folder / "row.csv").write_bytes(row)

    def first_row(self) -> Sample:
        """Return the time of the whole process."""
        target = self._folder / f"out-{next(self._turns)}"
        sources = [str(self._folder / "labelled.csv"), str(self._folder / "row.csv")]
        before = cpu_seconds(children=True)
        started = time.perf_counter()
        run_script(RAY, "ray_one_row.py", [*sources, str(target), str(K)])
        seconds = time.perf_counter() - started
        written = b"".join([path.read_bytes().partition(b"\n")[2] for path in target.glob("*.csv")])
        if float(written) != float(self._answer):
            raise OutputDiffers(f"{RAY_DATA}: expected {self._answer!r}, got {written!r}")
        return Sample(seconds=seconds, cpu_seconds=cpu_seconds(children=True) - before)


def _bare_interpreter() -> Sample:
    before = cpu_seconds(children=True)
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    seconds = time.perf_counter() - started
    return Sample(seconds=seconds, cpu_seconds=cpu_seconds(children=True) - before)


CASE = Case(
    name="one_row_job",
    question="what does a job cost that has nothing to do?",
    run=cases,
    versions=lambda: f"{versions('millrace', 'numpy', 'faiss-cpu', 'boto3')}; peers: {RAY.versions()}",
    has_peers=True,
)
