"""A whole PCA job through the server, against copying the file and against the shortest program that could do it."""

import itertools
import json
import mmap
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import simdjson

from bench import goals
from bench.case import Case, Options
from bench.environments import DAFT, RAY, SPARK
from bench.inputs import FloatArray, csv_text, numbers_of
from bench.machine import cpu_seconds, versions
from bench.peer_jobs import SECOND, PcaPeer, pca_peers
from bench.platform import Platform, serve
from bench.turns import Comparison, Outcome, OutputDiffers, Sample, run
from millrace_algorithms import mxnet_arrays

__all__ = ["CASE", "COLUMNS", "COMPONENTS", "ROWS", "TOLERANCE", "recipe", "require_close"]

ROWS, COLUMNS, COMPONENTS, TRAINING_ROWS = 100_000, 100, 10, 20_000
TOLERANCE = 1e-4
"""For what is computed in float32, as SageMaker's PCA does."""
PEER_TOLERANCE = 1e-9
JOB, RECIPE, CAT = "millrace job", "recipe, one process", "cat in > out"
KEY = "rows/data.csv"
CUT_BYTES = 500_000
PEER_FACTORS = {"Ray Data": 40, "Spark": 35, "Daft": 35}


def recipe(text: bytes | mmap.mmap, directions: FloatArray, offset: FloatArray) -> Iterator[bytes]:
    """Do the least that gives the result: no width check, no other spelling of numbers, one process."""
    parser: Any = simdjson.Parser()  # its parse returns any JSON value, and here always an array
    start = 0
    while start < len(text):
        end = text.find(b"\n", start + CUT_BYTES) + 1 or len(text)
        numbers = parser.parse(b"[" + text[start : end - 1].replace(b"\n", b",") + b"]").as_buffer(of_type="d")
        rows = np.frombuffer(numbers).reshape(-1, COLUMNS)
        printed = orjson.dumps(rows @ directions - offset, option=orjson.OPT_SERIALIZE_NUMPY)
        yield printed[2:-2].replace(b"],[", b"\n") + b"\n"
        start = end


def require_close(
    name: str, got: bytes, wanted: FloatArray, tolerance: float = TOLERANCE, *, in_order: bool = True
) -> None:
    """Raise OutputDiffers unless the printed numbers are those wanted, and in that order if it matters."""
    found = numbers_of(got, COMPONENTS)
    if not in_order:
        found, wanted = found[np.argsort(found[:, 0])], wanted[np.argsort(wanted[:, 0])]
    if found.shape != wanted.shape or not np.allclose(found, wanted, rtol=tolerance, atol=tolerance):
        raise OutputDiffers(f"{name}: expected {wanted.shape} numbers within {tolerance}, got {found.shape} others")


def cases(options: Options) -> Iterator[Outcome]:
    """Compare the job with the recipe on the same file and model, and with `cat`."""
    text = csv_text(ROWS // 10 if options.quick else ROWS, COLUMNS)
    source, target = options.folder / "in.csv", options.folder / "out.csv"
    source.write_bytes(text)
    with serve(options.folder / "platform") as platform:
        sample = b"".join(text.splitlines(keepends=True)[:TRAINING_ROWS])
        model = platform.train(
            "pca",
            {"train": sample},
            feature_dim=str(COLUMNS),
            num_components=str(COMPONENTS),
            mini_batch_size="1000",
        )
        platform.put(KEY, text)
        directions, offset = _projection(platform)
        wanted = numbers_of(text, COLUMNS) @ directions - offset
        numbers = itertools.count()
        outputs: dict[str, Callable[[], bytes]] = {}

        def job() -> Sample:
            name = f"pca-{next(numbers)}"
            ended = platform.transform(name, model, KEY)
            outputs[JOB] = lambda: platform.get(f"out/{name}/{KEY.rpartition('/')[2]}.out")
            return Sample(
                seconds=ended.seconds,
                cpu_seconds=ended.cpu_seconds,
                work=len(text) / 1e6,
                facts={
                    "created to started s": ended.created_to_started,
                    "started to ended s": ended.started_to_ended,
                    "ended to seen s": ended.ended_to_seen,
                },
            )

        def shortest() -> Sample:
            outputs[RECIPE] = target.read_bytes
            return _timed(len(text), lambda: _run_recipe(source, target, directions, offset))

        peers = _peers(options, text, directions, offset)

        def check() -> None:
            for name, read in outputs.items():
                require_close(name, read(), wanted)
            for peer in peers:
                for rows in peer.rows():
                    require_close(peer.name, rows, wanted, PEER_TOLERANCE, in_order=peer.keeps_order)

        contenders: dict[str, Callable[[], Sample]] = {
            JOB: job,
            RECIPE: shortest,
            CAT: lambda: _cat(source, options.folder / "copy.csv"),
        }
        for peer in peers:
            contenders |= peer.contenders()
        yield run(
            Comparison(
                title=f"PCA {COLUMNS} to {COMPONENTS} over {len(text) / 1e6:.1f} MB of CSV",
                unit="MB",
                contenders=contenders,
                references=(RECIPE, CAT),
                check=check,
                goals=(
                    goals.speed(JOB, CAT, 1 / 6),
                    *(goals.speed(JOB, peer.name, PEER_FACTORS[peer.name]) for peer in pca_peers(options.folder)),
                    *(goals.told_speed(JOB, f"{peer.name}{SECOND}") for peer in peers),
                ),
                absent={
                    peer.name: (peer.absence() or "left out") if options.peers else "make bench-peers has it"
                    for peer in pca_peers(options.folder)
                    if peer.name not in contenders
                },
                sides="The job is told from CreateTransformJob to Completed: it starts its agent and its model server, "
                "and has its output on disk. The peers' sessions are up before their time begins; their outputs are "
                "in the page cache. They use both cores. Daft does not keep the order of rows, the others do.",
            ),
            options.rounds,
        )
        check()


def _peers(options: Options, text: bytes, directions: FloatArray, offset: FloatArray) -> list[PcaPeer]:
    """Return the peers that take part, their input and model written."""
    peers = [peer for peer in pca_peers(options.folder) if options.peers and peer.absence() is None]
    if peers:
        header = ",".join(f"c{number}" for number in range(COLUMNS)).encode() + b"\n"
        (options.folder / "header.csv").write_bytes(header + text)
        model = json.dumps({"directions": directions.tolist(), "offset": offset.tolist()})
        (options.folder / "model.json").write_text(model, "utf-8")
    return peers


def _projection(platform: Platform) -> tuple[FloatArray, FloatArray]:
    """Return the trained model's directions, and what is subtracted after the product."""
    with tarfile.open(fileobj=BytesIO(platform.get("models/pca/output/model.tar.gz"))) as archive:
        file = archive.extractfile("model_algo-1")
        assert file is not None, "the model's archive holds its arrays"
        arrays = mxnet_arrays.decode(file.read())
    directions = arrays["v"].astype(np.float64)
    return directions, arrays["mean"].astype(np.float64).reshape(-1) @ directions


def _run_recipe(source: Path, target: Path, directions: FloatArray, offset: FloatArray) -> None:
    with (
        source.open("rb") as reading,
        mmap.mmap(reading.fileno(), 0, access=mmap.ACCESS_READ) as text,
        target.open("wb") as writing,
    ):
        for piece in recipe(text, directions, offset):
            writing.write(piece)


def _timed(size: int, work: Callable[[], None]) -> Sample:
    cpu, started = cpu_seconds(), time.perf_counter()
    work()
    return Sample(seconds=time.perf_counter() - started, cpu_seconds=cpu_seconds() - cpu, work=size / 1e6)


def _cat(source: Path, target: Path) -> Sample:
    cpu, started = cpu_seconds(children=True), time.perf_counter()
    with target.open("wb") as writing:
        subprocess.run(["cat", str(source)], check=True, stdout=writing)
    seconds = time.perf_counter() - started
    cpu = cpu_seconds(children=True) - cpu
    return Sample(seconds=seconds, cpu_seconds=cpu, work=source.stat().st_size / 1e6)


CASE = Case(
    name="pca_job",
    question="what does a whole batch transform cost over its computation?",
    run=cases,
    versions=lambda: "; ".join(
        [
            versions("millrace", "numpy", "pysimdjson", "orjson", "boto3"),
            *(f"peers: {environment.versions()}" for environment in (RAY, SPARK, DAFT) if environment.versions()),
        ]
    ),
    has_peers=True,
)
