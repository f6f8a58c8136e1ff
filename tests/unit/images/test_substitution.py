"""Variables, quotes and escapes."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.images.substitution import BadWord, expand, split_words

VALUES = {"a": "one", "empty": ""}


@pytest.mark.parametrize(
    ("word", "expanded"),
    [
        ("$a/b", "one/b"),
        ("${a}b", "oneb"),
        ("$none-x", "-x"),
        ("${none:-x$a}", "xone"),
        ("${empty:-x}", "x"),
        ("${empty-x}", ""),
        ("${a:+x}", "x"),
        ("${empty:+x}", ""),
        ("${empty+x}", "x"),
        ("\\$a", "$a"),
        ("'$a'", "$a"),
        ('"$a b"', "one b"),
        ('"a\\"b"', 'a"b'),
        ('"a\\nb"', "a\\nb"),
        ("a\\ b", "a b"),
        ("cost$", "cost$"),
        ("end\\", "end\\"),
    ],
)
def test_words_are_filled_in_as_docker_does(word: str, expanded: str) -> None:
    """The Dockerfile reference's forms."""
    assert expand(word, VALUES.get) == expanded


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("${a", "missing"),
        ("${}", "a name must follow"),
        ("${a##x}", "not supported"),
        ("${none:?is needed}", "none: is needed"),
        ("'open", "without end"),
        ("${a:-" * 5000, "nested too deep"),
    ],
)
def test_bad_words_are_told(word: str, why: str) -> None:
    """By what is wrong with them."""
    with pytest.raises(BadWord, match=why):
        expand(word, VALUES.get)


@given(st.text())
def test_any_word_is_filled_in_or_refused(word: str) -> None:
    """Nothing else comes of it."""
    with suppress(BadWord):
        expand(word, VALUES.get)


@given(st.lists(st.text(alphabet="ab =$", min_size=1).map(lambda text: f"'{text}'")))
def test_quoted_words_stay_whole(words: list[str]) -> None:
    """White space in quotes does not cut."""
    assert split_words("  ".join(words)) == words
