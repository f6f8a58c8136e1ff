"""Objects get file names of their own, below their folder."""

from pathlib import Path

import pytest

from millrace.agents.placement import Placement
from millrace.errors import ClientFailure
from millrace.names import ObjectRef


@pytest.mark.parametrize("relative", ["/etc/passwd", "../x", "a/../../x", "a/..", "..", "", ".", "a\0b"])
def test_a_name_that_is_no_file_below_the_folder_is_refused(tmp_path: Path, relative: str) -> None:
    """The failure names object and file."""
    ref = ObjectRef("shop", "model/" + relative)
    with pytest.raises(ClientFailure, match="s3://shop/model/") as caught:
        Placement(tmp_path).place(ref, relative)
    assert repr(relative) in str(caught.value)


def test_a_link_that_leads_out_is_not_followed(tmp_path: Path) -> None:
    """Even if the key itself looks harmless."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "out").symlink_to(tmp_path)
    with pytest.raises(ClientFailure, match="leads out"):
        Placement(folder).place(ObjectRef("shop", "out/x"), "out/x")


@pytest.mark.parametrize(
    ("first", "second"), [("d.csv", "d.csv"), ("a/b", "a//b"), ("a/b", "./a/b"), ("a", "a/b"), ("a/b/c", "a/b")]
)
def test_two_objects_are_never_one_file(tmp_path: Path, first: str, second: str) -> None:
    """The failure names both."""
    placement = Placement(tmp_path)
    placement.place(ObjectRef("shop", f"x/{first}"), first)
    with pytest.raises(ClientFailure) as caught:
        placement.place(ObjectRef("shop", f"y/{second}"), second)
    assert f"s3://shop/x/{first} and s3://shop/y/{second}" in str(caught.value)


def test_names_beside_each_other_are_files(tmp_path: Path) -> None:
    """Folders may be shared; names that begin with dots are ordinary."""
    placement = Placement(tmp_path)
    for name in ("a/b", "a/c", "..a", "a/.hidden", "ab"):
        assert placement.place(ObjectRef("shop", name), name) == tmp_path / name
