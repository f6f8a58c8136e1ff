"""Bound what is held of answers between the containers of a chain, over all requests at once. Pure.

Whoever has held something for longest is always read on. It waits for nobody, so the others' turn comes; and one answer
is always let through, however big.
"""

from typing import Protocol

__all__ = ["Holder", "Room"]


class Holder(Protocol):
    """A request whose answers are held."""

    def go_on(self) -> None:
        """Read on: there is room again."""
        ...


class Room:
    """Counts bytes of answers that came in several pieces; those that came at once cost no more than a connection."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self._holders: dict[Holder, int] = {}
        self._waiting: dict[Holder, None] = {}

    def take(self, holder: Holder, size: int) -> bool:
        """Count bytes as held; return whether the holder may read on. If not, it is told when it may."""
        self._holders[holder] = self._holders.get(holder, 0) + size
        self.held += size
        if self.held <= self.limit or next(iter(self._holders)) is holder:
            return True
        self._waiting[holder] = None
        return False

    def give_back(self, holder: Holder, size: int) -> None:
        """Count some of a holder's bytes as passed on."""
        if size:
            self._holders[holder] -= size
            self.held -= size
            self._wake()

    def leave(self, holder: Holder) -> None:
        """Count all of a holder's bytes as passed on or dropped."""
        size = self._holders.pop(holder, None)
        if size is None:
            return
        self._waiting.pop(holder, None)
        self.held -= size
        self._wake()

    def _wake(self) -> None:
        first = next(iter(self._holders), None)
        for holder in list(self._waiting):
            if self.held <= self.limit or holder is first:
                del self._waiting[holder]
                holder.go_on()
