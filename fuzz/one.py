"""Fuzz one target in this process: `python -m fuzz.one TARGET SECONDS FOLDER`; `python -m fuzz` runs all of them."""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["millrace.dataplane"]):
    from fuzz.targets import TARGETS

__all__ = ["fuzz_one"]

INPUT_SECONDS = 20
"""A single input that takes longer is taken for a hang."""

INPUT_BYTES = 8192
"""Longest input that is tried, unless a seed is longer."""


def fuzz_one(name: str, seconds: int, folder: Path) -> None:
    """Fuzz a target; the process ends with it, with a code other than 0 if a bug was found."""
    target = TARGETS[name]
    options = [
        f"-max_total_time={seconds}",
        f"-timeout={INPUT_SECONDS}",
        f"-rss_limit_mb={target.megabytes}",
        f"-max_len={INPUT_BYTES}",
        f"-artifact_prefix={folder}/",
        str(folder / "inputs"),
    ]
    atheris.Setup([sys.argv[0], *options], target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    fuzz_one(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
