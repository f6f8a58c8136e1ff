"""Hold the state of one object on its way through the transform loop."""

import asyncio

from millrace.dataplane.batch import Payload, PayloadFormer
from millrace.dataplane.connection import AnswerBody
from millrace.dataplane.plan import InputObject
from millrace.jobs.transform import ObjectFailure

__all__ = ["Lane"]


class Lane:
    """One object: payloads not yet formed, results not yet written, and whether it failed.

    `wake` tells the writer to look: there is enough to write, the object is complete, or its failure is settled.
    """

    __slots__ = (
        "_held",
        "answers",
        "bytes_read",
        "ended",
        "exhausted",
        "failure",
        "failure_index",
        "failure_log",
        "former",
        "input",
        "next_index",
        "next_result",
        "order",
        "room",
        "settled",
        "starved",
        "wake",
        "writing",
    )

    def __init__(self, entry: InputObject, former: PayloadFormer, *, order: int) -> None:
        self.input = entry
        self.order = order
        """Lanes are numbered as they are opened, in key order."""
        self.former = former
        self.next_result = 0
        """Index of the first payload without a result."""
        self._held: dict[int, tuple[AnswerBody, int]] = {}
        """Results that an earlier payload keeps waiting, and the room that each holds."""
        self.answers: list[AnswerBody] = []
        """Answers that may be written, in input order."""
        self.room = 0
        """Bytes of room that are given back once `answers` are written."""
        self.bytes_read = 0
        """Stored bytes that were read of the object, those read again for a retry not counted."""
        self.next_index = 0
        """Index of the next payload."""
        self.starved = True
        """The former can give no payload before it is fed again."""
        self.ended = False
        """All chunks were fed."""
        self.exhausted = False
        """All payloads were formed."""
        self.wake = asyncio.Event()
        self.writing = False
        """Answers that were taken are being written."""
        self.failure: ObjectFailure | None = None
        self.failure_index = 0
        self.failure_log = ""
        self.settled = False
        """No request is under way any more that could show an earlier failure."""

    @property
    def complete(self) -> bool:
        """Whether every payload has its result."""
        return self.exhausted and self.next_result == self.next_index

    def may_fail_at(self, index: int) -> bool:
        """Return whether a failure of that payload would be the one to tell."""
        return self.failure is None or index < self.failure_index

    def finish(self, index: int, answer: AnswerBody, room: int) -> None:
        """Record the result of one payload; it may be written once every earlier one is there."""
        if index != self.next_result:
            self._held[index] = answer, room
            return
        self.answers.append(answer)
        self.room += room
        index += 1
        held = self._held
        while held and index in held:
            answer, room = held.pop(index)
            self.answers.append(answer)
            self.room += room
            index += 1
        self.next_result = index

    def take_answers(self) -> tuple[list[AnswerBody], int]:
        """Return what may be written and the room it holds, and forget it."""
        taken = self.answers, self.room
        self.answers, self.room = [], 0
        return taken

    def drop(self) -> tuple[int, int]:
        """Forget everything that is held; return the number of results and the bytes of room that frees."""
        results = len(self.answers) + len(self._held)
        room = self.room + sum(freed for _, freed in self._held.values()) + self.former.buffered
        self.answers, self.room = [], 0
        self._held.clear()
        self.former = _Nothing()
        return results, room


class _Nothing:
    """The former of an object that failed."""

    buffered = 0

    def __init__(self) -> None:
        self.ready: list[Payload] = []

    def feed(self, chunk: bytes) -> None:
        """Ignore the chunk."""

    def finish(self) -> None:
        """Ignore the end."""

    def take(self) -> None:
        """Give nothing."""

    def reached(self) -> tuple[int, int]:
        """Tell the beginning."""
        return 1, 0
