"""What is shown of a transform while a program waits for it."""

from collections.abc import Callable

import pytest

from millrace.commands.progress_view import ProgressView
from millrace.notebook.live import LINE_EVERY, live_view, notebook_display


def test_a_notebook_shows_it_in_one_place() -> None:
    """The first fragment is shown, others are put in its place."""
    pages = iter("abc")
    shown: list[str] = []
    updates: list[str] = []

    def display(page: str) -> Callable[[str], None]:
        shown.append(page)
        return updates.append

    with live_view(ProgressView, lambda: next(pages), display) as show:
        show()
        show()
    assert (shown, updates) == (["a"], ["b", "c"])


def test_without_a_terminal_there_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    """On stderr; a program may pipe its output."""
    with live_view(lambda: ProgressView(records=1234), str, None) as show:
        for _ in range(2 * LINE_EVERY):
            show()
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("1,234 records") == 2


def test_a_plain_program_is_no_notebook() -> None:
    """Nothing is imported to find that out."""
    assert notebook_display() is None
