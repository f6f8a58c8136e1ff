"""Read what tests need of Markdown pages: headings, links, fenced code.

A comment on the line before a fence says what the tests do with it: `<!-- test -->` runs it, `<!-- file: NAME -->`
saves it under that name for the blocks that follow.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROOT", "Fence", "anchors", "fences", "links", "pages", "table_rows"]

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(
    r"^(?:<!-- (?P<mark>test|file: (?P<file>\S+)) -->\n)?```(?P<language>[a-z]*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_LINK = re.compile(r"\[[^\]\n]*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fence:
    """One block of code; `runs` in the tests, or is saved there as `file`."""

    language: str
    code: str
    runs: bool
    file: str | None


def pages() -> Sequence[Path]:
    """Return every page of the documentation."""
    return [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def fences(text: str) -> Iterator[Fence]:
    """Yield the blocks of code in order."""
    for match in _FENCE.finditer(text):
        yield Fence(language=match["language"], code=match["code"], runs=match["mark"] == "test", file=match["file"])


def links(text: str) -> list[str]:
    """Return the targets of links outside of code."""
    prose = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", text))
    return [match["target"] for match in _LINK.finditer(prose)]


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = _HEADING.findall(_FENCE.sub("", text))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def table_rows(text: str) -> list[list[str]]:
    """Return the cells of every table row of a page."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
