"""Have the collector of garbage look seldom, and at nothing that stays, while objects come and go by the thousand.

It begins a round whenever 700 more objects were made than freed, which in a job is not garbage but what is in work; and
now and then it looks at everything there is, such as the listing of the input. That was 35 of 160 us of processor time
for each of many small objects. What a run leaves behind is freed without the collector, but for a few objects of each
connection and each failure.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["rare_collections"]

OBJECTS = 50_000
"""More objects than this, made and not freed, begin a round: about 10 MB, if all of them were garbage."""


@contextmanager
def rare_collections() -> Iterator[None]:
    """Collect garbage seldom in this block, and none of what was there before it."""
    first, second, third = gc.get_threshold()
    gc.freeze()
    if first:  # else nobody wants it at all
        gc.set_threshold(max(first, OBJECTS), second, third)
    try:
        yield
    finally:
        gc.set_threshold(first, second, third)
        gc.unfreeze()
