"""A pile of layers, read without mounting it, and the same pile mounted."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.sandbox_rig import needs_sandbox

from millrace.images.view import TooManyLinks, View, clean_path
from millrace.runtimes.sandbox_build import BuildStep, run_build_step


def fill(folder: Path, files: dict[str, str]) -> Path:
    """Make a layer; `-> x` is a link, `gone` a whiteout, `opaque` a folder that hides what is below."""
    for name, text in files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if text.startswith("-> "):
            place.symlink_to(text[3:])
        elif text == "gone":
            place.touch()
            os.setxattr(place, "user.overlay.whiteout", b"y")
        elif text == "opaque":
            place.mkdir()
            os.setxattr(place, "user.overlay.opaque", b"y")
        else:
            place.write_text(text)
    return folder


@pytest.fixture
def layers(tmp_path: Path) -> Callable[..., View]:
    def make(*piles: dict[str, str]) -> View:
        folders = [fill(tmp_path / str(number), files) for number, files in enumerate(piles)]
        return View(folders[1:], skeleton=folders[0])

    return make


def test_higher_layers_hide_lower_ones(layers: Callable[..., View]) -> None:
    """By files of the same name, whiteouts, and folders that are opaque."""
    view = layers(
        {"a": "0", "d/x": "0", "d/y": "0", "o/x": "0", "f/x": "0"},
        {"a": "1", "d/x": "gone", "d/z": "1", "o": "opaque", "o/y": "1", "f": "1"},
    )
    assert (view.list("d"), view.list("o"), view.list("")) == (["y", "z"], ["y"], ["a", "d", "f", "o"])
    assert [view.find(path) for path in ("d/x", "o/x", "f/x", "none")] == [None] * 4
    found = view.find("a")
    assert found is not None and found.read_text() == "1"


def test_links_are_followed_inside_the_image(layers: Callable[..., View]) -> None:
    """Absolute ones from its root; none leads out."""
    view = layers(
        {"bin": "-> usr/bin", "usr/bin/x": "", "up": "-> ../../../usr", "abs": "-> /usr/bin", "loop": "-> loop"}
    )
    assert [view.resolve(it) for it in ("bin/x", "up/bin", "abs/none/y")] == ["usr/bin/x", "usr/bin", "usr/bin/none/y"]
    with pytest.raises(TooManyLinks):
        view.resolve("loop/x")


def test_a_single_folder_has_no_marks(tmp_path: Path) -> None:
    """What would be a whiteout in a layer is a file of a build context."""
    assert View([fill(tmp_path, {"x": "gone"})]).list("") == ["x"]


@given(st.lists(st.sampled_from(["..", ".", "", "a", "b"])))
def test_clean_paths_never_lead_out(parts: list[str]) -> None:
    """Whatever they were."""
    cleaned = clean_path("/".join(parts), below="x/y")
    assert not {"..", ".", ""} & set(cleaned.split("/")) or cleaned == ""


NAMES = st.sampled_from(["srv/a", "srv/a/b", "srv/a/c", "srv/d", "srv/d/e"])
COMMANDS = st.lists(
    st.tuples(st.sampled_from(["rm -rf {0}", "mkdir -p {0}", "touch {0}", "ln -s d {0}"]), NAMES), max_size=5
)


@needs_sandbox
@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(scripts=st.lists(COMMANDS, min_size=2, max_size=3))
async def test_a_view_is_what_a_container_sees(scripts: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Layers that real commands made are read as the kernel shows them."""
    folder = tmp_path_factory.mktemp("view")
    piles: list[Path] = []
    lines: list[str] = []

    async def run(script: str) -> None:
        upper = folder / f"layer{len(piles)}"
        upper.mkdir()
        step = BuildStep(
            layers=tuple(piles),
            upper=upper,
            scratch=folder / "scratch",
            cache=tmp_path_factory.getbasetemp() / "skeleton",
            command=("/bin/sh", "-c", script),
            environment={},
        )
        assert (await run_build_step(step, lambda _, line: lines.append(line))).ok
        piles.append(upper)

    await run("mkdir -p /srv/a/b /srv/d; touch /srv/a/c /srv/d/e")
    for commands in scripts:
        await run("; ".join([*(f"{it[0].format('/' + it[1])} 2>/dev/null" for it in commands), "true"]))
    lines.clear()
    await run("find /srv -printf '%P %y\\n'")
    assert sorted(lines) == sorted([" d", *_walk(View(piles[:-1], skeleton=folder), "srv", "")])


def _walk(view: View, path: str, shown: str) -> list[str]:
    found = []
    for name, place in view.scan(path):
        mode = place.lstat().st_mode
        below = f"{shown}/{name}" if shown else name
        found.append(f"{below} {'d' if stat.S_ISDIR(mode) else 'l' if stat.S_ISLNK(mode) else 'f'}")
        if stat.S_ISDIR(mode):
            found += _walk(view, f"{path}/{name}", below)
    return found
