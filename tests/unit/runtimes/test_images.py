"""Which image answers to a URI."""

from pathlib import Path

import pytest

from millrace.errors import ImageUnavailable
from millrace.runtimes.images import HostImages


def catalog(tmp_path: Path, text: str | None = None) -> HostImages:
    file = tmp_path / "host-images.toml"
    if text is not None:
        file.write_text(text)
    return HostImages(file, find_built_in=lambda uri: "pca" if uri.endswith("pca:1") else None)


ENTRY = '[[image]]\nmatch = "mine:*"\ncommand = ["python3", "main.py"]\nenvironment = { A = "1" }\n'


@pytest.mark.parametrize(
    "uri",
    [
        "mine",
        "mine:latest",
        "mine:v2",
        "000000000000.dkr.ecr.us-east-1.amazonaws.com/mine:v2",
        "localhost:5000/mine",
        "mine@sha256:abc",
    ],
)
def test_a_host_image_answers_to_all_forms_of_its_name(tmp_path: Path, uri: str) -> None:
    """Registry host and digest don't matter; no tag is latest."""
    image = catalog(tmp_path, ENTRY).resolve(uri)
    assert (image.uri, image.command, image.environment) == (uri, ("python3", "main.py"), {"A": "1"})
    assert image.built_in is None


@pytest.mark.parametrize("uri", ["other:1", "team/mine:1", "mines:1"])
def test_another_name_does_not(tmp_path: Path, uri: str) -> None:
    """The whole repository path counts; the error says where to look."""
    with pytest.raises(ImageUnavailable, match=r"host-images\.toml"):
        catalog(tmp_path, ENTRY).resolve(uri)


def test_built_in_algorithms_need_no_file(tmp_path: Path) -> None:
    """They are ordinary images whose program is ours."""
    image = catalog(tmp_path).resolve("382416733822.dkr.ecr.us-east-1.amazonaws.com/pca:1")
    assert image.built_in == "pca"
    assert image.command[-2:] == ("millrace_algorithms", "pca")


def test_the_operator_s_file_wins_over_a_built_in(tmp_path: Path) -> None:
    """So a mapping can be replaced."""
    text = '[[image]]\nmatch = "pca:1"\ncommand = ["mine"]\n'
    assert catalog(tmp_path, text).resolve("pca:1").command == ("mine",)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    """No restart is needed."""
    images = catalog(tmp_path)
    with pytest.raises(ImageUnavailable):
        images.resolve("mine:1")
    (tmp_path / "host-images.toml").write_text(ENTRY)
    assert images.resolve("mine:1").command == ("python3", "main.py")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[image", "host-images.toml"),
        ('[[image]]\ncommand = ["x"]', r"image\[0\]\.match"),
        ('[[image]]\nmatch = "x"\ncommand = "x"', r"image\[0\]\.command must be a list of strings, got 'x'"),
        ('[[image]]\nmatch = "x"\ncommand = ["x"]\nenvironment = { A = 1 }', r"image\[0\]\.environment"),
    ],
)
def test_a_bad_file_is_told_with_the_path_to_the_fault(tmp_path: Path, text: str, message: str) -> None:
    """The error names file, entry and value."""
    with pytest.raises(ImageUnavailable, match=message):
        catalog(tmp_path, text).resolve("x:1")
