"""Take a plain answer and send what comes next: the few steps that every request of a large job takes.

The general way is `take_answer`, then `pump`. What is here does the same where nothing stands in the
way, with fewer calls and questions: an answer that is written as it came, of an object that has not failed, whose
connection stays open, and after it a payload that the former has ready. Such a request takes the other's place.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

from millrace.dataplane.arriving import ArrivingAnswers
from millrace.dataplane.connection import AnswerBody, Connection
from millrace.dataplane.lane import Lane
from millrace.dataplane.limits import Budget
from millrace.dataplane.payload import Payload
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
    tuned = rules.autotune is not None
    plain_answer_bytes = -1 if tuned else rules.plain_answer_bytes
    sends_ready = rules.processing is None and not rules.chunked and not tuned
    write_bytes, answers_held, head = rules.limits.write_bytes, rules.limits.answers_held, rules.head
    measured = counters.latency.recent.append

    def on_answer(connection: Connection) -> None:
        try:
            lane, payload, answer = connection.lane, connection.payload, connection.body
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
            ):
                take_answer(connection, lane, payload, answer, now)
                pump(now)
            else:
                budget.held += size
                lane.finish(payload, answer, payload.size + size)
                if lane.room >= write_bytes or lane.exhausted or budget.awaited or arriving.paused:
                    lane.wake.set()
                if (
                    sends_ready
                    and forming
                    and (ready := (lane := forming[0]).former.ready)
                    and not again
                    and budget.held <= budget.limit
                    and budget.results < answers_held
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
