"""The programs: `python -m millrace_algorithms <name> train|serve`."""

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module

from millrace_algorithms.registry import ALGORITHMS

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run one algorithm's program and return its exit code."""
    if len(arguments) != 2 or arguments[0] not in ALGORITHMS or arguments[1] not in ("train", "serve"):
        names = "|".join(ALGORITHMS)
        print(f"usage: python -m millrace_algorithms {names} train|serve, got {' '.join(arguments)!r}", file=sys.stderr)
        return 64
    name, command = arguments
    print(f"Docker entrypoint called with argument(s): {command}", flush=True)
    if command == "serve":
        # Serving uses cores by processes; threads of the libraries would not survive the fork and only compete.
        for variable in _THREAD_VARIABLES:
            os.environ.setdefault(variable, "1")
    from millrace_algorithms.container import ContainerFiles

    files = ContainerFiles.locate(environ)
    info = ALGORITHMS[name]
    algorithm = import_module(info.module).ALGORITHM
    if command == "serve":
        from millrace_algorithms.serving import program

        return program.run(algorithm.load, files.model_dir, environ)
    from millrace_algorithms import training
    from millrace_algorithms.log import Log
    from millrace_algorithms.stopping import StopSignal

    stop = StopSignal()
    stop.install()
    return training.run(info, algorithm, files, log=Log(), stop=stop)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
