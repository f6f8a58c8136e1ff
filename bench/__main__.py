"""Run benchmark cases one after the other: python -m bench [CASE ...] [--rounds N] [--quick]."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

# As the serving programs have it, for all contenders; it must be set before numpy is imported the first time.
os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")

from rich.console import Console

from bench import machine, one_row_job, pca_job, pca_predict, report, single_record
from bench.case import Case, Options

CASES: dict[str, Case] = {
    case.name: case for case in (single_record.CASE, pca_predict.CASE, pca_job.CASE, one_row_job.CASE)
}
OUTPUT = Path(__file__).with_name("out")


def main(arguments: list[str]) -> int:
    """Parse the arguments, run the cases, print tables and write bench/out/CASE.jsonl."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; all if none is named")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender (at least 3 to be quoted)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the data: to see that it runs, not to quote")
    options = parser.parse_args(arguments)
    unknown = set(options.cases) - set(CASES)
    if unknown or options.rounds < 1:
        parser.error(f"cases are {', '.join(CASES)}, --rounds at least 1; got {sorted(unknown)}, {options.rounds}")
    console = Console(width=None if sys.stdout.isatty() else 140)
    for name in options.cases or CASES:
        case = CASES[name]
        console.rule(f"{case.name}: {case.question}", align="left")
        console.print(f"{machine.describe()}\n{case.versions()}", highlight=False)
        outcomes = []
        with tempfile.TemporaryDirectory(prefix=f"bench-{name}-") as folder:
            for outcome in case.run(Options(rounds=options.rounds, quick=options.quick, folder=Path(folder))):
                report.show(console, outcome)
                outcomes.append(outcome)
        report.store(OUTPUT / f"{name}.jsonl", outcomes)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
