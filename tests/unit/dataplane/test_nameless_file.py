"""Tests of files that have no name."""

from pathlib import Path

import pytest

from millrace.dataplane.nameless_file import NamelessFile


def test_what_was_appended_can_be_read(tmp_path: Path) -> None:
    """Any part of it, as often as wanted; nobody sees the file, and its folder is made when it is needed."""
    file = NamelessFile(tmp_path / "work")
    assert not list(tmp_path.iterdir())
    for text in (b"abc", b"", b"defgh"):
        file.append(text)
    assert [file.read(0, 3), file.read(2, 4), file.read(0, 8)] == [b"abc", b"cdef", b"abcdefgh"]
    assert list((tmp_path / "work").iterdir()) == []
    file.close()


def test_room_is_used_again(tmp_path: Path) -> None:
    """By whoever needs nothing of what was there."""
    file = NamelessFile(tmp_path)
    file.append(b"x" * 100)
    file.begin_anew()
    file.append(b"abc")
    assert (file.end, file.read(0, 3)) == (3, b"abc")
    file.close()


def test_whoever_comes_after_it_was_closed_writes_nothing(tmp_path: Path) -> None:
    """A thread, say, that nobody waits for: the number of the file may be another one's by then."""
    file, never_opened = NamelessFile(tmp_path), NamelessFile(tmp_path)
    file.append(b"abc")
    for it in (file, never_opened):
        it.close()
        it.close()
        with pytest.raises(ValueError, match="the file is closed"):
            it.append(b"def")
        with pytest.raises(ValueError, match="the file is closed"):
            it.read(0, 1)
