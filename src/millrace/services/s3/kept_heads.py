"""Remember the headers that tell about an object, for as long as the store gives the same facts about it.

A store that finds an object unchanged gives the very ObjectInfo that it gave before, so that identity is enough.
"""

from collections.abc import Callable

from millrace.ports.objects import ObjectInfo
from millrace.protocol.message import Head, Result

__all__ = ["MAX_KEPT_HEADS", "KeptHeads"]

MAX_KEPT_HEADS = 8192
"""Objects whose headers are kept, about 1 kB each."""


class KeptHeads:
    """Heads of answers that differ in nothing but the object.

    Args:
        max_objects: Objects whose headers are kept; all are forgotten when there are more.
    """

    def __init__(self, max_objects: int = MAX_KEPT_HEADS) -> None:
        self._max_objects = max_objects
        self._kept: dict[int, tuple[ObjectInfo, Head]] = {}
        """By the id of the facts, which nothing else has while they are held."""

    def of(self, info: ObjectInfo, describe: Callable[[], Result]) -> Head:
        """Return the head of an answer about an object; `describe` returns its members, for the first one."""
        kept = self._kept.get(id(info))
        if kept is not None:
            return kept[1]
        if len(self._kept) >= self._max_objects:
            self._kept.clear()
        head = Head(describe())
        self._kept[id(info)] = info, head
        return head
