"""Payloads of 6 MB: the data plane against wrk, which posts the same bodies to the same server."""

from collections.abc import Iterator

from bench import goals, wrk
from bench.case import Case, Options
from bench.dataplane_run import COPY, FILES, IN_MEMORY, WRK, Work, contenders, echo_server
from bench.inputs import json_lines
from bench.machine import versions
from bench.turns import Comparison, Outcome, run
from millrace.jobs.transform import MIB, BatchStrategy
from millrace_algorithms.serving.memory import keep_freed_memory

__all__ = ["CASE"]

RECORDS, RECORD_BYTES = 100_000, 450
REPEATS = 24
"""So many times the records: a gigabyte, so that opening connections is a small part of a turn."""


def cases(options: Options) -> Iterator[Outcome]:
    """Compare in memory and over files."""
    wrk.ensure_installed()
    keep_freed_memory()  # as agents do
    text = json_lines(RECORDS, RECORD_BYTES) * (2 if options.quick else REPEATS)
    work = Work(
        title="MultiRecord, 6 MB payloads",
        strategy=BatchStrategy.MULTI_RECORD,
        connections=4,
        body_bytes=6 * MIB // RECORD_BYTES * RECORD_BYTES,
        unit="MB",
        unit_bytes=1e6,
    )
    with echo_server() as address:
        yield run(
            Comparison(
                title=f"{work.title}: {len(text) / 1e6:.0f} MB, lines of {RECORD_BYTES} bytes, "
                f"{work.connections} connections",
                unit=work.unit,
                contenders=contenders(work, text, text, address, options),
                references=(WRK, COPY),
                goals=(goals.speed(IN_MEMORY, WRK, 0.9), goals.speed(FILES, WRK, 0.9)),
                sides="wrk sends one body over and over and throws the answers away; the data plane reads the input, "
                "counts records and keeps the answers in order; over files they are on disk at the end of the turn, "
                "which is what the copy to disk takes alone.",
            ),
            options.rounds,
        )


CASE = Case(
    name="multi_record",
    question="how near to the fastest HTTP client does the data plane come with large payloads?",
    run=cases,
    versions=lambda: f"{versions('millrace', 'uvloop', 'httptools')}, {wrk.version()}",
)
