"""Folders that programs have filled are removed, whatever they made of them."""

import os
import subprocess
import sys
from pathlib import Path

from millrace.folder_removal import remove_folder


def test_a_folder_is_removed_but_not_what_its_links_lead_to(tmp_path: Path) -> None:
    """Nor is it a mistake to remove it twice."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "link").symlink_to(tmp_path / "kept")
    remove_folder(folder)
    remove_folder(folder)
    assert [path.name for path in tmp_path.rglob("*")] == ["kept", "file"]


def test_a_link_in_the_place_of_the_folder_is_left(tmp_path: Path) -> None:
    """What it leads to is not ours to remove."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    remove_folder(tmp_path / "link")
    assert (tmp_path / "kept").is_dir()


def test_a_folder_deeper_than_the_stack_is_removed(tmp_path: Path) -> None:
    """A program may nest folders for fun."""
    held = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("d", dir_fd=held)
        inner = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=held)
        os.close(held)
        held = inner
    os.close(held)
    # in another process: what the interrupted attempt leaves to the garbage collector is no failure of this test
    code = "import sys, pathlib, millrace.folder_removal as it; it.remove_folder(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, tmp_path / "d"], check=True)
    assert list(tmp_path.iterdir()) == []


def test_folders_that_may_not_be_entered_are_removed(tmp_path: Path) -> None:
    """Their owner may change that."""
    (tmp_path / "d" / "closed" / "in").mkdir(parents=True)
    (tmp_path / "d" / "closed" / "in" / "file").touch()
    (tmp_path / "d" / "closed" / "in").chmod(0)
    (tmp_path / "d" / "closed").chmod(0o555)
    remove_folder(tmp_path / "d")
    assert list(tmp_path.iterdir()) == []
