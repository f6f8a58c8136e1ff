"""PCA's predict path over 95 MB of CSV, against the shortest program that could do it, and against copying the file.

Prints one JSON line per contender: the median of the rounds, megabytes of input a second, and the ratio to the recipe.
Contenders take turns, so that a noisy machine hurts all alike. Results are compared before any time is printed.

    python bench/pca_predict.py [--rows 100000] [--rounds 3]
"""

import argparse
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")  # as the serving program has it, for all contenders

import numpy as np
import orjson
import simdjson

from millrace_algorithms.pca.decomposition import RegularScatter
from millrace_algorithms.pca.model import load, save
from millrace_algorithms.serving.invocation import Invocation
from millrace_algorithms.serving.memory import keep_freed_memory

COLUMNS, COMPONENTS = 100, 10
PAYLOAD_BYTES = 6 * 1024 * 1024
CONCURRENCY = 2


def make_csv(rows: int) -> bytes:
    """Return standard normal numbers with six digits, as the published anchor's data."""
    matrix = np.random.default_rng(0).standard_normal((rows, COLUMNS))
    return b"".join(b",".join(b"%.6f" % x for x in row) + b"\n" for row in matrix.tolist())


def payloads(text: bytes) -> list[bytes]:
    """Return the text in mini-batches as a batch transform cuts them."""
    pieces, start = [], 0
    while start < len(text):
        end = len(text) if len(text) - start <= PAYLOAD_BYTES else text.rfind(b"\n", start, start + PAYLOAD_BYTES) + 1
        pieces.append(text[start:end])
        start = end
    return pieces


def recipe(text: bytes, directions: np.ndarray, offset: np.ndarray) -> bytes:
    """Do the least that gives the result: no width check, no other spelling of numbers, float64 out."""
    parser, out, start = simdjson.Parser(), [], 0
    while start < len(text):
        end = text.find(b"\n", start + 500_000) + 1 or len(text)
        numbers = parser.parse(b"[" + text[start : end - 1].replace(b"\n", b",") + b"]").as_buffer(of_type="d")
        rows = np.frombuffer(numbers).reshape(-1, COLUMNS)
        printed = orjson.dumps(rows @ directions - offset, option=orjson.OPT_SERIALIZE_NUMPY)
        out.append(printed[2:-2].replace(b"],[", b"\n") + b"\n")
        start = end
    return b"".join(out)


def over_http(path: str, bodies: list[bytes]) -> bytes:
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


def numbers_of(text: bytes) -> np.ndarray:
    return np.array(text.replace(b"\n", b",").split(b",")[:-1], np.float64).reshape(-1, COMPONENTS)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=100_000)
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    keep_freed_memory()  # as the serving program does, for all contenders
    text = make_csv(options.rows)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "model").mkdir()
        (root / "in.csv").write_bytes(text)
        sample = np.array(text[: text.find(b"\n", 5_000_000) + 1].replace(b"\n", b",").split(b",")[:-1], np.float64)
        scatter = RegularScatter(COLUMNS, subtract_mean=True)
        scatter.add(sample.reshape(-1, COLUMNS))
        components = scatter.components(COMPONENTS)
        save(root / "model", components, {})
        model = load(root / "model")
        directions = components.directions.astype(np.float32).astype(np.float64)
        offset = components.mean.astype(np.float32) @ directions
        path = str(root / "s.sock")
        server = subprocess.Popen(
            [sys.executable, "-m", "millrace_algorithms", "pca", "serve"],
            env={**os.environ, "SAGEMAKER_BASE_DIR": folder, "MILLRACE_BIND_UNIX": path},
            stdout=subprocess.DEVNULL,
        )
        bodies = payloads(text)

        def ours() -> bytes:
            return b"".join(
                model.invoke(Invocation(chunks=[body], content_type="text/csv", accept="text/csv")).body
                for body in bodies
            )

        def copy() -> bytes:
            with (root / "in.csv").open("rb") as source, (root / "out.csv").open("wb") as target:
                os.sendfile(target.fileno(), source.fileno(), 0, len(text))
            return b""

        contenders: dict[str, Callable[[], bytes]] = {
            "recipe, one process": lambda: recipe(text, directions, offset),
            "millrace pca, in process": ours,
            "millrace pca, served": lambda: over_http(path, bodies),
            "copy of the file": copy,
        }
        try:
            while not Path(path).exists():
                time.sleep(0.01)
            seconds: dict[str, list[float]] = {name: [] for name in contenders}
            for name, run in contenders.items():  # one warm-up, whose results are compared
                if (result := run()) and not np.allclose(numbers_of(result), numbers_of(ours()), atol=1e-5):
                    raise SystemExit(f"{name}: results differ")
            for _ in range(options.rounds):
                for name, run in contenders.items():
                    started = time.perf_counter()
                    run()
                    seconds[name].append(time.perf_counter() - started)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()
    base = statistics.median(seconds["recipe, one process"])
    for name, values in seconds.items():
        median = statistics.median(values)
        line = {
            "case": name,
            "seconds": round(median, 4),
            "input_mb": round(len(text) / 1e6, 1),
            "mb_per_second": round(len(text) / 1e6 / median),
            "speed_vs_recipe": round(base / median, 2),
        }
        print(json.dumps(line))


if __name__ == "__main__":
    main()
