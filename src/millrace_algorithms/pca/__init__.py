"""Principal component analysis, image `pca`."""

from millrace_algorithms.algorithm import Algorithm
from millrace_algorithms.hyperparameters import Hyperparameter, Kind
from millrace_algorithms.pca.model import load
from millrace_algorithms.pca.train import train

__all__ = ["ALGORITHM"]

ALGORITHM = Algorithm(
    hyperparameters={
        "feature_dim": Hyperparameter(kind=Kind.INTEGER, minimum=1, required=True),
        "num_components": Hyperparameter(kind=Kind.INTEGER, minimum=1, required=True),
        "mini_batch_size": Hyperparameter(kind=Kind.INTEGER, minimum=1, required=True),
        "algorithm_mode": Hyperparameter(kind=Kind.CHOICE, choices=("regular", "randomized"), default="regular"),
        "subtract_mean": Hyperparameter(kind=Kind.BOOLEAN, default=True),
        "extra_components": Hyperparameter(kind=Kind.INTEGER, minimum=-1, default=-1),
        "epochs": Hyperparameter(kind=Kind.INTEGER, minimum=1, default=1),
        "force_dense": Hyperparameter(kind=Kind.BOOLEAN, default=True),
    },
    train=train,
    load=load,
)
