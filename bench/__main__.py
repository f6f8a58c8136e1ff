"""Run benchmark cases one after the other: python -m bench [CASE ...] [--rounds N] [--quick] [--peers]; or report."""

import argparse
import importlib
import os
import sys
import tempfile
import time
from pathlib import Path

# As the serving programs have it, for all contenders; it must be set before numpy is imported the first time.
os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")

from rich.console import Console

from bench import machine, page, report, results
from bench.case import Case, Options

CASES = (
    "server_start",
    "control_plane",
    "object_store",
    "single_record",
    "multi_record",
    "json_join",
    "local_mode",
    "small_objects",
    "autotune",
    "memory",
    "pca_predict",
    "pca_job",
    "one_row_job",
    "resume",
    "invoke_endpoint",
)


def main(arguments: list[str]) -> int:
    """Parse the arguments, run the cases, print tables and keep the figures in bench/out/results.json."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "cases",
        nargs="*",
        metavar="CASE",
        help=f"of {', '.join(CASES)}; all if none is named; or report, which writes the figures into the documentation",
    )
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender (at least 3 to be quoted)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the data: to see that it runs, not to quote")
    parser.add_argument("--peers", action="store_true", help="with the peers that `make bench-peers` installs")
    parser.add_argument("--large", action="store_true", help="memory: a job over 20 GB too")
    options = parser.parse_args(arguments)
    if options.cases == ["report"]:
        page.update({name: kept for name in CASES if (kept := results.kept().get(name))})
        return 0
    unknown = set(options.cases) - set(CASES)
    if unknown or options.rounds < 1:
        parser.error(f"cases are {', '.join(CASES)}, --rounds at least 1; got {sorted(unknown)}, {options.rounds}")
    console = Console(width=None if sys.stdout.isatty() else 140)
    for name in options.cases or CASES:
        case: Case = importlib.import_module(f"bench.{name}").CASE
        console.rule(f"{case.name}: {case.question}", align="left")
        console.print(f"{machine.describe()}\n{case.versions()}", highlight=False)
        outcomes = []
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix=f"bench-{name}-") as folder:
            chosen = Options(
                rounds=options.rounds,
                quick=options.quick,
                peers=options.peers,
                large=options.large,
                folder=Path(folder),
            )
            for outcome in case.run(chosen):
                outcomes.append(results.as_document(outcome))
                report.show(console, outcomes[-1])
        results.keep(case, chosen, outcomes)
        console.print(f"{name} took {time.monotonic() - started:.0f} s", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
