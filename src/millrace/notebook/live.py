"""Show how something goes while a program waits for it: in place in a notebook or on a terminal, by lines elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from millrace.commands.progress_view import ProgressView, progress_line

__all__ = ["Display", "live_view", "notebook_display"]

Display = Callable[[str], Callable[[str], None]]
"""Shows a fragment of HTML, and returns what puts another one into its place."""

LINE_EVERY = 8
"""Of so many looks, one is a line where nothing can be shown in place."""


def notebook_display() -> Display | None:
    """Return what shows HTML in the notebook that runs this program; None where none does."""
    if "IPython" not in sys.modules:
        return None
    from IPython import get_ipython
    from IPython.display import HTML, display

    if getattr(get_ipython(), "kernel", None) is None:  # a shell on a terminal
        return None

    def show(page: str) -> Callable[[str], None]:
        shown = display(HTML(page), display_id=True)
        return lambda page: shown.update(HTML(page))

    return show


@contextmanager
def live_view(
    look: Callable[[], ProgressView], page: Callable[[], str], display: Display | None
) -> Iterator[Callable[[], None]]:
    """Yield what shows how it goes now, to be called again and again.

    Args:
        look: Returns the counters.
        page: Returns the same as HTML.
        display: Where that can be shown, None if there is no such place.
    """
    if display is not None:
        update = display(page())
        yield lambda: update(page())
        return
    if sys.stderr.isatty():
        from rich.console import Console  # it takes 50 ms: only where it is seen

        from millrace.commands.progress_table import LiveDisplay, transform_progress

        live = LiveDisplay(Console(stderr=True))
        if live.moves:
            with live:
                yield lambda: live.show(transform_progress(look()))
            return
    looks = 0

    def line() -> None:
        nonlocal looks
        looks += 1
        if looks % LINE_EVERY == 0:
            print(progress_line(look()), file=sys.stderr, flush=True)

    yield line
