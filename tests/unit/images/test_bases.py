"""What FROM may name beside own images."""

import platform
import sys

import pytest

from millrace.images.bases import BaseRefused, find_base

OURS = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.mark.parametrize(
    "image",
    [
        "python",
        f"python:{OURS}",
        f"python:{OURS}-slim-bookworm",
        f"python:{platform.python_version()}",
        "python:slim",
        "python:bookworm",
        "docker.io/library/python:3",
        f"public.ecr.aws/docker/library/python:{OURS}-slim",
        f"python:{OURS}@sha256:{'0' * 64}",
    ],
)
def test_python_is_this_machines(image: str) -> None:
    """Whatever registry, variant or digest is named; there is nothing to warn of."""
    base = find_base(image)
    assert base is not None and base.has_python and base.warnings == ()
    assert base.config.command == ("python3",)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("python:3.1", "gets this machine's Python"),
        (f"python:{OURS}-alpine", "no Alpine"),
        (f"registry.example/team/python:{OURS}", "taken for Docker's own python"),
        ("ubuntu:1.04", "gets this machine's root"),
    ],
)
def test_what_is_not_quite_as_asked_is_warned_of(image: str, words: str) -> None:
    """It is built all the same."""
    base = find_base(image)
    assert base is not None and any(words in warning for warning in base.warnings)


@pytest.mark.parametrize("image", ["python:2.7", "scratch"])
def test_what_this_machine_cannot_be_is_refused(image: str) -> None:
    """With the reason."""
    with pytest.raises(BaseRefused):
        find_base(image)


@pytest.mark.parametrize("image", ["pytorch/pytorch:2", "team/python:3", "Debian", "nothing"])
def test_other_names_are_no_base(image: str) -> None:
    """They may be images of one's own."""
    assert find_base(image) is None
