import pytest

from millrace_algorithms.blas_threads import limit_threads_of_serving, limit_threads_of_training


@pytest.mark.parametrize(
    ("feature_dim", "expected"),
    [("100", {"OPENBLAS_NUM_THREADS": "1"}), ("auto", {"OPENBLAS_NUM_THREADS": "1"}), ("1024", {})],
)
def test_only_large_matrices_are_worth_threads(feature_dim: str, expected: dict[str, str]) -> None:
    """Decided by feature_dim, before numpy is loaded."""
    environ: dict[str, str] = {}
    limit_threads_of_training(environ, {"feature_dim": feature_dim})
    assert environ == expected


def test_the_jobs_environment_wins() -> None:
    """Who sets the variables knows the machine."""
    environ = {"OPENBLAS_NUM_THREADS": "4"}
    limit_threads_of_training(environ, {})
    limit_threads_of_serving(environ)
    assert environ == {"OPENBLAS_NUM_THREADS": "4", "OMP_NUM_THREADS": "1"}
