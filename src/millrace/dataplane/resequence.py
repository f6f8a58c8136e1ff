"""Give results back in input order, whatever order they finish in."""

from typing import Generic, TypeVar

__all__ = ["Resequencer"]

Result = TypeVar("Result")


class Resequencer(Generic[Result]):
    """Holds results until every earlier one is there; the caller frees a slot only for what is returned."""

    __slots__ = ("_finished", "next_index")

    def __init__(self) -> None:
        self.next_index = 0
        self._finished: dict[int, Result] = {}

    def finish(self, index: int, result: Result) -> list[Result]:
        """Record one result and return every result that may now be written."""
        if index != self.next_index:
            self._finished[index] = result
            return []
        ready = [result]
        index += 1
        finished = self._finished
        while finished and index in finished:
            ready.append(finished.pop(index))
            index += 1
        self.next_index = index
        return ready

    def drop(self) -> list[Result]:
        """Forget the results that are held, and return them in no order."""
        held = list(self._finished.values())
        self._finished.clear()
        return held

    def __len__(self) -> int:
        """How many results are held."""
        return len(self._finished)
