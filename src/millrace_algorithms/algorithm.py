"""What an algorithm is to the programs that run it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from millrace_algorithms.channels import Channel
from millrace_algorithms.hyperparameters import Hyperparameter
from millrace_algorithms.log import Log
from millrace_algorithms.metric_lines import MetricLines
from millrace_algorithms.serving.invocation import Model
from millrace_algorithms.stopping import StopSignal

__all__ = ["Algorithm", "TrainingJob"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingJob:
    """One training job, its configuration checked."""

    hyperparameters: Mapping[str, Any]
    """Typed values by name, defaults filled in."""
    channels: Mapping[str, Channel]
    model_dir: Path
    log: Log
    metrics: MetricLines
    stop: StopSignal


@dataclass(frozen=True, kw_only=True, slots=True)
class Algorithm:
    """An algorithm's declaration and its two programs; each package of one exports it as ALGORITHM."""

    hyperparameters: Mapping[str, Hyperparameter]
    train: Callable[[TrainingJob], None]
    """Writes the artifact into the model directory; raises InputError for what the job's owner can put right."""
    load: Callable[[Path], Model]
    """Reads the artifact from a model directory; raises ModelError."""
