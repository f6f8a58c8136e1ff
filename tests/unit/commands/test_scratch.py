"""Folders of transforms without a server."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from millrace.commands.scratch import scratch_folder

HOLDER = """
import time
from millrace.commands.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "model").write_bytes(b"large")
    print(folder, flush=True)
    time.sleep(3600)
"""


@pytest.fixture(autouse=True)
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_folder_goes_with_its_transform(parent: Path) -> None:
    """With all that is in it, also what nobody may enter."""
    with scratch_folder() as folder:
        (folder / "closed").mkdir(mode=0)
        assert (folder.parent, folder.stat().st_mode & 0o777) == (parent, 0o700)
    assert not list(parent.iterdir())


def test_folders_of_killed_transforms_are_removed(parent: Path) -> None:
    """By the next transform, but none of one that still runs."""
    words = [sys.executable, "-c", HOLDER]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(parent)}
    ) as holder:
        assert holder.stdout is not None
        held = Path(holder.stdout.readline().strip())
        with scratch_folder():
            assert (held / "model").exists()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert held.exists()
        with scratch_folder() as folder:
            assert list(parent.iterdir()) == [folder]


def test_what_is_no_folder_of_ours_stays(parent: Path) -> None:
    """A file, or a link to somebody's folder, with such a name."""
    (parent / "millrace-scratch-file").write_text("mine")
    (parent / "elsewhere").mkdir()
    (parent / "millrace-scratch-link").symlink_to(parent / "elsewhere")
    with scratch_folder():
        pass
    assert sorted(path.name for path in parent.iterdir()) == [
        "elsewhere",
        "millrace-scratch-file",
        "millrace-scratch-link",
    ]
