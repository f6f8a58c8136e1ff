"""Train k-NN: sample a channel, shorten its rows, build the index, measure a test channel."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from millrace_algorithms.algorithm import TrainingJob
from millrace_algorithms.channels import Channel
from millrace_algorithms.errors import InputError
from millrace_algorithms.knn.index import build_index, check, index_width
from millrace_algorithms.knn.model import KnnModel, PredictorType, Reduction, save, to_vectors
from millrace_algorithms.knn.projection import ProjectionType
from millrace_algorithms.metric_lines import Goal
from millrace_algorithms.reservoir import Reservoir
from millrace_algorithms.scores import accuracy, macro_f1, mean_squared_error
from millrace_algorithms.tables import FloatMatrix, FloatVector

__all__ = ["build", "train"]

_SEED = 0


def train(job: TrainingJob) -> None:
    hyperparameters = job.hyperparameters
    check(hyperparameters)
    started = time.monotonic()
    feature_dim = None if hyperparameters["feature_dim"] == "auto" else hyperparameters["feature_dim"]
    if feature_dim is not None:
        _reduction(hyperparameters, feature_dim)  # refuses before the data are read
    reservoir = Reservoir(hyperparameters["sample_size"], seed=_SEED)
    channel = job.channels["train"]
    for table in channel.tables(feature_dim=feature_dim, labelled=True):
        reservoir.add(table.dense(), _labels(channel, table.labels))
    if not reservoir.seen:
        job.log.warning("Stopped before any data arrived: there is no model.")
        return
    features, labels = reservoir.sample()
    # The count is part of the service's line; the channel lets no NaN through.
    job.log.info(f"Got reservoir sample from algo-1: data={features.shape}, labels={labels.shape}, NaNs=0")
    k = hyperparameters["k"]
    if k > len(labels):
        job.log.warning(f"k={k} is more than the {len(labels)} rows of the sample: every prediction is made from all.")
    job.log.info("Training index...")
    model = build(hyperparameters, features, labels)
    job.log.info("...done training index")
    job.log.plain(job.metrics.progress(100.0))
    job.log.plain(job.metrics.throughput(reservoir.seen / max(time.monotonic() - started, 1e-9)))
    save(job.model_dir, model, hyperparameters)
    if "test" in job.channels and not job.stop.requested:
        _test(job, model)


def _labels(channel: Channel, labels: FloatVector | None) -> FloatVector:
    if labels is None:
        raise InputError(f"channel {channel.config.name!r} must have labels, got records without")
    return labels


def _reduction(hyperparameters: Mapping[str, Any], feature_dim: int) -> Reduction | None:
    kind, target = hyperparameters["dimension_reduction_type"], hyperparameters["dimension_reduction_target"]
    if kind is None:
        return None
    if target is None:
        raise InputError("'dimension_reduction_target' is a required property when dimension_reduction_type is set")
    if target >= feature_dim:
        raise InputError(f"dimension_reduction_target must be less than feature_dim={feature_dim}, got {target}")
    return Reduction(kind=ProjectionType(kind), seed=_SEED, input_dim=feature_dim, target_dim=target)


def build(hyperparameters: Mapping[str, Any], features: FloatMatrix, labels: FloatVector) -> KnnModel:
    """Return the model of a sample; raises InputError if the settings do not fit it."""
    feature_dim = features.shape[1]
    reduction = _reduction(hyperparameters, feature_dim)
    projection = None if reduction is None else reduction.matrix()
    normalize = hyperparameters["index_metric"] == "COSINE"
    width = index_width(hyperparameters, feature_dim if reduction is None else reduction.target_dim)
    vectors = to_vectors(features, projection, width=width, normalize=normalize)
    return KnnModel(
        index=build_index(vectors, hyperparameters),
        labels=labels.astype(np.float32, copy=False),
        feature_dim=feature_dim,
        k=hyperparameters["k"],
        predictor_type=PredictorType(hyperparameters["predictor_type"]),
        reduction=reduction,
        normalize=normalize,
        projection=projection,
    )


def _test(job: TrainingJob, model: KnnModel) -> None:
    channel = job.channels["test"]
    labels, predicted = [], []
    for table in channel.tables(feature_dim=model.feature_dim, labelled=True):
        labels.append(_labels(channel, table.labels))
        predicted.append(model.predict(model.search(table.dense())[1]))
    if not labels:
        return
    truth, guess = np.concatenate(labels), np.concatenate(predicted)
    if model.predictor_type is PredictorType.REGRESSOR:
        results = [("mse", mean_squared_error(truth, guess), Goal.LOSS)]
    else:
        results = [
            ("accuracy", accuracy(truth, guess), Goal.SCORE),
            ("macro_f_1.000", macro_f1(truth, guess), Goal.SCORE),
        ]
    for name, value, _ in results:
        job.log.plain(job.metrics.score("test", name, value))
    for name, value, goal in results:
        job.log.plain(job.metrics.quality("test", name, value, goal))
