"""Built-in algorithms as images."""

import pytest

from millrace.built_in_images import find_built_in
from millrace.errors import ImageUnavailable


def test_algorithms_that_cannot_run_are_told_when_they_are_asked_for() -> None:
    """Without the extra they are made with, by the name of what is missing and the command that brings it."""
    assert find_built_in("pca:1") == "pca"
    assert find_built_in("nobody:1", find_module=lambda name: None) is None
    with pytest.raises(ImageUnavailable) as caught:
        find_built_in("pca:1", find_module=lambda name: None if name in ("numpy", "faiss") else name)
    assert str(caught.value) == (
        "image pca:1: built-in algorithms need numpy, faiss, which are not installed: "
        "pip install 'millrace[algorithms]'"
    )
