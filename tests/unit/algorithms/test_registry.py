import subprocess
import sys

import pytest

from millrace_algorithms.registry import ALGORITHMS, find


@pytest.mark.spec("algorithms §1")
@pytest.mark.parametrize(
    "image",
    [
        "382416733822.dkr.ecr.us-east-1.amazonaws.com/pca:1",
        "382416733822.dkr.ecr.us-east-1.amazonaws.com/pca:latest",
        "387376663083.dkr.ecr.cn-north-1.amazonaws.com.cn/pca:1",
        "localhost:5000/pca",
        "localhost/pca:1",
        "pca",
        "pca:1",
        "382416733822.dkr.ecr.us-east-1.amazonaws.com/pca@sha256:0123456789abcdef",
        "pca:7@sha256:0123456789abcdef",
    ],
)
def test_account_region_and_registry_carry_no_meaning(image: str) -> None:
    """Any registry, any account, tag 1, latest, none or a digest mean the built-in algorithm."""
    assert find(image) is ALGORITHMS["pca"]


@pytest.mark.spec("algorithms §1")
@pytest.mark.parametrize(
    "image", ["123.dkr.ecr.us-east-1.amazonaws.com/my/pca:1", "my/pca:1", "pca:2", "pca2", "", "pca:", "PCA:1"]
)
def test_a_users_own_image_is_not_taken_for_a_built_in_one(image: str) -> None:
    """The whole repository path and the tag must match."""
    assert find(image) is None


def test_the_registry_needs_no_numerical_library() -> None:
    """The server imports the registry at start-up, so it must not load numpy."""
    code = "import sys, millrace_algorithms.registry; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.spec("algorithms §5.1")
def test_metric_definitions_find_the_values_in_our_own_lines() -> None:
    """Every final metric's regular expression matches the line that reports it."""
    import re

    definitions = dict(ALGORITHMS["knn"].metric_definitions)
    line = "#quality_metric: host=algo-1, test macro_f_1.000 <score>=0.97"
    match = re.search(definitions["test:macro_f_1.000"], line)
    assert match is not None
    assert match.group(1) == "0.97"
    assert set(definitions) >= {"test:accuracy", "test:mse", "train:progress", "train:throughput"}
