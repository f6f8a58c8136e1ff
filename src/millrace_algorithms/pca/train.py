"""Train PCA from a channel."""

import time

import numpy as np

from millrace_algorithms.algorithm import TrainingJob
from millrace_algorithms.channels import Channel
from millrace_algorithms.errors import InputError
from millrace_algorithms.metric_lines import Goal
from millrace_algorithms.pca.decomposition import Accumulator, Components, RandomizedSketch, RegularScatter
from millrace_algorithms.pca.model import save
from millrace_algorithms.tables import rebatch

__all__ = ["train"]

EXACT_FEATURE_DIM = 5000
"""Up to this many features randomized mode is computed exactly: it is a hint about cost, not a promise of error."""


def train(job: TrainingJob) -> None:
    feature_dim, num_components = job.hyperparameters["feature_dim"], job.hyperparameters["num_components"]
    if num_components > feature_dim:
        raise InputError(f"num_components must be at most feature_dim={feature_dim}, got {num_components}")
    accumulator = _accumulator(job, feature_dim, num_components)
    started = time.monotonic()
    matrices = (t.dense(feature_dim) for t in job.channels["train"].tables(feature_dim=feature_dim, labelled=False))
    # Only the sketch depends on how rows are grouped; sums are quickest in the blocks as they come.
    batches = (
        matrices
        if isinstance(accumulator, RegularScatter)
        else rebatch(matrices, job.hyperparameters["mini_batch_size"])
    )
    for batch in batches:
        accumulator.add(batch)
    if not accumulator.count:
        job.log.warning("Stopped before any data arrived: there is no model.")
        return
    components = accumulator.components(num_components)
    job.log.plain(job.metrics.progress(100.0))
    job.log.plain(job.metrics.throughput(accumulator.count / max(time.monotonic() - started, 1e-9)))
    save(job.model_dir, components, job.hyperparameters)
    if "test" in job.channels and not job.stop.requested:
        error = _reconstruction_error(job.channels["test"], components)
        if error is not None:
            job.log.plain(job.metrics.score("test", "reconstruction_error", error))
            job.log.plain(job.metrics.quality("test", "reconstruction_error", error, Goal.LOSS))


def _accumulator(job: TrainingJob, feature_dim: int, num_components: int) -> Accumulator:
    subtract_mean = job.hyperparameters["subtract_mean"]
    if job.hyperparameters["algorithm_mode"] == "regular":
        return RegularScatter(feature_dim, subtract_mean=subtract_mean)
    if feature_dim <= EXACT_FEATURE_DIM:
        job.log.info(f"algorithm_mode is randomized; feature_dim <= {EXACT_FEATURE_DIM} is computed exactly.")
        return RegularScatter(feature_dim, subtract_mean=subtract_mean)
    extra = job.hyperparameters["extra_components"]
    sketch_rows = num_components + (max(10, num_components) if extra < 0 else extra)
    return RandomizedSketch(feature_dim, sketch_rows, subtract_mean=subtract_mean)


def _reconstruction_error(channel: Channel, components: Components) -> float | None:
    """Return the mean squared difference of an element from its reconstruction; None if stopped before any row."""
    total, elements = 0.0, 0
    for table in channel.tables(feature_dim=len(components.mean), labelled=False):
        centred = table.dense() - components.mean
        rest = centred - centred @ components.directions @ components.directions.T
        total += float(np.square(rest).sum())
        elements += rest.size
    return total / elements if elements else None
