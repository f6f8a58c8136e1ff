"""Match text against patterns with `*` and `?`, as policies write them."""

import re
from functools import lru_cache

__all__ = ["matches"]


def matches(pattern: str, text: str) -> bool:
    """Tell whether a pattern covers the whole text: `*` stands for any characters, `?` for one."""
    return _compiled(pattern).fullmatch(text) is not None


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    # Runs of stars are one star: each costs a retry of the rest.
    parts = re.split(r"(\*+|\?)", pattern)
    return re.compile("".join(_part(part) for part in parts), re.DOTALL)


def _part(part: str) -> str:
    if part.startswith("*"):
        return ".*"
    return "." if part == "?" else re.escape(part)
