"""What .dockerignore leaves out, and what sources with wildcards mean."""

from pathlib import Path

import pytest

from millrace.images.patterns import BadPattern, IgnoreRules, expand_pattern
from millrace.images.view import View


@pytest.mark.parametrize(
    ("rules", "path", "ignored"),
    [
        ("*.pyc", "a.pyc", True),
        ("*.pyc", "d/a.pyc", False),
        ("**/*.pyc", "d/e/a.pyc", True),
        ("**/*.pyc", "a.pyc", True),
        ("/data", "data/x", True),
        ("data/", "data/x/y", True),
        ("./data/../log", "log", True),
        ("data/**", "data", False),
        ("data/**", "data/a/b", True),
        ("*\n!keep", "keep", False),
        ("*\n!keep/this", "keep/this/x", False),
        ("!a\na", "a", True),
        ("# a\n\n  b  ", "a", False),
        ("# a\n\n  b  ", "b", True),
        ("\\#a", "#a", True),
        ("[ab]?", "ax", True),
        ("[^ab]?", "ax", False),
        ("**", "a/b", True),
        ("a", "a\nb", False),
        ("\ufeffa", "a", True),
    ],
)
def test_rules_decide_as_dockers(rules: str, path: str, ignored: bool) -> None:
    """The last rule that matches, also by a folder above."""
    assert IgnoreRules(rules).ignores(path) is ignored


def test_a_bad_rule_is_told() -> None:
    """By its text."""
    with pytest.raises(BadPattern, match=r"\[ without \]"):
        IgnoreRules("a[b")


def test_wildcards_do_not_cross_slashes_and_see_dots(tmp_path: Path) -> None:
    """As in Go's filepath.Match."""
    for name in (".a.txt", "b.txt", "c.csv", "d/e.txt", "f[0].txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    view = View([tmp_path])
    assert expand_pattern(view, "*.txt") == [".a.txt", "b.txt", "f[0].txt"]
    assert expand_pattern(view, "*/*.txt") == ["d/e.txt"]
    assert expand_pattern(view, "f[[]0].txt") == ["f[0].txt"]
    assert expand_pattern(view, "?.csv") == ["c.csv"]
