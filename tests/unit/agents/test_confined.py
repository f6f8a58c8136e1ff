"""Nothing that a program puts into its folders leads the agent out of them."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace.agents.confined import iter_files, open_below, open_folder, read_head


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A program's folder, with a secret beside it."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "opt" / "deep" / "er").mkdir(parents=True)
    (tmp_path / "opt" / "deep" / "er" / "a.txt").write_text("plain")
    return tmp_path / "opt"


def test_a_file_is_read_through_real_folders_only(folder: Path) -> None:
    """Doubled slashes are as good as one."""
    assert read_head(folder, "deep//er/a.txt", 3) == b"pla"


@pytest.mark.parametrize("target", ["../secret", "/etc/hostname", "deep/er/a.txt"])
def test_a_link_is_no_file(folder: Path, target: str) -> None:
    """Wherever it leads, inside too."""
    (folder / "message").symlink_to(target)
    with pytest.raises(FileNotFoundError):
        open_below(folder, "message")
    assert read_head(folder, "message", 100) == b""


def test_a_link_is_no_folder(folder: Path) -> None:
    """Neither the last one nor one on the way."""
    (folder / "out").symlink_to(folder.parent)
    for path in ("out", "out/opt"):
        with pytest.raises(NotADirectoryError):
            open_folder(folder, path)
    with pytest.raises(NotADirectoryError):
        open_below(folder, "out/secret")


def test_a_pipe_is_no_file(folder: Path) -> None:
    """The agent does not wait for its other end."""
    os.mkfifo(folder / "message")
    assert read_head(folder, "message", 100) == b""


def test_a_way_up_is_refused(folder: Path) -> None:
    """A path of ours never has one."""
    with pytest.raises(ValueError, match=r"'\.\.'"):
        open_below(folder, "../secret")


def test_files_are_listed_without_links(folder: Path) -> None:
    """A link to a folder is not walked into, a link to a file not told."""
    (folder / "link.txt").symlink_to(folder / "deep" / "er" / "a.txt")
    (folder / "link").symlink_to(folder.parent)
    os.mkfifo(folder / "pipe")
    (folder / "b").write_text("b")
    held = open_folder(folder, "")
    try:
        assert sorted(name for name, _ in iter_files(held)) == ["b", "deep/er/a.txt"]
    finally:
        os.close(held)


@pytest.fixture
def deep(folder: Path) -> Iterator[Path]:
    """The folder for a tree that pytest, which removes folders by recursion, could not remove."""
    yield folder
    subprocess.run(["rm", "-rf", folder / "d"], check=True)


def test_a_very_deep_tree_is_listed(deep: Path) -> None:
    """Depth costs no stack."""
    held = open_folder(deep, "")
    for _ in range(1100):
        os.mkdir("d", dir_fd=held)
        inner = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=held)
        os.close(held)
        held = inner
    os.close(os.open("last", os.O_WRONLY | os.O_CREAT, dir_fd=held))
    os.close(held)
    held = open_folder(deep, "")
    try:
        assert max((name for name, _ in iter_files(held)), key=len) == "d/" * 1100 + "last"
    finally:
        os.close(held)
