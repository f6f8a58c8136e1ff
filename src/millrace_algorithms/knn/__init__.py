"""k-nearest neighbours, image `knn`."""

from millrace_algorithms.algorithm import Algorithm
from millrace_algorithms.hyperparameters import Hyperparameter, Kind
from millrace_algorithms.knn.model import load
from millrace_algorithms.knn.train import train

__all__ = ["ALGORITHM"]

ALGORITHM = Algorithm(
    hyperparameters={
        "k": Hyperparameter(kind=Kind.INTEGER, minimum=1, required=True),
        "predictor_type": Hyperparameter(kind=Kind.CHOICE, choices=("classifier", "regressor"), required=True),
        "sample_size": Hyperparameter(kind=Kind.INTEGER, minimum=1, required=True),
        "feature_dim": Hyperparameter(kind=Kind.INTEGER, minimum=1, auto=True, default="auto"),
        "dimension_reduction_type": Hyperparameter(kind=Kind.CHOICE, choices=("sign", "fjlt")),
        "dimension_reduction_target": Hyperparameter(kind=Kind.INTEGER, minimum=1),
        "index_type": Hyperparameter(
            kind=Kind.CHOICE, choices=("faiss.Flat", "faiss.IVFFlat", "faiss.IVFPQ"), default="faiss.Flat"
        ),
        "index_metric": Hyperparameter(kind=Kind.CHOICE, choices=("L2", "INNER_PRODUCT", "COSINE"), default="L2"),
        "faiss_index_ivf_nlists": Hyperparameter(kind=Kind.INTEGER, minimum=1, auto=True, default="auto"),
        "faiss_index_pq_m": Hyperparameter(
            kind=Kind.INTEGER_CHOICE, choices=(1, 2, 3, 4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 96)
        ),
        "mini_batch_size": Hyperparameter(kind=Kind.INTEGER, minimum=1, default=5000),
        "epochs": Hyperparameter(kind=Kind.INTEGER, minimum=1, default=1),
        "_faiss_index_nprobe": Hyperparameter(kind=Kind.INTEGER, minimum=1, default=5),
    },
    train=train,
    load=load,
)
