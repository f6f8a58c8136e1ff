"""Send the payloads of a transform run over keep-alive connections, and see to those that get no answer.

A payload is either on a connection, or *aside*: connecting, backing off, or in doubt. It keeps its slot meanwhile. One
sweep over all connections finds late requests, cheaper than a timer for each.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from millrace.clock import Clock
from millrace.dataplane.arriving import ArrivingAnswers
from millrace.dataplane.client import AnswerTooLarge, Connection, ConnectionFailed, open_connection
from millrace.dataplane.connection import no_listener
from millrace.dataplane.lane import Lane
from millrace.dataplane.limits import Budget
from millrace.dataplane.long_body import BufferPool
from millrace.dataplane.payload import Payload
from millrace.dataplane.progress import Counters
from millrace.dataplane.retry import (
    AttemptFailure,
    Trouble,
    failure_of_large_answer,
    failure_of_trouble,
    retry_delay,
)
from millrace.dataplane.rules import Rules
from millrace.dataplane.standing import Inquiry, Standing
from millrace.ports.runtime import Address

__all__ = ["Requests", "RequestsOwner"]

PROVOKED_SECONDS = 0.1
"""Back-off of a payload that was refused since too much was asked at a time: less is asked now, and later results wait
for it."""


UNTAKEN_SECONDS = 1.0
"""After this time without an answer it is looked whether the first request of a connection has come to the server."""


class RequestsOwner(Protocol):
    """The run that requests are sent for."""

    def on_failed_attempt(self, lane: Lane, payload: Payload, failure: AttemptFailure, detail: str) -> None:
        """Take an attempt that got no answer."""
        ...

    def pump(self) -> None:
        """Send what may be sent."""
        ...

    def send_again(self, lane: Lane, payload: Payload) -> None:
        """Send a payload whose back-off is over."""
        ...

    def crash(self, error: BaseException) -> None:
        """End the run: a callback has failed."""
        ...

    def spawn(self, actor: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a task of the run."""
        ...

    def flush(self) -> None:
        """Have everything written that may be."""
        ...

    def give_back(self, size: int) -> None:
        """Give room back."""
        ...


class Requests:
    """The connections of a run, and its payloads that are under way."""

    def __init__(
        self,
        rules: Rules,
        owner: RequestsOwner,
        *,
        address: Address,
        clock: Clock,
        budget: Budget,
        counters: Counters,
        may_write: Callable[[], bool],
        inquiry: Inquiry,
    ) -> None:
        self._rules = rules
        self._inquiry = inquiry
        self._owner = owner
        self._address = address
        self._clock = clock
        self._monotonic = clock.monotonic
        self._counters = counters
        self._may_write = may_write
        self._head = rules.head
        self._chunked = rules.chunked
        self._lets_go = rules.filters_input
        self._timeout = rules.spec.invocation_timeout_seconds
        self.on_answer: Callable[[Connection], None] = no_listener
        """Takes the answer of a connection, and puts that among the idle ones if it can be used again."""
        self.connections: set[Connection] = set()
        self.idle: list[Connection] = []
        self.aside: dict[asyncio.Task[None], tuple[Lane, Payload]] = {}
        """Payloads on no connection: their tasks connect, back off, or ask for the container. Whoever removes an entry
        answers for it."""
        self._connecting: dict[asyncio.Task[None], float] = {}
        """Those of the tasks that connect, and since when."""
        self.resting = 0
        """Payloads aside that hold no slot: they back off, or wait for a slot afterwards."""
        self.due: deque[asyncio.Future[None]] = deque()
        """Turns of payloads whose back-off is over, in that order."""
        self.pool = BufferPool(rules.limits.inflight_bytes)
        self.arriving = ArrivingAnswers(
            budget,
            answer_bytes=rules.limits.answer_bytes,
            monotonic=clock.monotonic,
            earliest=self._earliest,
            flush=owner.flush,
        )

    # -- sending

    def send(self, lane: Lane, payload: Payload, now: float) -> None:
        """Send a payload on an idle connection, or connect first."""
        self._counters.requests += 1
        if not self.idle:
            self._put_aside(lane, payload, self._connect_and_send(lane, payload))
            return
        connection = self.idle.pop()
        if self._chunked or self._lets_go:
            self._send_on(connection, lane, payload, now)
            return
        connection.lane = lane  # as `_send_on` does: this is the inner loop
        connection.payload = payload
        connection.started = now
        connection.send(self._head, payload.body, payload.sent_size)

    def send_now(self, lane: Lane, payload: Payload) -> None:
        """Send a payload again at once, on whatever connection there is."""
        self.send(lane, payload, self._monotonic())

    def send_afresh(self, lane: Lane, payload: Payload) -> None:
        """Send a payload on a connection of its own: the last one was closed while it was idle, before this request.

        So no attempt was made on the container.
        """
        self._put_aside(lane, payload, self._connect_and_send(lane, payload))

    def send_later(self, lane: Lane, payload: Payload, retry_after: float | None, *, provoked: bool = False) -> None:
        """Send a payload again whose attempt failed, after a while; a short one if it was `provoked` by a trial."""
        self._counters.retries += 1
        if provoked and retry_after is None:
            retry_after = PROVOKED_SECONDS
        delay = self.retry_delay(payload.failed_attempts, retry_after)
        self._put_aside(lane, payload, self._back_off(lane, payload, delay))

    def ask_first(self, lane: Lane, payload: Payload, judge: Callable[[Standing], None]) -> None:
        """Have it judged what a payload without an answer means, once it is known how the container is found."""
        self._put_aside(lane, payload, self._ask_and_judge(payload, judge))

    async def _ask_and_judge(self, payload: Payload, judge: Callable[[Standing], None]) -> None:
        standing = await self._inquiry.standing(since=payload.sent_at)
        if self.aside.pop(_current_task(), None) is not None:
            judge(standing)
            self._owner.pump()

    def how_ended(self, payload: Payload) -> str:
        """Return the exit status of a container that ended since a payload was sent; nothing if none did."""
        return self._inquiry.how_ended(since=payload.sent_at)

    @property
    def sleeping(self) -> int:
        """Payloads whose back-off is not over, where they hold no slot."""
        return self.resting - len(self.due)

    def retry_delay(self, failed_attempts: int, retry_after: float | None) -> float:
        """Return the seconds to wait before the next attempt."""
        return retry_delay(failed_attempts, jitter=random.random(), retry_after=retry_after, ceiling=self._timeout)

    def _send_on(self, connection: Connection, lane: Lane, payload: Payload, now: float) -> None:
        connection.lane = lane
        connection.payload = payload
        connection.started = now
        if payload.is_let_go:
            self._rules.prepare_again(payload, lane.header)
        body = payload.body
        if not self._chunked:
            connection.send(self._head, body, payload.sent_size)
        elif not payload.sent_size:  # a chunk of no bytes would end the body, and the end be taken for a request
            connection.send_raw((self._head, b"0\r\n\r\n"))
        else:
            parts = (body,) if isinstance(body, bytes) else body
            connection.send_raw((self._head, b"%x\r\n" % payload.sent_size, *parts, b"\r\n0\r\n\r\n"))
        if self._lets_go:
            payload.let_go()

    def _put_aside(self, lane: Lane, payload: Payload, actor: Coroutine[Any, Any, None]) -> None:
        self.aside[self._owner.spawn(actor)] = lane, payload

    async def _connect_and_send(self, lane: Lane, payload: Payload) -> None:
        self._connecting[_current_task()] = payload.sent_at = self._monotonic()
        try:
            async with asyncio.timeout(self._timeout):
                connection = await open_connection(self._address)
        except (ConnectionFailed, TimeoutError) as exc:
            if self.aside.pop(_current_task(), None) is None:
                return
            trouble = Trouble.TIMEOUT if isinstance(exc, TimeoutError) else Trouble.NO_CONNECTION
            failure = failure_of_trouble(trouble, timeout_seconds=self._timeout)
            self._owner.on_failed_attempt(lane, payload, failure, str(exc))
            self._owner.pump()
            return
        finally:
            self._connecting.pop(_current_task(), None)
        if self.aside.pop(_current_task(), None) is None:  # another has taken the payload at the last moment
            connection.abort()
            return
        connection.on_answer = self.on_answer
        connection.on_lost = self._lost
        connection.on_growth = self.arriving.grew
        connection.pool = self.pool
        self.connections.add(connection)
        self._send_on(connection, lane, payload, self._monotonic())

    async def _back_off(self, lane: Lane, payload: Payload, delay: float) -> None:
        if self._rules.autotune is None:
            await self._clock.sleep(delay)
        else:
            await self._rest(delay)
        if self.aside.pop(_current_task(), None) is not None:
            self._owner.send_again(lane, payload)

    async def _rest(self, delay: float) -> None:
        """Back off without a slot, then wait for one: fewer requests are asked for now, and those are to be served."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.resting += 1
        try:
            await self._clock.sleep(delay)
            self.due.append(turn)
            self._owner.pump()
            await turn
        finally:
            if not turn.done() or turn.cancelled():
                self.resting -= 1

    def give_turns(self, count: int) -> None:
        """Give that many free slots to the first payloads whose back-off is over."""
        while self.due and count > 0:
            turn = self.due.popleft()
            if not turn.done():
                self.resting -= 1
                turn.set_result(None)
                count -= 1

    # -- no answer

    def drop(self, connection: Connection) -> None:
        """Close a connection whose answer was its last."""
        self.connections.discard(connection)
        connection.abort()

    def drop_late(self) -> None:
        """Give up requests whose time is over."""
        oldest = self._monotonic() - self._timeout
        paused = self.arriving.paused  # we make them wait
        late = [
            one for one in self.connections if one.payload is not None and one.started < oldest and one not in paused
        ]
        for connection in late:
            lane, payload = connection.lane, connection.payload
            connection.lane = connection.payload = None
            payload.sent_at = connection.started
            self.drop(connection)
            self._owner.give_back(self.arriving.forget(connection))
            failure = failure_of_trouble(Trouble.TIMEOUT, timeout_seconds=self._timeout)
            self._owner.on_failed_attempt(lane, payload, failure, "")
        if late:
            self._owner.pump()

    def send_untaken(self) -> None:
        """Send requests again that never came to the server, for it had no room for so many connections at a time."""
        now = self._monotonic()
        before = now - UNTAKEN_SECONDS
        for task, since in list(self._connecting.items()):
            if self.idle and since < before and task in self.aside:
                lane, payload = self.aside.pop(task)
                task.cancel()
                self._send_on(self.idle.pop(), lane, payload, now)
        untaken = [
            one
            for one in self.connections
            if one.payload is not None and not one.served and one.started < before and one.is_untaken()
        ]
        for connection in untaken:
            lane, payload = connection.lane, connection.payload
            connection.lane = connection.payload = None
            self.drop(connection)
            self._owner.give_back(self.arriving.forget(connection))
            if self.idle:
                self._send_on(self.idle.pop(), lane, payload, now)
            else:
                self._put_aside(lane, payload, self._connect_and_send(lane, payload))

    def drop_aside(self, lane: Lane) -> list[Payload]:
        """Send no more of a lane's payloads behind its failure; return them."""
        dropped = []
        for task, (waiting, payload) in list(self.aside.items()):
            if waiting is lane and not lane.may_fail_at(payload.index):
                del self.aside[task]
                task.cancel()
                dropped.append(payload)
        return dropped

    def may_show_failure(self, lane: Lane) -> bool:
        """Return whether a payload of the lane is under way that comes before its failure."""
        sent = (one.payload for one in self.connections if one.lane is lane)
        aside = (payload for waiting, payload in self.aside.values() if waiting is lane)
        return any(lane.may_fail_at(payload.index) for payload in (*sent, *aside))

    def find(self, lane: Lane, index: int) -> Payload:
        """Return a payload of a lane that is under way."""
        sent: list[tuple[Lane, Payload]] = [(one.lane, one.payload) for one in self.connections if one.payload]
        return next(payload for at, payload in (*sent, *self.aside.values()) if at is lane and payload.index == index)

    def close(self) -> list[tuple[Lane, Payload]]:
        """Close all connections; return the payloads that were under way, each with its lane."""
        payloads = list(self.aside.values())
        self.aside.clear()
        for connection in self.connections:
            connection.abort()
            self._owner.give_back(self.arriving.forget(connection))
            if connection.payload is not None:  # of an object that failed, or of a run that is broken off
                payloads.append((connection.lane, connection.payload))
        return payloads

    def _lost(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self._owner.give_back(self.arriving.forget(connection))
        lane, payload = connection.lane, connection.payload
        if payload is None:
            if connection in self.idle:
                self.idle.remove(connection)
            return
        connection.lane = connection.payload = None
        payload.sent_at = connection.started
        try:
            error = connection.error
            stale = isinstance(error, ConnectionFailed) and error.stale
            if stale and not self._rules.isolates and lane.may_fail_at(payload.index):
                self.send_afresh(lane, payload)
                return
            if isinstance(error, AnswerTooLarge):
                failure = failure_of_large_answer(error.limit, error.size)
                self._owner.on_failed_attempt(lane, payload, failure, "")
            else:
                trouble = Trouble.STALE if stale else Trouble.NO_ANSWER
                failure = failure_of_trouble(trouble, timeout_seconds=self._timeout)
                self._owner.on_failed_attempt(lane, payload, failure, str(error))
            self._owner.pump()
        except Exception as exc:  # noqa: BLE001 - a callback of the event loop: the run must end, not only log
            self._owner.crash(exc)

    def _earliest(self) -> Connection | None:
        """Return the connection of the earliest request under way, None if that connects or backs off.

        None too while anything can be written: that gives room back all by itself.
        """
        if self._may_write():
            return None
        sent = [connection for connection in self.connections if connection.payload is not None]
        first = min(sent, key=lambda one: (one.lane.order, one.payload.index), default=None)
        if first is None:
            return None
        place = (first.lane.order, first.payload.index)
        waits = any((lane.order, payload.index) < place for lane, payload in self.aside.values())
        return None if waits else first


def _current_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None, "only tasks of a run come here"
    return task
