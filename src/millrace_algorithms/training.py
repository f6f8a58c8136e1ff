"""Run a training job as the container contract asks: read configuration, check, train, report failure."""

import json
import time
import traceback
from collections.abc import Mapping

from millrace_algorithms.algorithm import Algorithm, TrainingJob
from millrace_algorithms.channels import Channel
from millrace_algorithms.container import ContainerFiles
from millrace_algorithms.errors import InputError
from millrace_algorithms.hyperparameters import validate, validate_channels
from millrace_algorithms.log import Log
from millrace_algorithms.metric_lines import MetricLines
from millrace_algorithms.registry import AlgorithmInfo
from millrace_algorithms.stopping import StopSignal

__all__ = ["USER_FAULT", "run"]

USER_FAULT = 2
"""Exit code that blames the job's owner: the platform words the reason as ClientError."""
_OWN_FAULT = 1
_FAILURE_CHARACTERS = 1024


def run(info: AlgorithmInfo, algorithm: Algorithm, files: ContainerFiles, *, log: Log, stop: StopSignal) -> int:
    """Train and return the exit code; a failure is also written to output/failure, without any prefix."""
    started = time.time()
    try:
        job = prepare(info, algorithm, files, log=log, stop=stop)
        algorithm.train(job)
    except InputError as exc:
        log.error(f"Customer Error: {exc}")
        _write_failure(files, str(exc))
        return USER_FAULT
    except Exception as exc:  # noqa: BLE001 - the outermost frame: every other fault is ours and ends in the log
        log.plain(traceback.format_exc().rstrip())
        _write_failure(files, f"{type(exc).__name__}: {exc}")
        return _OWN_FAULT
    log.plain(_times(info, started, time.time()))
    return 0


def prepare(
    info: AlgorithmInfo, algorithm: Algorithm, files: ContainerFiles, *, log: Log, stop: StopSignal
) -> TrainingJob:
    """Read and check the configuration; raises InputError."""
    given = files.read_hyperparameters()
    defaults = {name: h.default for name, h in algorithm.hyperparameters.items() if h.default is not None}
    log.info(f"Reading default configuration from millrace_algorithms/{info.name}: {_words(defaults)}")
    log.info(f"Merging with provided configuration from {_CONFIG_NAME}: {_words(given)}")
    log.info(f"Final configuration: {_words({**defaults, **given})}")
    hyperparameters = validate(algorithm.hyperparameters, given)
    configured = files.read_channels()
    validate_channels(configured, required=info.required_channels, optional=info.optional_channels)
    channels = {
        name: Channel(
            config=config,
            data_dir=files.data_dir,
            default_content_type=info.default_content_type,
            content_types=info.content_types,
            log=log,
            stop=stop,
        )
        for name, config in configured.items()
    }
    for channel in channels.values():
        _ = channel.media_type  # refuses before any data are read
    if "test" in info.optional_channels and "test" not in channels:
        log.info("Test data is not provided.")
    files.model_dir.mkdir(parents=True, exist_ok=True)
    hosts = files.read_resources().hosts
    if len(hosts) > 1:
        log.info(f"One process reads the data of all {len(hosts)} hosts and reports as algo-1.")
    return TrainingJob(
        hyperparameters=hyperparameters,
        channels=channels,
        model_dir=files.model_dir,
        log=log,
        metrics=MetricLines(),
        stop=stop,
    )


_CONFIG_NAME = "/opt/ml/input/config/hyperparameters.json"


def _words(configuration: Mapping[str, object]) -> str:
    """Return the configuration as the public logs show it: text to text."""
    return json.dumps({name: str(value) for name, value in configuration.items()})


def _write_failure(files: ContainerFiles, text: str) -> None:
    files.failure_file.parent.mkdir(parents=True, exist_ok=True)
    files.failure_file.write_text(text[:_FAILURE_CHARACTERS])


def _times(info: AlgorithmInfo, started: float, ended: float) -> str:
    """Return the `#metrics` line with the total time in milliseconds."""
    total = (ended - started) * 1000
    values = {"count": 1, "max": total, "min": total, "sum": total}
    line = {
        "StartTime": started,
        "EndTime": ended,
        "Dimensions": {"Algorithm": f"AWS/{info.name.upper()}", "Host": "algo-1", "Operation": "training"},
        "Metrics": {"totaltime": values},
    }
    return f"#metrics {json.dumps(line)}"
