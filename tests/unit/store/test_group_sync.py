"""One sync for a group of files."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace.store.group_sync import PAUSE_SECONDS, SLOW_SECONDS, GroupSync


@pytest.fixture
def folder(tmp_path: Path) -> bytes:
    """A folder on a file system that is synced in groups."""
    syncs = GroupSync()
    try:
        if syncs.begin(os.fsencode(tmp_path)) is None:
            pytest.skip("the file system of temporary files needs a sync for each")
    finally:
        syncs.close()
    return os.fsencode(tmp_path)


@pytest.fixture
def syncs() -> Iterator[GroupSync]:
    """Group syncs that are closed at the end."""
    made = GroupSync()
    yield made
    made.close()


def test_a_group_is_synced(folder: bytes, syncs: GroupSync) -> None:
    """What begin returns may be called more than once, for what is written in between."""
    sync = syncs.begin(folder)
    assert sync is not None
    Path(os.fsdecode(folder), "a").write_bytes(b"a")
    sync()
    sync()


def test_other_file_systems_need_a_sync_for_each_file(syncs: GroupSync) -> None:
    """Of a file system that is not known to wait for its disk nothing is promised."""
    assert syncs.begin(b"/proc") is None


def test_a_slow_sync_is_not_used_for_a_while(folder: bytes) -> None:
    """A sync that waited for others' bytes is followed by a pause, in which files are synced one by one."""
    times = iter([0.0, 0.0, SLOW_SECONDS + 1, SLOW_SECONDS + 2, SLOW_SECONDS + 2 + PAUSE_SECONDS])
    syncs = GroupSync(monotonic=lambda: next(times))
    try:
        sync = syncs.begin(folder)
        assert sync is not None
        sync()
        assert syncs.begin(folder) is None
        assert syncs.begin(folder) is not None
    finally:
        syncs.close()


def test_an_error_is_one_of_all_groups_of_its_time(folder: bytes, syncs: GroupSync) -> None:
    """The kernel tells an error once: a group that was begun before must not take it for another's."""
    first, second = syncs.begin(folder), syncs.begin(folder)
    assert first is not None
    assert second is not None
    syncs.close()  # the descriptor is gone: what is called now fails
    with pytest.raises(OSError, match="Bad file descriptor"):
        first()
    with pytest.raises(OSError):
        second()
