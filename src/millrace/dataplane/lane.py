"""Hold the state of one object on its way through the transform loop."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from millrace.dataplane.answer_lines import LineCount
from millrace.dataplane.answer_text import AnswerBody
from millrace.dataplane.bad_records import BadRecord, Isolation
from millrace.dataplane.counts import Counts
from millrace.dataplane.formats.header import HeaderLine
from millrace.dataplane.object_output import ObjectOutput
from millrace.dataplane.payload import NoPayloads, Payload, PayloadFormer
from millrace.dataplane.plan import InputObject
from millrace.dataplane.reading import ObjectReader
from millrace.dataplane.widening import Widening
from millrace.jobs.transform import ObjectFailure

__all__ = ["NOTHING", "Lane", "Results"]

NOTHING: list[bytes] = []
"""The result of a payload that has none: not even a line feed follows it."""


class Results(NamedTuple):
    """What may be written: answers in input order, how many results those are, their room, and the bad records."""

    answers: list[AnswerBody]
    room: int
    bad: list[BadRecord]


class Lane:
    """One object: payloads not yet formed, results not yet written, and whether it failed.

    `wake` tells the writer to look: there is enough to write, the object is complete, or nothing more comes.
    Records and bytes of payloads count from where this attempt began, which is `start` and `start_offset`.
    """

    __slots__ = (
        "_dropped",
        "_dropped_before",
        "_held",
        "_told",
        "_told_by_algorithm",
        "answers",
        "bad",
        "closing",
        "ended",
        "exhausted",
        "failed",
        "failed_by_algorithm",
        "failure",
        "failure_index",
        "failure_log",
        "filtered",
        "former",
        "gap",
        "in_no_part",
        "input",
        "isolating",
        "next_index",
        "next_result",
        "ok",
        "order",
        "output",
        "reader",
        "room",
        "settled",
        "start",
        "start_offset",
        "starved",
        "told_lines",
        "wake",
        "widening",
        "writing",
    )

    def __init__(
        self, entry: InputObject, former: PayloadFormer, reader: ObjectReader, output: ObjectOutput, *, order: int
    ) -> None:
        self.input = entry
        self.order = order
        """Lanes are numbered as they are opened, in key order."""
        self.former = former
        self.reader = reader
        self.output = output
        self.start = Counts()
        """What an earlier attempt did with the object's first records."""
        self.start_offset = 0
        """Bytes of the (decompressed) object that those are."""
        self.next_result = 0
        """Index of the first payload without a result."""
        self._held: dict[int, tuple[AnswerBody, int, Sequence[BadRecord]]] = {}
        """Results that an earlier payload keeps waiting, the room that each holds, and bad records."""
        self.answers: list[AnswerBody] = []
        """Answers that may be written, in input order."""
        self.room = 0
        """Bytes of room that are given back once `answers` are written."""
        self.bad: list[BadRecord] = []
        """Bad records that may be told, in input order."""
        self.isolating: dict[int, Isolation] = {}
        """Payloads whose bad records are being found, by index."""
        self.ok = self.failed = self.filtered = 0
        """Records with a result, bad ones, and those that are not sent, of this attempt."""
        self.failed_by_algorithm = 0
        """Of the bad ones, those that the container is at fault for."""
        self._told = self._told_by_algorithm = 0
        """Bad ones that were taken to be told, and of them those that the container is at fault for."""
        self._dropped: list[tuple[int, int]] = []
        """Records that are not sent: before the end of which payload how many stand."""
        self._dropped_before = 0
        """Those before the first payload without a result, when that was last asked for."""
        self.next_index = 0
        """Index of the next payload."""
        self.starved = True
        """The former can give no payload before it is fed again."""
        self.ended = False
        """All chunks were fed."""
        self.exhausted = False
        """All payloads were formed."""
        self.widening: Widening | None = None
        """Makes rows equally wide, where those of bad records may not be."""
        self.wake = asyncio.Event()
        self.writing = False
        """Answers that were taken are being written."""
        self.in_no_part = False
        """Some were written since a part was committed."""
        self.told_lines = LineCount()
        """Of what was written in this attempt, where lines are rows."""
        self.failure: ObjectFailure | None = None
        self.failure_index = 0
        self.failure_log = ""
        self.settled = False
        """No request is under way any more that could show an earlier failure."""
        self.closing = False
        """No result comes any more: what may be written is, and that is all there will be."""
        self.gap: tuple[int, int, int] | None = None
        """Of the payloads that were given up the first one: its index, and what stands before it."""

    @property
    def complete(self) -> bool:
        """Whether every payload has its result."""
        return self.exhausted and self.next_result == self.next_index

    def may_fail_at(self, index: int) -> bool:
        """Return whether a failure of that payload would be the one to tell."""
        return self.failure is None or index < self.failure_index

    def drop_records(self, index: int, records: int) -> None:
        """Take note of records that are not sent, before the end of the payload with that index."""
        self.filtered += records
        self._dropped.append((index, records))

    def finish(self, payload: Payload, answer: AnswerBody, room: int) -> None:
        """Record the result of one payload; it may be written once every earlier one is there."""
        dropped = payload.dropped
        self.ok += payload.records - dropped
        if dropped:
            self.drop_records(payload.index, dropped)
        index = payload.index
        if index == self.next_result and not self._held:
            self.answers.append(answer)
            self.room += room
            self.next_result = index + 1
        else:
            self.place_result(index, answer, room)

    def count_bad(self, bad: BadRecord) -> None:
        """Count a record that is found to be bad."""
        self.failed += 1
        self.failed_by_algorithm += bad.is_by_algorithm

    def finish_part(self, part: Payload) -> None:
        """Count the records of a part of a payload, which has an answer."""
        self.ok += part.records - part.dropped
        if part.dropped:
            self.drop_records(part.index, part.dropped)

    def place_result(self, index: int, answer: AnswerBody, room: int, bad: Sequence[BadRecord] = ()) -> None:
        """Put a result where it is written from in its turn."""
        if index != self.next_result:
            self._held[index] = answer, room, bad
            return
        self.answers.append(answer)
        self.room += room
        if bad:
            self.bad += bad
        index += 1
        held = self._held
        while held and index in held:
            answer, room, bad = held.pop(index)
            self.answers.append(answer)
            self.room += room
            self.bad += bad
            index += 1
        self.next_result = index

    def take_results(self) -> Results:
        """Return what may be written and forget it."""
        taken = Results(self.answers, self.room, self.bad)
        self._told += len(self.bad)
        self._told_by_algorithm += sum(bad.is_by_algorithm for bad in self.bad)
        self.answers, self.room, self.bad = [], 0, []
        return taken

    def counts_until(self, records: int) -> Counts:
        """Return what became of the first `records` of this attempt, all before the first payload without a result.

        The bad ones among them are those that were taken to be told, or may be now.
        """
        told = self._told + len(self.bad)
        later = []
        for index, count in self._dropped:
            if index < self.next_result:
                self._dropped_before += count
            else:
                later.append((index, count))
        self._dropped = later
        filtered, start = self._dropped_before, self.start
        return Counts(
            ok=start.ok + records - told - filtered,
            failed=start.failed + told,
            filtered=start.filtered + filtered,
            failed_by_algorithm=start.failed_by_algorithm
            + self._told_by_algorithm
            + sum(bad.is_by_algorithm for bad in self.bad),
        )

    @property
    def counts(self) -> Counts:
        """What became of all records so far, in whatever order."""
        start = self.start
        return Counts(
            ok=start.ok + self.ok,
            failed=start.failed + self.failed,
            filtered=start.filtered + self.filtered,
            failed_by_algorithm=start.failed_by_algorithm + self.failed_by_algorithm,
        )

    @property
    def header(self) -> HeaderLine | None:
        """The header of the object, if its job has headers."""
        return self.reader.header

    def taken(self) -> tuple[int, int]:
        """Return how many records, and bytes, of this attempt are in payloads."""
        return self.former.taken()

    def before(self, payload: Payload) -> tuple[int, int]:
        """Return how many records, and bytes, of this attempt stand before a payload."""
        return payload.record - 1, payload.offset

    def place(self, record: int, offset: int) -> tuple[int, int]:
        """Return the number and first byte in the object of a record that this attempt counts so.

        In a range of an object, records are numbered from the range's first.
        """
        record, offset = self.start.records + record, self.start_offset + offset
        if self.reader.begin:  # a range: how many records stand before it, nobody knows
            return record, self.reader.place(offset)
        return (record, offset) if self.header is None else self.header.place(record, offset)

    def lose(self, payload: Payload) -> None:
        """Take note that a payload will have no result, so that none behind it may be written."""
        whole = payload if payload.isolation is None else payload.isolation.payload
        if self.gap is None or whole.index < self.gap[0]:
            self.gap = whole.index, *self.before(whole)

    def drop_behind(self, index: int) -> tuple[int, int]:
        """Form no more payloads, and forget the results behind one; return how many, and the room that all that frees.

        What stands before it may still be written, and be gone on with by another attempt.
        """
        room = self.former.buffered
        self.former = NoPayloads(self.former.taken())
        behind = [at for at in self._held if at > index]
        room += sum(self._held.pop(at)[1] for at in behind)
        return len(behind), room

    def drop(self) -> tuple[int, int]:
        """Forget everything that is held; return the number of results and the bytes of room that frees."""
        results, room = self.drop_behind(-1)
        results, room = results + len(self.answers), room + self.room
        self.answers, self.room, self.bad = [], 0, []
        return results, room
