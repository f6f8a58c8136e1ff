"""Tests of how text of strangers is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.told import printable, shortened


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("plain \u00e9\n\ttext", "plain \u00e9\n\ttext"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\0b\x7f\x9bc\r", "a\\x00b\\x7f\\x9bc\\x0d"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
    ],
)
def test_controls_are_escaped(text: str, told: str) -> None:
    """A terminal is shown the codes that it would otherwise obey; tabs and line feeds stay."""
    assert printable(text) == told


@given(st.text(), st.integers(5, 50))
def test_a_shortened_name_keeps_both_ends(name: str, most: int) -> None:
    """Whatever its length, a name is told in at most so many characters, from its beginning to its end."""
    told = shortened(name, most)
    assert len(told) <= most
    assert told == name if len(name) <= most else (told[0], told[-1]) == (name[0], name[-1])


@given(st.text())
def test_escaping_twice_is_escaping_once(text: str) -> None:
    """What was escaped holds nothing that is escaped."""
    assert printable(printable(text)) == printable(text)
