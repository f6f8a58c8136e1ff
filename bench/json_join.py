"""JSON Lines filtered, sent, joined and filtered again: the data plane against loops that send nothing."""

import io
import json
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import orjson
import pandas as pd

from bench import goals, wrk
from bench.case import Case, Options
from bench.dataplane_run import CLIENT_CORE, COPY, FILES, IN_MEMORY, WRK, Work, contenders, echo_server
from bench.machine import cpu_seconds, on_core, versions
from bench.turns import Comparison, Outcome, OutputDiffers, Sample, run
from millrace.jobs.transform import MIB, BatchStrategy, DataProcessing, JoinSource
from millrace_algorithms.serving.memory import keep_freed_memory

__all__ = ["CASE"]

RECORDS, FEATURES = 200_000, 100
INPUT_FILTER, OUTPUT_FILTER = "$.features", "$['id','SageMakerOutput']"
LOOP, ROUND_TRIP, PANDAS = "orjson loop", "orjson round trip", "pandas"
PANDAS_SHARE = 5
"""pandas gets a fifth of the records: its rate is the same, its turn does not take ten seconds."""


def cases(options: Options) -> Iterator[Outcome]:
    """Compare payloads of 6 MB, then one record a request."""
    wrk.ensure_installed()
    keep_freed_memory()  # as agents do
    text = _records(RECORDS // 10 if options.quick else RECORDS)
    answers = [b'{"score":%b}' % orjson.dumps(orjson.loads(line)["features"][0]) for line in text.splitlines()]
    output = _expected(text, answers)
    with echo_server("--scores") as address:
        for strategy, connections, title in (
            (BatchStrategy.MULTI_RECORD, 4, "MultiRecord, 6 MB payloads"),
            (BatchStrategy.SINGLE_RECORD, 16, "SingleRecord"),
        ):
            work = Work(
                title=f"Filter and join, {title}",
                strategy=strategy,
                connections=connections,
                body_bytes=6 * MIB,
                unit="MB",
                unit_bytes=1e6,
                processing=DataProcessing(
                    input_filter=INPUT_FILTER, output_filter=OUTPUT_FILTER, join_source=JoinSource.INPUT
                ),
            )
            taking_part = contenders(work, text, output, address, options)
            del taking_part[WRK], taking_part[COPY]  # nothing of what is asked here
            many = strategy is BatchStrategy.MULTI_RECORD
            yield run(_comparison(work, taking_part, text, answers, output, judged=many), options.rounds)


def _comparison(
    work: Work,
    taking_part: dict[str, Callable[[], Sample]],
    text: bytes,
    answers: list[bytes],
    output: bytes,
    *,
    judged: bool,
) -> Comparison:
    """Return the comparison; one record a request costs a request a record, so that its ratios are only told."""
    taking_part[LOOP] = partial(_turn, LOOP, _loop, text, answers, output)
    if judged:
        taking_part[ROUND_TRIP] = partial(_turn, ROUND_TRIP, _round_trip, text, answers, None)
        share = len(answers) // PANDAS_SHARE
        taking_part[PANDAS] = partial(
            _turn, PANDAS, _pandas, _first_lines(text, share), answers[:share], _first_lines(output, share)
        )
    return Comparison(
        title=f"{work.title}: {len(text) / 1e6:.0f} MB, {len(answers)} records, {work.connections} connections",
        unit=work.unit,
        contenders=taking_part,
        references=(LOOP, ROUND_TRIP, PANDAS) if judged else (LOOP,),
        goals=(
            goals.speed(IN_MEMORY, LOOP, 0.9),
            goals.speed(FILES, LOOP, 0.9),
            goals.speed(FILES, PANDAS, 6),
        )
        if judged
        else (goals.told_speed(IN_MEMORY, LOOP), goals.told_speed(FILES, LOOP)),
        sides=f'InputFilter "{INPUT_FILTER}", JoinSource Input, OutputFilter "{OUTPUT_FILTER}". The loops go from text '
        "in memory to text in memory on the same core, and have the answers before their turn begins: they send "
        "nothing. The data plane sends every record over HTTP to a server on the other core; over files, input and "
        "output are files, the latter on disk when the turn ends.",
    )


def _records(count: int) -> bytes:
    """Return JSON Lines of about 1,000 bytes: an id, a hundred numbers with six digits, two texts."""
    matrix = np.random.default_rng(0).standard_normal((count, FEATURES)).round(6)
    matrix[np.abs(matrix) < 0.001] = 0.5  # smaller ones are spelled in several ways
    records = (
        {"id": number, "features": row, "customer": f"customer {number:08d}", "note": "no remarks"}
        for number, row in enumerate(matrix.tolist())
    )
    return b"".join([orjson.dumps(record) + b"\n" for record in records])


def _expected(text: bytes, answers: list[bytes]) -> bytes:
    """Return the output that all must have, worked out another way."""
    pairs = zip(text.splitlines(), answers, strict=True)
    rows = [{"SageMakerOutput": json.loads(answer), "id": json.loads(line)["id"]} for line, answer in pairs]
    return b"".join([json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in rows])


def _first_lines(text: bytes, count: int) -> bytes:
    return b"".join(text.splitlines(keepends=True)[:count])


def _turn(
    name: str,
    loop: Callable[[bytes, list[bytes]], bytes],
    text: bytes,
    answers: list[bytes],
    output: bytes | None,
) -> Sample:
    with on_core(CLIENT_CORE):
        cpu, started = cpu_seconds(), time.perf_counter()
        written = loop(text, answers)
        seconds = time.perf_counter() - started
        cpu = cpu_seconds() - cpu
    if output is not None and written != output:
        raise OutputDiffers(f"{name}: output differs")
    return Sample(seconds=seconds, cpu_seconds=cpu, work=len(text) / 1e6)


def _loop(text: bytes, answers: list[bytes]) -> bytes:
    """Do by hand what the job does, the sending aside."""
    loads, dumps = orjson.loads, orjson.dumps
    rows = []
    for line, answer in zip(text.splitlines(), answers, strict=True):
        record = loads(line)
        dumps(record["features"])  # what would be sent
        record["SageMakerOutput"] = loads(answer)
        row = {"id": record["id"], "SageMakerOutput": record["SageMakerOutput"]}
        rows.append(dumps(row, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE))
    return b"".join(rows)


def _round_trip(text: bytes, _: list[bytes]) -> bytes:
    """Read and write each record, and nothing else."""
    loads, dumps = orjson.loads, orjson.dumps
    return b"".join([dumps(loads(line), option=orjson.OPT_APPEND_NEWLINE) for line in text.splitlines()])


def _pandas(text: bytes, answers: list[bytes]) -> bytes:
    """Do it with tables, as one does who has pandas at hand."""
    table = pd.read_json(io.BytesIO(text), lines=True)
    table["features"].to_json(orient="values")[1:-1].replace("],[", "]\n[")  # what would be sent
    scores = pd.read_json(io.BytesIO(b"\n".join(answers)), lines=True)
    joined = table.assign(SageMakerOutput=scores.to_dict(orient="records"))[["SageMakerOutput", "id"]]
    printed: str = joined.to_json(orient="records", lines=True)
    return printed.encode()


CASE = Case(
    name="json_join",
    question="what do filters and a join of JSON Lines cost over a loop that parses and prints?",
    run=cases,
    versions=lambda: versions("millrace", "orjson", "pandas", "uvloop", "httptools"),
)
