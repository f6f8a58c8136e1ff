"""Keep the bad records of a job out of its outputs: have parts of failing payloads sent until those are found."""

from collections import deque
from collections.abc import Callable

from millrace.dataplane.answer_text import AnswerBody
from millrace.dataplane.assemble import joined_parts
from millrace.dataplane.bad_records import BadRecord, Isolation, halves
from millrace.dataplane.lane import NOTHING, Lane
from millrace.dataplane.payload import Payload
from millrace.dataplane.processing import RecordError
from millrace.dataplane.rules import Rules
from millrace.dataplane.widening import PlaceholderRow

__all__ = ["Isolator"]

SUSPECT_HALVINGS = 4
"""A payload that a container ends with is cut into sixteenths: of 1,000 records one is found in 3 ends, not in 10."""


class Isolator:
    """Cuts payloads that fail, and puts together what became of their parts; see `bad_records` for the theory.

    `again` takes the parts that are to be sent. `log` takes a line of the data log for each of the first bad records,
    `on_too_many` the record with which there are more than the job's owner allows.
    """

    def __init__(
        self,
        rules: Rules,
        *,
        log: Callable[[str], None],
        on_too_many: Callable[[Lane, Payload, BadRecord], None],
    ) -> None:
        self._rules = rules
        self._log = log
        self._on_too_many = on_too_many
        self._found = 0
        self.again: deque[tuple[Lane, Payload]] = deque()
        """Parts to be sent before any new payload; their lanes hold the room of the whole."""

    def take(
        self,
        lane: Lane,
        payload: Payload,
        label: str,
        message: str,
        *,
        status: int | None = None,
        answer: str | None = None,
    ) -> None:
        """Cut a payload that fails in two, or take note that its one record is bad; it is on no connection."""
        if self.split(lane, payload):
            return
        isolation, original = _isolation_of(lane, payload), payload.raw or payload.joined()
        record, offset = lane.place(payload.record, payload.offset)
        bad = BadRecord(
            record=record,
            offset=offset,
            text=original,
            label=label,
            message=message,
            status=status,
            answer=answer,
            length=payload.length or payload.size,
        )
        lane.count_bad(bad)
        self._found += 1
        if self._found <= self._rules.limits.failures_kept:
            self._log(f"{lane.input.ref.bucket}/{lane.input.ref.key}: record {record} at byte {offset}: {message}")
        if isolation.fail(payload, bad, self._rules.placeholder(None if payload.length else original)):
            self._finish(lane, isolation)
        allowed = self._rules.options.failures_allowed
        if allowed is not None and allowed.count is not None and self._found > allowed.count:
            self._on_too_many(lane, payload, bad)

    def suspect(self, lane: Lane, payload: Payload) -> None:
        """Have a payload sent by itself, before which others are; it is on no connection.

        Its result goes the way of those of parts: so nothing else is sent before that is there.
        """
        _isolation_of(lane, payload)
        if payload.is_suspect:
            self.again.appendleft((lane, payload))
        else:
            payload.is_suspect = True
            self.again.append((lane, payload))

    def split(self, lane: Lane, payload: Payload) -> bool:
        """Have the halves of a payload sent in its place; False if it is one record.

        Those of a suspect are suspects, and go first: what is to blame is found before the next suspect is sent. It is
        cut smaller, too, for a container that ends costs more than many requests.
        """
        parts = [payload]
        for _ in range(SUSPECT_HALVINGS if payload.is_suspect else 1):
            parts = [half for part in parts for half in self._halves(part)]
        if len(parts) < 2:
            return False
        isolation = _isolation_of(lane, payload)
        isolation.cut(len(parts))
        for part in reversed(parts) if payload.is_suspect else parts:
            part.is_suspect = payload.is_suspect
            self._try_part(lane, part, isolation)
        return True

    def _halves(self, payload: Payload) -> list[Payload]:
        if payload.records < 2:
            return [payload]
        rules, original = self._rules, payload.raw or payload.joined()
        return halves(payload, original, rules.spec.split, quoted_newlines=rules.formats.keeps_quoted_newlines)

    def answered(self, lane: Lane, part: Payload, answer: bytes) -> None:
        """Take the answer of a part, whose room was taken."""
        assert part.isolation is not None, "it is a part"
        lane.finish_part(part)
        if part.isolation.succeed(part, answer):
            self._finish(lane, part.isolation)

    def _try_part(self, lane: Lane, part: Payload, isolation: Isolation) -> None:
        """Have a part sent, unless a filter leaves nothing of it or cannot take it."""
        part.isolation = isolation
        processing = self._rules.processing
        part.raw = part.joined()
        if processing is not None:
            try:
                if not processing.prepare(part):
                    lane.drop_records(part.index, part.records)
                    if isolation.skip():
                        self._finish(lane, isolation)
                    return
            except RecordError as exc:
                self.take(lane, part, "ClientError", str(exc))
                return
        if lane.header is not None:
            lane.header.prefix(part)
        if part.is_suspect:
            self.again.appendleft((lane, part))
        else:
            self.again.append((lane, part))

    def _finish(self, lane: Lane, isolation: Isolation) -> None:
        """Make what became of the parts of a payload its result."""
        payload, answers = isolation.payload, isolation.answers()
        lane.isolating.pop(payload.index, None)
        answer: AnswerBody
        if any(isinstance(it, PlaceholderRow) for it in answers):
            answer = answers  # whose rows may become wider
        else:
            answer = joined_parts(answers, self._rules.line_end) if answers else NOTHING
        lane.place_result(payload.index, answer, payload.size + isolation.room, isolation.bad_records())
        lane.wake.set()


def _isolation_of(lane: Lane, payload: Payload) -> Isolation:
    """Return what gathers the parts of a payload, made for the first of them."""
    if payload.isolation is None:
        payload.isolation = lane.isolating[payload.index] = Isolation(payload)
    return payload.isolation
