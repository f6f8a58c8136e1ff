"""What a container's root is put together from."""

import os
from pathlib import Path

import pytest

from millrace.runtimes.sandbox_root import find_lower, lay_out_root


@pytest.fixture
def layers(tmp_path: Path) -> list[Path]:
    """Three layers, lowest first, all with /var/lib/dpkg."""
    made = [tmp_path / name for name in ("low", "middle", "high")]
    for layer in made:
        (layer / "var" / "lib" / "dpkg").mkdir(parents=True)
    return made


def test_all_layers_show_over_the_machine(layers: list[Path]) -> None:
    """Highest first, as overlayfs wants them."""
    low, middle, high = (layer / "usr" for layer in layers)
    low.mkdir()
    high.mkdir()
    assert find_lower(layers, "usr") == ([high, low], True)
    assert find_lower(layers, "") == (list(reversed(layers)), True)
    assert find_lower([], "usr") == ([], True)
    assert not middle.exists()


def test_an_opaque_folder_on_the_way_hides_what_lies_below(layers: list[Path]) -> None:
    """Whoever removed /var and made it anew does not want the machine's back."""
    os.setxattr(layers[1] / "var", "user.overlay.opaque", b"y")
    found = [layers[2] / "var/lib/dpkg", layers[1] / "var/lib/dpkg"]
    assert find_lower(layers, "var/lib/dpkg") == (found, False)


def test_a_file_in_place_of_a_folder_hides_it(layers: list[Path]) -> None:
    """So does a link, which would lead elsewhere on this machine."""
    (layers[1] / "var" / "lib" / "dpkg").rmdir()
    (layers[1] / "var" / "lib" / "dpkg").symlink_to("/root")
    assert find_lower(layers, "var/lib/dpkg") == ([layers[2] / "var/lib/dpkg"], False)


def test_many_layers_with_long_names_fit_the_kernel_s_page(tmp_path: Path) -> None:
    """Options have links' names, not paths."""
    layers = [tmp_path / ("x" * 200) / str(number) for number in range(200)]
    for layer in layers:
        (layer / "usr").mkdir(parents=True)
    root = lay_out_root(tmp_path / "c", layers=layers, skeleton=tmp_path, grafts=["usr"])
    assert [overlay.target for overlay in root.overlays] == ["", "usr"]
    for overlay in root.overlays:
        assert len(overlay.options) < os.sysconf("SC_PAGE_SIZE")
    first = root.overlays[0].options.partition("=")[2].partition(":")[0]
    assert (tmp_path / "c" / first).readlink() == layers[-1]


def test_a_build_s_changes_go_to_its_layer(tmp_path: Path) -> None:
    """Those below a graft too, at their place; a container's are not kept over a crash."""
    upper = tmp_path / "upper"
    upper.mkdir()
    root = lay_out_root(tmp_path / "b", layers=[], skeleton=tmp_path, grafts=["usr"], upper=upper)
    assert "upperdir=upper/usr," in root.overlays[1].options
    assert ((tmp_path / "b" / "upper").readlink(), (upper / "usr").is_dir()) == (upper, True)
    assert "volatile" not in root.overlays[0].options
    assert "volatile" in lay_out_root(tmp_path / "c", layers=[], skeleton=tmp_path, grafts=[]).overlays[0].options
