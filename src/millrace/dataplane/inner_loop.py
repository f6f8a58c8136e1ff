"""Take a plain answer and send what comes next: the few steps that every request of a large job takes.

The general way is `take_answer`, then `pump`. What is here does the same where nothing stands in the
way, with fewer calls and questions: an answer that is written as it came, or as the job's filters and join rewrite it,
of an object that has not failed, whose connection stays open, and after it a payload that the former has ready. Such a
request takes the other's place. A record or an answer that filters or join refuse is left as it was to the general way.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

from millrace.dataplane.answer_text import AnswerBody, size_of
from millrace.dataplane.arriving import ArrivingAnswers
from millrace.dataplane.connection import Connection
from millrace.dataplane.lane import Lane
from millrace.dataplane.limits import Budget
from millrace.dataplane.payload import SHORT_BODY_BYTES, Payload
from millrace.dataplane.processing import RecordError
from millrace.dataplane.progress import Counters
from millrace.dataplane.rules import Rules

__all__ = ["inner_loop"]


def inner_loop(
    rules: Rules,
    *,
    take_answer: Callable[[Connection, Lane, Payload, AnswerBody, float], None],
    pump: Callable[[float], None],
    crash: Callable[[BaseException], None],
    budget: Budget,
    counters: Counters,
    monotonic: Callable[[], float],
    forming: deque[Lane],
    again: deque[Any],
    idle: list[Connection],
    arriving: ArrivingAnswers,
) -> Callable[[Connection], None]:
    """Return what a run's connections call with each answer.

    Names of a closure are looked up faster than attributes, and this asks for many.

    Args:
        rules: Whether answers, and what is sent, may be plain at all.
        take_answer: Takes one that is not plain.
        pump: Sends what may be sent.
        crash: Ends the run, for a callback has failed.
        budget: Room, and results that are not written.
        counters: Counted in.
        monotonic: The run's clock.
        forming: Lanes with payloads to form; the first one's turn it is.
        again: Parts of payloads that are sent before any other.
        idle: Where a connection goes that has nothing to send.
        arriving: Answers that are not complete.
    """
    tuned, processing = rules.autotune is not None, rules.processing
    plain_answer_bytes = -1 if tuned or rules.counts_rows is not None else rules.limits.answer_bytes
    complete = processing.complete if processing is not None and rules.rewrites else None
    prepare = processing.prepare if processing is not None else None
    sends_ready = not (rules.chunked or tuned)
    if processing is not None and (rules.isolates or rules.formats.header() is not None):
        sends_ready = False  # more is done to payloads of such jobs
    lets_go = rules.filters_input
    write_bytes, answers_held, head = rules.limits.write_bytes, rules.limits.answers_held, rules.head
    measured = counters.latency.recent.append

    def rewritten(lane: Lane, payload: Payload, answer: bytes) -> AnswerBody | None:
        try:
            return None if complete is None or lane.widening is not None else complete(payload, answer)
        except RecordError:
            return None

    def is_prepared(payload: Payload) -> bool:
        try:
            return prepare is None or prepare(payload)
        except RecordError:
            return False

    def on_answer(connection: Connection) -> None:
        try:
            lane, payload = connection.lane, connection.payload
            answer: AnswerBody | None = connection.body
            now = monotonic()
            measured(now - connection.started)
            if (
                connection.status != 200
                or type(answer) is not bytes
                or (size := len(answer)) > plain_answer_bytes
                or not connection.keep_alive
                or connection.received
                or lane.failure is not None
                or payload.isolation is not None
                or (complete is not None and (answer := rewritten(lane, payload, answer)) is None)
            ):
                take_answer(connection, lane, payload, connection.body, now)
                pump(now)
            else:
                if complete is not None:
                    size = len(answer) if type(answer) is bytes else size_of(answer)
                budget.held += size
                lane.finish(payload, answer, payload.size + size)
                if lane.room >= write_bytes or lane.exhausted or budget.awaited or arriving.paused:
                    lane.wake.set()
                if (
                    sends_ready
                    and forming
                    and len(ready := (lane := forming[0]).former.ready) > 1  # `pump` tells the feeder of the last
                    and not again
                    and budget.held <= budget.limit
                    and budget.results < answers_held
                    and (prepare is None or is_prepared(ready[-1]))
                ):
                    payload = ready.pop()
                    payload.index = lane.next_index
                    lane.next_index += 1
                    budget.results += 1
                    counters.requests += 1
                    connection.lane = lane
                    connection.payload = payload
                    connection.started = now
                    connection.send(head, payload.body, payload.sent_size)
                    if lets_go and payload.sent_size > SHORT_BODY_BYTES:
                        payload.let_go()
                else:
                    connection.lane = connection.payload = None
                    counters.in_flight -= 1
                    idle.append(connection)
                    pump(now)
            if arriving.paused:
                arriving.read_on()  # the earliest request is another one now
        except Exception as exc:  # noqa: BLE001 - a callback of the event loop: the run must end, not only log
            crash(exc)

    return on_answer
