"""The programs: `python -m millrace_algorithms <name> train|serve`."""

import os
import sys
from collections.abc import MutableMapping, Sequence
from contextlib import suppress
from importlib import import_module

from millrace_algorithms.registry import ALGORITHMS


def main(arguments: Sequence[str], environ: MutableMapping[str, str]) -> int:
    """Run one algorithm's program and return its exit code."""
    if len(arguments) != 2 or arguments[0] not in ALGORITHMS or arguments[1] not in ("train", "serve"):
        names = "|".join(ALGORITHMS)
        print(f"usage: python -m millrace_algorithms {names} train|serve, got {' '.join(arguments)!r}", file=sys.stderr)
        return 64
    name, command = arguments
    print(f"Docker entrypoint called with argument(s): {command}", flush=True)
    from millrace_algorithms.blas_threads import limit_threads_of_serving, limit_threads_of_training
    from millrace_algorithms.container import ContainerFiles
    from millrace_algorithms.errors import InputError

    files = ContainerFiles.locate(environ)
    if command == "serve":
        limit_threads_of_serving(environ)
    else:
        with suppress(InputError):  # a damaged file is reported by the program itself
            limit_threads_of_training(environ, files.read_hyperparameters())
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
    code = main(sys.argv[1:], os.environ)
    # All is written and closed; tearing the libraries down in order would take another 40 ms of every job.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
