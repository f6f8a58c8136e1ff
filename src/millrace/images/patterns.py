"""Which files a pattern means: those of COPY and ADD, and those of .dockerignore."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from millrace.images.view import View, clean_path

__all__ = ["BadPattern", "IgnoreRules", "expand_pattern", "has_wildcard"]


class BadPattern(ValueError):
    """A pattern that does not parse."""


def has_wildcard(text: str) -> bool:
    """Whether a source of COPY names more than itself."""
    return any(character in text for character in "*?[")


def expand_pattern(view: View, pattern: str) -> list[str]:
    """Return the paths that a pattern (relative to the root) matches, sorted; links on the way are followed.

    Source:
        Go's filepath.Match, which the Dockerfile reference names: `*` and `?` don't match a slash, but match a dot.
    """
    found = [""]
    for part in pattern.split("/"):
        following = []
        expression = re.compile(_translate(part)) if has_wildcard(part) else None
        for folder in found:
            resolved = view.resolve(folder)
            if expression is None:
                path = f"{folder}/{part}" if folder else part
                if view.lstat(f"{resolved}/{part}" if resolved else part) is not None:
                    following.append(path)
            elif view.is_folder(resolved):
                names = [name for name in view.list(resolved) if expression.fullmatch(name)]
                following += [f"{folder}/{name}" if folder else name for name in names]
        found = following
    return sorted(found)


def _translate(part: str) -> str:
    """Return the regular expression of one part of a path."""
    result = ""
    at = 0
    while at < len(part):
        character = part[at]
        at += 1
        if character == "*":
            result += "[^/]*"
        elif character == "?":
            result += "[^/]"
        elif character == "\\" and at < len(part):
            result += re.escape(part[at])
            at += 1
        elif character == "[":
            end = part.find("]", at + (part[at : at + 2] == "^]") + 1)
            if end < 0:
                raise BadPattern(f"[ without ] in {part!r}")
            inside = part[at:end]
            negated = inside.startswith(("^", "!"))
            members = re.sub(r"([\\\]\[^&~|])", r"\\\1", inside[1:] if negated else inside)
            result += f"[{'^' if negated else ''}{members}]"
            at = end + 1
        else:
            result += re.escape(character)
    try:
        re.compile(result)
    except re.error as exc:
        raise BadPattern(f"{part!r}: {exc}") from exc
    return result


@dataclass(frozen=True, slots=True)
class _Rule:
    expression: re.Pattern[str]
    excludes: bool


class IgnoreRules:
    """The rules of a .dockerignore file; the last one that matches a path, or a folder above it, decides."""

    def __init__(self, text: str = "") -> None:
        """Read the file's text. Raises BadPattern."""
        lines = text.removeprefix("\ufeff").splitlines()
        self._rules = [rule for line in lines if (rule := _rule(line)) is not None]

    def ignores(self, path: str) -> bool:
        """Whether a path of the build context is left out."""
        ignored = False
        candidates = _with_parents(path)
        for rule in self._rules:
            if rule.excludes != ignored and any(rule.expression.fullmatch(it) for it in candidates):
                ignored = rule.excludes
        return ignored

    @property
    def has_exceptions(self) -> bool:
        """Whether something in a folder that is left out may be taken in again, by a rule with `!`."""
        return any(not rule.excludes for rule in self._rules)

    def __bool__(self) -> bool:
        return bool(self._rules)


def _rule(line: str) -> _Rule | None:
    text = line.strip()
    if not text or text.startswith("#"):
        return None
    excludes = not text.startswith("!")
    pattern = text.removeprefix("!").strip()
    parts = clean_path(f"/{pattern}").split("/")
    if parts == [""]:
        return None
    expression = ""
    for number, part in enumerate(parts):
        is_last = number + 1 == len(parts)
        if part == "**":
            expression += ".*" if is_last else "(?:.*/)?"
        else:
            expression += _translate(part) + ("" if is_last else "/")
    return _Rule(re.compile(expression, re.DOTALL), excludes)


def _with_parents(path: str) -> Sequence[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
