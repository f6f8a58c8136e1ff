"""Run the targets for a while, each in a process of its own: `python -m fuzz [--seconds 600] [TARGET ...]`.

Whatever a target has found before is kept below `--corpus`, and begun with the next time. An input that shows a bug is
written there too, and `python -m fuzz --replay FILE TARGET` runs it again.
"""

import argparse
import importlib.util
import subprocess
import sys
import time
from pathlib import Path

from fuzz.targets import TARGETS


def main() -> int:
    """Run what the command line says; the exit code tells whether a bug was found."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"all if none is given: {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=int, default=600, help="for all targets together (default: 600)")
    parser.add_argument("--corpus", type=Path, default=Path("fuzz-corpus"), help="folder of what was found")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run one input, without a fuzzer")
    arguments = parser.parse_args()
    names = arguments.targets or list(TARGETS)
    for name in names:
        if name not in TARGETS:
            parser.error(f"a target must be one of {', '.join(TARGETS)}, got {name!r}")
    if arguments.replay is not None:
        for name in names:
            TARGETS[name].check(arguments.replay.read_bytes())
        return 0
    if importlib.util.find_spec("atheris") is None:
        parser.error("the fuzzer, atheris, is not installed; `make fuzz` installs it")
    failed = [name for name in names if not _run(name, max(1, arguments.seconds // len(names)), arguments.corpus)]
    print("no bug found" if not failed else f"bugs found by {', '.join(failed)}: see {arguments.corpus}")
    return 1 if failed else 0


def _run(name: str, seconds: int, corpus: Path) -> bool:
    """Fuzz one target; tell how it went, and whether it found nothing."""
    folder = corpus / name
    (folder / "inputs").mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(TARGETS[name].seeds()):
        (folder / "inputs" / f"seed-{number}").write_bytes(seed)
    command = [sys.executable, "-m", "fuzz.one", name, str(seconds), str(folder)]
    started = time.monotonic()
    with (folder / "log").open("wb") as log:
        code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    lines = (folder / "log").read_text(errors="replace").splitlines()
    told = next((line for line in reversed(lines) if line.startswith("Done ") or "cov:" in line), "")
    outcome = "ok" if code == 0 else f"FAILED ({folder})"
    print(f"{name}: {outcome} in {time.monotonic() - started:.0f} s  {told}", flush=True)
    return code == 0


if __name__ == "__main__":
    sys.exit(main())
