"""Cut a Dockerfile into logical lines: continuations joined, comments gone, heredocs refused."""

import re
from dataclasses import dataclass

from millrace.images.problems import Problem

__all__ = ["LogicalLine", "LogicalLines", "logical_lines"]

_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(\S.*)$")
_HEREDOC = re.compile(r"(?:^|\s)\d*<<-?\s*(?P<quote>[\"']?)(?P<word>[A-Za-z_][A-Za-z0-9_.-]*)(?P=quote)(?=\s|$|[;|&>])")
_TAKES_HEREDOC = ("RUN", "COPY", "ADD")
_KNOWN_DIRECTIVES = ("syntax", "escape", "check")


@dataclass(frozen=True, slots=True)
class LogicalLine:
    """One instruction's text and the number of the physical line where it begins, from 1."""

    number: int
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LogicalLines:
    """All instructions of a file, its escape character, and what could not be read."""

    lines: tuple[LogicalLine, ...]
    escape: str
    problems: tuple[Problem, ...]


def logical_lines(text: str) -> LogicalLines:
    """Cut the text of a Dockerfile.

    Source:
        The Dockerfile reference, "Parser directives" and "Format": comment lines inside an instruction are removed
        before its lines are joined; white space before an instruction is ignored, inside a continued one it is kept.
    """
    physical = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    escape, start, problems = _directives(physical)
    # an escape that is itself escaped does not continue the line
    is_continued = re.compile(rf"(?:^|[^{re.escape(escape)}]){re.escape(escape)}[ \t]*$")
    lines = []
    position = start
    while position < len(physical):
        number = position + 1
        first = physical[position].lstrip()
        position += 1
        if not first or first.startswith("#"):
            continue
        joined, more = _without_escape(first, is_continued, escape)
        while more and position < len(physical):
            following = physical[position]
            position += 1
            if not following.strip() or following.lstrip().startswith("#"):
                continue
            part, more = _without_escape(following, is_continued, escape)
            joined += part
        heredoc = _heredoc_word(joined)
        if heredoc is not None:
            problems.append(
                Problem(number, f"heredocs (<<{heredoc}) are not supported: write the lines with && and {escape}")
            )
            position = _after_heredoc(physical, position, heredoc)
            continue
        lines.append(LogicalLine(number, joined.rstrip()))
    return LogicalLines(lines=tuple(lines), escape=escape, problems=tuple(problems))


def _directives(physical: list[str]) -> tuple[str, int, list[Problem]]:
    """Return the escape character, the index of the first line behind the directives, and problems.

    "All comments, blank lines and instructions end the search for directives."
    """
    escape = "\\"
    seen: set[str] = set()
    for index, line in enumerate(physical):
        match = _DIRECTIVE.match(line.strip())
        name = match[1].lower() if match else ""
        if match is None or name not in _KNOWN_DIRECTIVES:
            return escape, index, []
        if name in seen:
            return escape, index + 1, [Problem(index + 1, f"only one {name} directive can be used")]
        seen.add(name)
        if name == "escape":
            if match[2] not in ("\\", "`"):
                problem = Problem(index + 1, f"the escape directive must be \\ or `, got {match[2]!r}")
                return escape, index + 1, [problem]
            escape = match[2]
    return escape, len(physical), []


def _without_escape(line: str, is_continued: re.Pattern[str], escape: str) -> tuple[str, bool]:
    if is_continued.search(line) is None:
        return line, False
    return line[: line.rindex(escape)], True


def _heredoc_word(text: str) -> str | None:
    keyword, _, rest = text.partition(" ")
    if keyword.upper() not in _TAKES_HEREDOC or rest.lstrip().startswith("["):
        return None
    match = _HEREDOC.search(rest)
    return None if match is None else match["word"]


def _after_heredoc(physical: list[str], position: int, word: str) -> int:
    """Return the index behind the heredoc's last line, so that its body is not taken for instructions."""
    for index in range(position, len(physical)):
        if physical[index].strip() == word:
            return index + 1
    return len(physical)
