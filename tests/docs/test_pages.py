"""The pages hang together: links lead somewhere, examples parse, the README says how to begin."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from tests.docs.markdown import ROOT, anchors, fences, links, pages

CHANGE_KINDS = ("added", "changed", "fixed", "removed", "security")


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", pages(), ids=_name)
def test_links_resolve(page: Path) -> None:
    """Every relative link leads to a file of the repository, and to a heading of it where it names one."""
    broken = []
    for target in links(page.read_text("utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file.read_text("utf-8"))):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", pages(), ids=_name)
def test_code_parses(page: Path) -> None:
    """Every block of Python and TOML in the documentation parses, and every block says its language."""
    for fence in fences(page.read_text("utf-8")):
        if fence.language == "python":
            ast.parse(fence.code)
        elif fence.language == "toml":
            tomllib.loads(fence.code)
        assert fence.language, f"a block without a language:\n{fence.code}"


@pytest.mark.parametrize("page", pages(), ids=_name)
def test_pages_name_no_machine(page: Path) -> None:
    """No page names a path of the machine it was written on, or a key."""
    text = page.read_text("utf-8")
    assert not re.search(r"/(work|root|home)/|AKIA[A-Z2-7]{16}", text)
    assert text.startswith("# ")
    assert text.endswith("\n") and not text.endswith("\n\n")


def test_readme_names_the_two_commands() -> None:
    """The README names the commands that a newcomer runs first, and the Makefile has them."""
    text = (ROOT / "README.md").read_text("utf-8")
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in ("demo", "test"):
        assert f"make {target}" in text
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_readme_leads_to_every_page() -> None:
    """Every page below docs/ can be reached from the README, directly."""
    readme = ROOT / "README.md"
    reached = {(readme.parent / target.partition("#")[0]).resolve() for target in links(readme.read_text("utf-8"))}
    assert {_name(page) for page in pages() if page != readme} <= {_name(page) for page in reached if page != ROOT}


def test_changelog_fragments_are_named_by_the_rule() -> None:
    """A fragment is called <subject>.<kind>.md and is one or more sentences."""
    for fragment in (ROOT / "changelog.d").iterdir():
        if fragment.name == "README.md":
            continue
        subject, kind, suffix = fragment.name.split(".")
        assert subject and kind in CHANGE_KINDS and suffix == "md", fragment.name
        assert fragment.read_text("utf-8").strip().endswith(".")


def test_licence_is_the_one_that_is_named() -> None:
    """LICENSE has the text of the licence that pyproject.toml names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert "Apache License" in text and "Version 2.0, January 2004" in text and "END OF TERMS AND CONDITIONS" in text
