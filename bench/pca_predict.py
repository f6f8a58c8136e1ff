"""PCA's predict path without a platform, against the shortest program that could do it, and against copying a file."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from bench.case import Case, Options
from bench.inputs import csv_text, numbers_of
from bench.machine import TreeClock, cpu_seconds, versions
from bench.pca_job import COLUMNS, COMPONENTS, ROWS, recipe, require_close
from bench.turns import Comparison, Outcome, Sample, run
from millrace_algorithms.pca.decomposition import RegularScatter
from millrace_algorithms.pca.model import load, save
from millrace_algorithms.serving.invocation import Invocation
from millrace_algorithms.serving.memory import keep_freed_memory

__all__ = ["CASE"]

PAYLOAD_BYTES = 6 * 1024 * 1024
CONCURRENCY = 2
RECIPE, COPY = "recipe, one process", "copy of the file"
IN_PROCESS, SERVED = "millrace pca, in process", "millrace pca, served"


def cases(options: Options) -> Iterator[Outcome]:
    """Compare the model called in this process, the model served, and the recipe."""
    keep_freed_memory()  # as the serving program does, for all contenders
    text = csv_text(ROWS // 10 if options.quick else ROWS, COLUMNS)
    bodies = _payloads(text)
    folder = options.folder
    (folder / "model").mkdir()
    (folder / "in.csv").write_bytes(text)
    scatter = RegularScatter(COLUMNS, subtract_mean=True)
    scatter.add(numbers_of(text[: text.find(b"\n", 5_000_000) + 1], COLUMNS))
    components = scatter.components(COMPONENTS)
    save(folder / "model", components, {})
    model = load(folder / "model")
    directions = components.directions.astype(np.float32).astype(np.float64)
    offset = components.mean.astype(np.float32) @ directions
    results: dict[str, bytes] = {}

    def in_process() -> bytes:
        calls = (Invocation(chunks=[body], content_type="text/csv", accept="text/csv") for body in bodies)
        return b"".join([model.invoke(call).body for call in calls])

    def copy() -> bytes:
        with (folder / "in.csv").open("rb") as source, (folder / "out.csv").open("wb") as target:
            os.sendfile(target.fileno(), source.fileno(), 0, len(text))
        return b""

    def timed(name: str, work: Callable[[], bytes], cpu: Callable[[], float] = cpu_seconds) -> Callable[[], Sample]:
        def turn() -> Sample:
            cpu_before, started = cpu(), time.perf_counter()
            results[name] = work()
            seconds = time.perf_counter() - started
            return Sample(seconds=seconds, cpu_seconds=cpu() - cpu_before, work=len(text) / 1e6)

        return turn

    def check() -> None:
        wanted = numbers_of(text, COLUMNS) @ directions - offset
        for name, result in results.items():
            if name != COPY:
                require_close(name, result, wanted)

    with _served(folder) as (path, process_id):
        clock = TreeClock(process_id)
        yield run(
            Comparison(
                title=f"PCA {COLUMNS} to {COMPONENTS} over {len(text) / 1e6:.1f} MB of CSV, payloads of 6 MB",
                unit="MB",
                contenders={
                    RECIPE: timed(RECIPE, lambda: b"".join(recipe(text, directions, offset))),
                    IN_PROCESS: timed(IN_PROCESS, in_process),
                    SERVED: timed(SERVED, lambda: _over_http(path, bodies), lambda: cpu_seconds() + clock.look()),
                    COPY: timed(COPY, copy),
                },
                references=(RECIPE,),
                check=check,
                sides="Processor time of what is served is that of the server, its workers and the client.",
            ),
            options.rounds,
        )


def _payloads(text: bytes) -> list[bytes]:
    """Return the text in mini-batches as a batch transform cuts them."""
    pieces, start = [], 0
    while start < len(text):
        end = len(text) if len(text) - start <= PAYLOAD_BYTES else text.rfind(b"\n", start, start + PAYLOAD_BYTES) + 1
        pieces.append(text[start:end])
        start = end
    return pieces


def _over_http(path: str, bodies: list[bytes]) -> bytes:
    """Send the payloads to the serving program, CONCURRENCY at a time, and return the answers in order."""
    answers: list[bytes] = [b""] * len(bodies)

    def work(first: int) -> None:
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(path)
        for index in range(first, len(bodies), CONCURRENCY):
            headers = {"Content-Type": "text/csv", "Accept": "text/csv"}
            connection.request("POST", "/invocations", bodies[index], headers)
            answers[index] = connection.getresponse().read()
        connection.close()

    threads = [threading.Thread(target=work, args=(first,)) for first in range(CONCURRENCY)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return b"".join(answers)


@contextmanager
def _served(folder: Path) -> Iterator[tuple[str, int]]:
    """Run the serving program over the model in a folder; yields the path of its socket and its process id."""
    path = folder / "s.sock"
    server = subprocess.Popen(
        [sys.executable, "-m", "millrace_algorithms", "pca", "serve"],
        env={**os.environ, "SAGEMAKER_BASE_DIR": str(folder), "MILLRACE_BIND_UNIX": str(path)},
        stdout=subprocess.DEVNULL,
    )
    try:
        while not path.exists():
            if server.poll() is not None:
                raise SystemExit("the serving program ended before it listened")
            time.sleep(0.01)
        yield str(path), server.pid
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


CASE = Case(
    name="pca_predict",
    question="how near to the shortest program does the built-in algorithm come?",
    run=cases,
    versions=lambda: versions("millrace", "numpy", "pysimdjson", "orjson"),
)
