"""Patterns with stars and question marks."""

import fnmatch

from hypothesis import given
from hypothesis import strategies as st

from millrace.services.s3.wildcards import matches

LETTERS = st.text("ab/")


@given(pattern=st.text("ab/*?", max_size=12), text=st.text("ab/", max_size=20))
def test_stars_and_question_marks_are_those_of_the_shell(pattern: str, text: str) -> None:
    """A slash is a character like others, unlike in a shell's paths."""
    assert matches(pattern, text) == fnmatch.fnmatchcase(text, pattern)


@given(pieces=st.lists(LETTERS, min_size=1, max_size=6), fillings=st.lists(LETTERS, min_size=5, max_size=5))
def test_a_star_stands_for_anything(pieces: list[str], fillings: list[str]) -> None:
    """What is made by filling a pattern's stars matches it."""
    text = pieces[0] + "".join(filling + piece for filling, piece in zip(fillings, pieces[1:], strict=False))
    assert matches("*".join(pieces), text)


def test_a_pattern_made_to_be_slow_is_not() -> None:
    """The time grows with the lengths, not with their power: this would take a regular expression for ever."""
    assert not matches("*a" * 200 + "b", "a" * 1024)
    assert not matches("*?a" * 200 + "b", "a" * 1024)
