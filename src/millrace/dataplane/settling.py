"""Settle what becomes of each payload that was sent: its answer is a result, it is sent again, or its object fails.

A request keeps its slot while it backs off. The first failing payload (by position, not by time) decides what is told
of an object: a failure is final once no earlier payload of that object is under way. Earlier ones are sent again as
often as if nothing had failed, later ones no more.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

from millrace.clock import Clock
from millrace.dataplane.answer_text import AnswerBody, size_of
from millrace.dataplane.bad_records import BadRecord
from millrace.dataplane.chain_failures import FAILURE_HEADER, failure_in_place
from millrace.dataplane.connection import Connection
from millrace.dataplane.failures import failure_lines, select_failures
from millrace.dataplane.isolating import Isolator
from millrace.dataplane.lane import Lane
from millrace.dataplane.limits import Budget
from millrace.dataplane.losses import Loss, Losses
from millrace.dataplane.object_failures import Told, attempt_told, over_told, record_told, unusable_told
from millrace.dataplane.payload import Payload, UnusableRecord
from millrace.dataplane.processing import RecordError
from millrace.dataplane.progress import Counters
from millrace.dataplane.requests import Requests
from millrace.dataplane.retry import (
    AttemptFailure,
    failure_of_large_answer,
    failure_of_status,
    retry_after_seconds,
    too_large_for_server,
)
from millrace.dataplane.rules import Rules
from millrace.dataplane.standing import Standing
from millrace.dataplane.streamed import FailedAttempt
from millrace.dataplane.tuning import TOO_LARGE, Tuning
from millrace.jobs.transform import ObjectFailure

__all__ = ["Settling", "SettlingOwner"]


class SettlingOwner(Protocol):
    """The run whose payloads are settled."""

    def give_back_results(self, count: int, room: int) -> None:
        """Take note of results that nobody waits for any more, and of the room that they held."""
        ...

    def room_may_be_there(self) -> None:
        """Have those look who wait for room."""
        ...

    def begin_no_more(self) -> None:
        """Begin no further object."""
        ...


class Settling:
    """Takes answers and failed attempts; `failures` tells the first failed objects, `failure_count` how many there are.

    `forming` are the lanes with payloads to form; `log` takes a line of the data log.
    """

    def __init__(
        self,
        rules: Rules,
        owner: SettlingOwner,
        *,
        forming: deque[Lane],
        requests: Requests,
        tuning: Tuning | None,
        budget: Budget,
        counters: Counters,
        clock: Clock,
        log: Callable[[str], None],
    ) -> None:
        self._rules = rules
        self._owner = owner
        self._forming = forming
        self._requests = requests
        self._tuning = tuning
        self._budget = budget
        self._counters = counters
        self._clock = clock
        self._monotonic = clock.monotonic
        self._log = log
        self.failures: list[ObjectFailure] = []
        self.failure_count = 0
        self.isolator = Isolator(rules, log=log, on_too_many=self.stop_over)
        self._losses = Losses(rules, self, requests=requests, isolator=self.isolator, counters=counters)

    def take_answer(self, connection: Connection, lane: Lane, payload: Payload, answer: AnswerBody, now: float) -> None:
        """Take any answer: of a good one the rows are rewritten, if they are to be, others fail the attempt."""
        rules = self._rules
        connection.lane = connection.payload = None
        if connection.received:
            self._budget.give_back(self._requests.arriving.forget(connection))  # it is counted again, if it is kept
        if connection.keep_alive:
            self._requests.idle.append(connection)
        else:
            self._requests.drop(connection)
        if self._tuning is not None and connection.status == 200:
            self._tuning.answered(now, connection.started, payload, size_of(answer))
        failure = failure_of_status(connection.status)
        if failure is not None:
            payload.sent_at = connection.started
            seconds, why = rules.spec.invocation_timeout_seconds, connection.header(FAILURE_HEADER)
            failure = failure_in_place(failure, why, timeout_seconds=seconds)
            retry_after = retry_after_seconds(connection.header(b"retry-after"), self._clock.now())
            self.attempt_failed(lane, payload, failure, answer=self._joined(answer), retry_after=retry_after)
            return
        if (size := size_of(answer)) > self._rules.limits.answer_bytes:
            self.attempt_failed(lane, payload, failure_of_large_answer(self._rules.limits.answer_bytes, size))
            return
        if not lane.may_fail_at(payload.index):
            self.drop_payload(lane, payload)
            return
        if rules.rewrites or rules.counts_rows is not None:
            try:
                answer = self._rewritten(lane, payload, answer)
            except RecordError as exc:
                self._refuse_answer(lane, payload, exc)
                return
        if payload.isolation is None:
            self._finish(lane, payload, answer, size_of(answer))
        elif lane.failure is None:
            whole = self._joined(answer)
            self._counters.in_flight -= 1
            self._budget.held += len(whole)
            self.isolator.answered(lane, payload, whole)
        else:
            self.drop_payload(lane, payload)
        if lane.failure is not None:
            self.settle(lane)

    def _rewritten(self, lane: Lane, payload: Payload, answer: AnswerBody) -> AnswerBody:
        """Return what is written for an answer; raises RecordError."""
        rules = self._rules
        if rules.counts_rows is not None:
            answer = self._joined(answer)
            rules.counts_rows(payload, answer)
            return answer
        assert rules.processing is not None, "it rewrites answers"
        try:
            rewritten = rules.processing.complete(payload, answer)
            if lane.widening is not None:
                lane.widening.learn(answer)
            return rewritten
        finally:
            if isinstance(answer, memoryview):
                self._requests.pool.give_back(answer)

    def _refuse_answer(self, lane: Lane, payload: Payload, error: RecordError) -> None:
        """Take an answer that does not go with its records."""
        if not self.wants_failure(lane, payload):
            self.drop_payload(lane, payload)
            self.settle(lane)
            return
        if self._rules.isolates:
            self._counters.in_flight -= 1
            self.isolator.take(lane, payload, "ClientError", str(error))
            return
        self.drop_payload(lane, payload)
        self.fail_record(lane, payload.index, payload, error)

    def wants_failure(self, lane: Lane, payload: Payload) -> bool:
        """Return whether the failure of a payload tells anything: bad records say nothing of an object that failed."""
        return lane.failure is None or (not self._rules.isolates and lane.may_fail_at(payload.index))

    def _finish(self, lane: Lane, payload: Payload, answer: AnswerBody, size: int) -> None:
        """Put a result where it is written from, in its turn."""
        self._counters.in_flight -= 1
        self._budget.held += size
        lane.finish(payload, answer, payload.size + size)
        if (
            lane.room >= self._rules.limits.write_bytes
            or self._budget.awaited
            or self._requests.arriving.paused
            or (lane.exhausted and lane.complete)
        ):
            lane.wake.set()

    def _joined(self, answer: AnswerBody) -> bytes:
        """Return an answer as bytes; a buffer of the pool goes back there."""
        if isinstance(answer, bytes):
            return answer
        if isinstance(answer, list):
            return b"".join(answer)
        body = bytes(answer)
        self._requests.pool.give_back(answer)
        return body

    def give_up_streamed(self, lane: Lane, payload: Payload, failed: FailedAttempt) -> None:
        """Fail an object that was streamed, as if it had been one payload."""
        self._counters.in_flight += 1
        self._budget.results += 1
        self.attempt_failed(lane, payload, failed.failure, answer=failed.answer, detail=failed.detail)

    def attempt_failed(
        self,
        lane: Lane,
        payload: Payload,
        failure: AttemptFailure,
        *,
        answer: bytes | None = None,
        detail: str = "",
        retry_after: float | None = None,
    ) -> None:
        payload.failed_attempts += 1
        if not self.wants_failure(lane, payload):
            self.drop_payload(lane, payload)
            self.settle(lane)
            return
        provoked = False
        if self._tuning is not None and not failure.is_stale:
            if provoked := self._tuning.failed(self._monotonic(), payload, failure):
                payload.failed_attempts -= 1
            if failure.status == TOO_LARGE and self.isolator.split(lane, payload):
                self._counters.in_flight -= 1
                return
        if failure.status == TOO_LARGE and payload.sent_size:  # of a streamed object nobody counts
            detail = too_large_for_server(payload.sent_size, self._rules.effective.max_payload_bytes)
        text = None if answer is None else answer.decode("utf-8", "replace")[: self._rules.limits.answer_snippet_chars]
        message = f"{failure.message}: {detail}" if detail else failure.message
        if self._rules.isolates and failure.may_be_down:
            loss = Loss(failure=failure, message=message, text=text, provoked=provoked)
            self._requests.ask_first(lane, payload, partial(self._judge, lane, payload, loss))
        elif self.may_try_again(payload, failure):
            self._requests.send_later(lane, payload, retry_after, provoked=provoked)
        else:
            self.give_up(lane, payload, failure, message, text)

    def may_try_again(self, payload: Payload, failure: AttemptFailure) -> bool:
        """Return whether another attempt is allowed."""
        return failure.may_retry and payload.failed_attempts <= self._rules.spec.invocation_max_retries

    def _judge(self, lane: Lane, payload: Payload, loss: Loss, standing: Standing) -> None:
        """Take a payload without an answer, now that it is known how the container was found."""
        if self.wants_failure(lane, payload):
            self._losses.judge(lane, payload, loss, standing)
        else:
            self.drop_payload(lane, payload)
            self.settle(lane)

    def give_up(self, lane: Lane, payload: Payload, failure: AttemptFailure, message: str, text: str | None) -> None:
        """Take a payload whose attempts are used up."""
        if self._rules.isolates:
            self._counters.in_flight -= 1
            self.isolator.take(lane, payload, failure.label, message, status=failure.status, answer=text)
            return
        self.drop_payload(lane, payload)
        self.fail(lane, payload.index, attempt_told(lane, payload, failure, message, text))

    def drop_payload(self, lane: Lane, payload: Payload) -> None:
        """Forget a payload that was sent and whose result nobody wants."""
        lane.lose(payload)
        self._counters.in_flight -= 1
        self._forget_result(payload)

    def drop_all(self, sent: Sequence[tuple[Lane, Payload]]) -> None:
        """Forget the payloads that were under way, and all that were to be sent again: the run is over."""
        for lane, payload in sent:
            self.drop_payload(lane, payload)
        while self.isolator.again:
            lane, part = self.isolator.again.popleft()
            lane.lose(part)
            self._forget_result(part)

    def _forget_result(self, payload: Payload) -> None:
        isolation = payload.isolation
        if isolation is None:
            self._owner.give_back_results(1, payload.size)
        elif isolation.skip():
            self._owner.give_back_results(1, isolation.payload.size + isolation.room)

    def fail_unusable(self, lane: Lane, error: UnusableRecord) -> None:
        limit = self._rules.effective.max_payload_bytes
        self.fail(lane, lane.next_index, unusable_told(lane, error, limit=limit))

    def fail_record(self, lane: Lane, index: int, payload: Payload, error: RecordError) -> None:
        told = record_told(
            lane,
            payload,
            error,
            answer_chars=self._rules.limits.answer_snippet_chars,
            quoted_newlines=self._rules.formats.keeps_quoted_newlines,
        )
        self.fail(lane, index, told)

    def stop_over(self, lane: Lane, payload: Payload, bad: BadRecord) -> None:
        """Fail an object, and begin no other: more records are bad than are allowed."""
        self._owner.begin_no_more()
        allowed = self._rules.options.failures_allowed
        self.fail(lane, payload.index, over_told(lane, bad, allowed="" if allowed is None else allowed.text))

    def fail(self, lane: Lane, index: int, told: Told) -> None:
        """Record why a lane fails, unless an earlier payload failed already, and stop its requests."""
        if lane.settled:
            return
        first = lane.failure is None
        if lane.may_fail_at(index):
            lane.failure, lane.failure_index, lane.failure_log = told.failure, index, told.log_text
            for payload in self._requests.drop_aside(lane):
                self.drop_payload(lane, payload)
            self._owner.give_back_results(*lane.drop_behind(index))
        if first:
            if lane in self._forming:
                self._forming.remove(lane)
            self._owner.room_may_be_there()
        self.settle(lane)

    def settle(self, lane: Lane) -> None:
        """Make a failure final once no earlier payload of its lane is under way."""
        if lane.settled or lane.failure is None or self._requests.may_show_failure(lane):
            return
        if any(waiting is lane and self.wants_failure(lane, part) for waiting, part in self.isolator.again):
            return
        lane.settled = lane.closing = True
        failure = lane.failure
        for line in failure_lines(lane.input.ref, lane.failure_log, failure.answer):
            self._log(line)
        if failure.record is not None:
            self._log(
                f"{lane.input.ref.bucket}/{lane.input.ref.key}: first record of the failing payload: "
                f"{failure.record}, at byte {failure.offset}"
            )
        self.failures.append(failure if lane.input.range is None else replace(failure, is_range=True))
        self.failure_count += 1
        self._counters.objects_failed += 1
        if len(self.failures) > 4 * self._rules.limits.failures_kept + 16:
            self.failures = list(select_failures(self.failures, self._rules.limits.failures_kept))
        lane.wake.set()
