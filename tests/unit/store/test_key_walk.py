"""Tests of the names of folders that are kept for the next page."""

import os
from pathlib import Path

from millrace.store.key_walk import UNPACKED_NAMES, FolderNames

LONG_AGO = 10**9


def filled(folder: Path, count: int) -> bytes:
    """Return the path of a folder with so many files, which has been still for long."""
    folder.mkdir()
    for number in range(count):
        (folder / f"{number * 7919 % count:06}").touch()
    (folder / "inner").mkdir()
    os.utime(folder, (LONG_AGO, LONG_AGO))
    return os.fsencode(folder)


def expected(count: int) -> list[bytes]:
    """Return its names."""
    return [*(b"%06d" % number for number in range(count)), b"inner/"]


def test_a_folder_with_more_names_than_are_kept_is_read_once(tmp_path: Path) -> None:
    """Else each page of its listing would read all of it; small folders that are read meanwhile change nothing."""
    names = FolderNames(max_names=8)
    large, small, other = (filled(tmp_path / name, count) for name, count in (("a", 20), ("b", 5), ("c", 5)))
    first = names.read(large)
    assert list(first) == expected(20)
    for path in (small, other, small):
        assert list(names.read(path)) == expected(5)
        assert names.read(large) is first
    assert names.read(small) is names.read(small)
    next_large = filled(tmp_path / "d", 30)
    assert names.read(next_large) is names.read(next_large)
    assert names.read(large) is not first


def test_a_large_folder_is_kept_while_it_is_listed(tmp_path: Path) -> None:
    """Nobody asks for a page behind the last one; what is small stays."""
    names = FolderNames(max_names=8)
    large, small = filled(tmp_path / "a", 20), filled(tmp_path / "b", 5)
    first, second = names.read(large), names.read(small)
    names.let_go()
    assert names.read(large) is not first
    assert names.read(small) is second


def test_a_large_folder_that_has_changed_is_read_again(tmp_path: Path) -> None:
    """Whether it has become larger or small."""
    names = FolderNames(max_names=8)
    large = filled(tmp_path / "a", 20)
    names.read(large)
    (tmp_path / "a" / "000020").touch()
    assert list(names.read(large)) == expected(21)
    for number in range(3, 21):
        (tmp_path / "a" / f"{number:06}").unlink()
    os.utime(large, (LONG_AGO, LONG_AGO + 1))
    assert list(names.read(large)) == expected(3)
    assert names.read(large) is names.read(large)


def test_very_many_names_are_those_of_the_folder(tmp_path: Path) -> None:
    """In order, packed or not."""
    count = UNPACKED_NAMES + 100
    assert list(FolderNames(max_names=8).read(filled(tmp_path / "a", count))) == expected(count)
