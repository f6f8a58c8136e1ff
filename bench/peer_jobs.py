"""Run the peers' programs, each in its own environment and process, always with a time limit."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from bench.environments import DAFT, RAY, SPARK, Environment
from bench.turns import Sample

__all__ = ["SECOND", "PcaPeer", "pca_peers", "run_script"]

LIMIT_SECONDS = 240
SECOND = ", second job of a session"
_SCRIPTS = Path(__file__).with_name("peers")
_QUIET = {
    "DAFT_ANALYTICS_ENABLED": "0",
    "DAFT_PROGRESS_BAR": "0",
    "DO_NOT_TRACK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def run_script(environment: Environment, script: str, arguments: list[str]) -> str:
    """Run a script of bench/peers to its end, with all the processes that it starts, and return its last line.

    Raises:
        SystemExit: It failed or took longer than its limit.
    """
    variables = environment.variables() | _QUIET
    variables |= {"PYTHONPATH": str(_SCRIPTS), "PYSPARK_PYTHON": str(environment.python)}
    with subprocess.Popen(
        [str(environment.python), str(_SCRIPTS / script), *arguments],
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(timeout=LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise SystemExit(f"{script} took longer than {LIMIT_SECONDS} seconds") from None
    if process.returncode:
        raise SystemExit(f"{script} ended with {process.returncode}:\n{errors[-2000:]}")
    return output.strip().splitlines()[-1]


class PcaPeer:
    """One peer at the PCA job: the first and the second job of a session that is up."""

    def __init__(
        self, name: str, environment: Environment, script: str, folder: Path, *, keeps_order: bool = True
    ) -> None:
        self.name = name
        self.keeps_order = keeps_order
        self._environment = environment
        self._script = script
        self._folder = folder
        self._turns = 0
        self._figures: Mapping[str, float] = {}

    def absence(self) -> str | None:
        """Return why it can't take part, or None."""
        return self._environment.absence()

    def first(self) -> Sample:
        """Start a session and run both jobs in it; the session's start is told beside."""
        self._turns += 1
        model, source = self._folder / "model.json", self._folder / "header.csv"
        targets = [str(self._output(position)) for position in (1, 2)]
        arguments = [str(time.time()), str(model), str(source), *targets]
        self._figures = json.loads(run_script(self._environment, self._script, arguments))
        return self._sample("first", {"start of the session s": self._figures["start_seconds"]})

    def second(self) -> Sample:
        """Return what the second job took, which ran behind the first."""
        return self._sample("second", {})

    def rows(self) -> list[bytes]:
        """Return the output of each job of the last turn, headers cut off, in the order of the names of its files."""
        return [_without_headers(self._output(position)) for position in (1, 2)]

    def contenders(self) -> dict[str, Callable[[], Sample]]:
        """Return both by name."""
        return {self.name: self.first, f"{self.name}{SECOND}": self.second}

    def _output(self, position: int) -> Path:
        return self._folder / f"{self.name}-{self._turns}-{position}"

    def _sample(self, which: str, facts: Mapping[str, float]) -> Sample:
        size = (self._folder / "header.csv").stat().st_size / 1e6
        return Sample(
            seconds=self._figures[f"{which}_seconds"],
            cpu_seconds=self._figures[f"{which}_cpu_seconds"],
            work=size,
            facts=facts,
        )


def pca_peers(folder: Path) -> list[PcaPeer]:
    """Return the peers at the PCA job, installed or not; `folder` holds model.json and header.csv."""
    return [
        PcaPeer("Ray Data", RAY, "ray_pca.py", folder),
        PcaPeer("Spark", SPARK, "spark_pca.py", folder),
        PcaPeer("Daft", DAFT, "daft_pca.py", folder, keeps_order=False),
    ]


def _without_headers(folder: Path) -> bytes:
    return b"".join([path.read_bytes().partition(b"\n")[2] for path in sorted(folder.glob("*.csv"))])
