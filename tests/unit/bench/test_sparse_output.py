"""A benchmark's job may write more than the disk is to hold."""

from pathlib import Path

import pytest
from bench.sparse_output import RECORD_BYTES, Follower, write_input
from bench.turns import OutputDiffers


def test_an_output_is_compared_and_made_a_hole(tmp_path: Path) -> None:
    """What was written is compared to its end, wherever it was moved to, and takes no room any more."""
    write_input(tmp_path / "in" / "rows", 4 * RECORD_BYTES)
    drafts = tmp_path / "drafts"
    drafts.mkdir()
    with Follower(drafts, 4 * RECORD_BYTES) as follower:
        draft = drafts / "draft"
        draft.write_bytes((tmp_path / "in" / "rows").read_bytes())
        follower.wait_until_found()
        follower.finish(draft.rename(tmp_path / "output"))
    assert (tmp_path / "output").stat().st_size == 4 * RECORD_BYTES
    assert (tmp_path / "output").stat().st_blocks == 0


@pytest.mark.parametrize("change", [(0, b"x"), (3 * RECORD_BYTES, b"\n")])
def test_an_output_that_differs_is_told(tmp_path: Path, change: tuple[int, bytes]) -> None:
    """One byte that is not what it must be gives an error that says where."""
    drafts = tmp_path / "drafts"
    drafts.mkdir()
    at, byte = change
    text = (bytes(RECORD_BYTES - 1) + b"\n") * 4
    with Follower(drafts, len(text)) as follower:
        (drafts / "draft").write_bytes(text[:at] + byte + text[at + 1 :])
        follower.wait_until_found()
        with pytest.raises(OutputDiffers, match=f"different behind {at}"):
            follower.finish(drafts / "draft")
