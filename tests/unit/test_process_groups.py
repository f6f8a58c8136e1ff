"""A group is ended by its whole name only."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from millrace.process_groups import ProcessGroup, end_left_over


@pytest.fixture
def program() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as process:
        yield process
        process.kill()


def group_of(program: subprocess.Popen[bytes]) -> ProcessGroup:
    group = ProcessGroup.of_leader(program.pid)
    assert group is not None
    return group


def test_a_noted_group_is_ended(tmp_path: Path, program: subprocess.Popen[bytes]) -> None:
    """It has ended when the call returns, and the note is gone."""
    group_of(program).note(tmp_path)
    end_left_over(tmp_path)
    assert program.wait() == -9
    assert list(tmp_path.iterdir()) == []


def test_a_number_that_was_given_again_is_left_alone(tmp_path: Path, program: subprocess.Popen[bytes]) -> None:
    """Another start, or another boot of the machine, is another group."""
    group = group_of(program)
    for stranger in (replace(group, leader_start=group.leader_start - 1), replace(group, boot="another")):
        stranger.note(tmp_path)
        end_left_over(tmp_path)
        assert program.poll() is None
    assert group.members() == [program.pid]


@pytest.mark.parametrize("text", ["", "7", "x y z", "0 0 {boot}", "{own} 0 {boot}", "-1 0 {boot}"])
def test_a_torn_or_forged_note_ends_nothing(tmp_path: Path, program: subprocess.Popen[bytes], text: str) -> None:
    """Neither the reader's own group nor everybody's."""
    group = group_of(program)
    group.note(tmp_path)
    [note] = tmp_path.iterdir()
    note.write_text(text.format(boot=group.boot, own=os.getpgrp()))
    end_left_over(tmp_path)
    assert program.poll() is None
    assert not note.exists()


def test_a_note_of_a_later_group_stays(tmp_path: Path, program: subprocess.Popen[bytes]) -> None:
    """Whoever forgets forgets his own."""
    group = group_of(program)
    group.note(tmp_path)
    replace(group, leader_start=group.leader_start - 1).forget(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    group.forget(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_has_ended_leads_no_group() -> None:
    """There is nothing to name."""
    with subprocess.Popen(["true"], start_new_session=True) as process:
        process.wait()
    assert ProcessGroup.of_leader(process.pid) is None
