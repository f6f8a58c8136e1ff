"""Form payloads and send them, as long as requests may be sent."""

from collections import deque
from collections.abc import Callable
from typing import Protocol

from millrace.dataplane.lane import Lane
from millrace.dataplane.limits import Budget
from millrace.dataplane.long_records import PassingOver
from millrace.dataplane.payload import Payload, PayloadTooLarge, UnusableRecord
from millrace.dataplane.processing import RecordError
from millrace.dataplane.progress import Counters
from millrace.dataplane.requests import Requests
from millrace.dataplane.rules import Rules
from millrace.dataplane.settling import Settling
from millrace.dataplane.tuning import Tuning

__all__ = ["Sending", "SendingOwner"]


class SendingOwner(Protocol):
    """The run whose payloads are sent."""

    def flush(self) -> None:
        """Have everything written that may be."""
        ...

    def give_back(self, size: int) -> None:
        """Give room back."""
        ...

    def wants_chunk(self, lane: Lane) -> None:
        """Take note that a lane can give no payload before it is fed again."""
        ...

    def took_payload(self, lane: Lane) -> None:
        """Take note that a payload was formed of what a lane was fed."""
        ...


class Sending:
    """Takes payloads from the first lane that has some; parts of payloads whose bad records are looked for go first.

    A suspect is sent when nothing else is under way, and nothing else before it is settled.

    `forming` are the lanes with payloads to form, in key order.
    """

    def __init__(
        self,
        rules: Rules,
        owner: SendingOwner,
        *,
        forming: deque[Lane],
        requests: Requests,
        settling: Settling,
        tuning: Tuning | None,
        budget: Budget,
        counters: Counters,
        monotonic: Callable[[], float],
    ) -> None:
        self._rules = rules
        self._owner = owner
        self._forming = forming
        self._requests = requests
        self._isolator = settling.isolator
        self._settling = settling
        self._tuning = tuning
        self._slots = rules.effective.max_concurrent_transforms
        self._budget = budget
        self._counters = counters
        self._monotonic = monotonic
        self._is_alone = False
        """The last one that was sent was a suspect."""

    def pump(self, now: float = 0.0) -> None:
        """Form and send payloads as long as requests may be sent; `now` spares the inner loop a look at the clock."""
        counters, budget, forming, again = self._counters, self._budget, self._forming, self._isolator.again
        prepares = self._rules.processing is not None
        requests = self._requests
        most = self._slots if self._tuning is None else self._tuning.concurrency
        if requests.resting:  # of tuned jobs
            if self._tuning is not None and self._tuning.holds(now or self._monotonic()):
                most -= requests.sleeping
            if requests.due:
                requests.give_turns(most + requests.resting - counters.in_flight)
            most += requests.resting  # those whose turn it is hold slots by now
        while (forming or again) and counters.in_flight < most:
            if (self._is_alone or (again and again[0][1].is_suspect)) and counters.in_flight:
                return
            if again:
                self._is_alone = again[0][1].is_suspect
                self._send_part(*again.popleft())
                continue
            self._is_alone = False
            if counters.in_flight and (budget.held > budget.limit or budget.results >= self._rules.limits.answers_held):
                self._owner.flush()
                return
            if requests.resting > self._rules.limits.payloads_resting:
                return
            lane = forming[0]
            ready = lane.former.ready
            payload = ready.pop() if len(ready) > 1 and not prepares else self._next_payload(lane)
            if payload is not None:
                payload.index = lane.next_index
                lane.next_index += 1
                counters.in_flight += 1
                self._budget.results += 1
                self._requests.send(lane, payload, now or self._monotonic())
            elif lane.failure is None and not again:
                if not lane.ended:
                    return
                forming.popleft()
                lane.exhausted = True
                if lane.complete:
                    lane.wake.set()

    def send_again(self, lane: Lane, payload: Payload) -> None:
        """Send a payload whose back-off is over, or parts of it if it has become too large meanwhile."""
        if self._cuts(lane, payload):
            self._counters.in_flight -= 1
            self.pump()
        else:
            self._requests.send(lane, payload, self._monotonic())

    def _cuts(self, lane: Lane, payload: Payload) -> bool:
        """Have parts of a payload sent in its place that is larger than those that are formed now."""
        return self._tuning is not None and self._tuning.cuts(payload) and self._isolator.split(lane, payload)

    def _send_part(self, lane: Lane, part: Payload) -> None:
        """Send a part of a payload, or parts of that."""
        if self._settling.wants_failure(lane, part) and self._cuts(lane, part):
            return
        self._counters.in_flight += 1
        if self._settling.wants_failure(lane, part):
            self._requests.send(lane, part, self._monotonic())
        else:
            self._settling.drop_payload(lane, part)
            self._settling.settle(lane)

    def _next_payload(self, lane: Lane) -> Payload | None:
        """Return the lane's next payload, ready to send; None if it has none, must be fed first, or failed."""
        processing, isolates = self._rules.processing, self._rules.isolates
        if self._tuning is not None and self._tuning.tunes_payload:
            lane.former.aim = self._tuning.payload_bytes
        while True:
            try:
                payload = lane.former.take()
            except UnusableRecord as exc:
                if isolates and isinstance(exc, PayloadTooLarge) and exc.may_be_passed_over:
                    self._pass_over(lane, exc)
                    continue
                self._settling.fail_unusable(lane, exc)
                return None
            if payload is None:
                self._owner.wants_chunk(lane)
                return None
            if not lane.former.ready:
                self._owner.took_payload(lane)
            if payload.too_large is not None:
                assert isinstance(lane.former, PassingOver) and lane.former.following is not None, "it gave the payload"
                lane.former = lane.former.following
                self._isolate(lane, payload, payload.too_large.told(self._rules.effective.max_payload_bytes))
                if lane.failure is not None:
                    return None
                continue
            if isolates or (lane.header is not None and self._tuning is not None):  # what halves are cut from
                payload.raw = payload.body = payload.joined()  # both, or its text would be held twice
            try:
                if processing is None or processing.prepare(payload):
                    if lane.header is not None:
                        lane.header.prefix(payload)
                    return payload
            except RecordError as exc:
                if not isolates:
                    payload.index = lane.next_index
                    lane.lose(payload)
                    self._owner.give_back(payload.size)
                    self._settling.fail_record(lane, lane.next_index, payload, exc)
                    return None
                self._isolate(lane, payload, str(exc))
                if self._isolator.again or lane.failure is not None:
                    return None
                continue
            lane.drop_records(lane.next_index - 1, payload.records)
            self._owner.give_back(payload.size)

    def _isolate(self, lane: Lane, payload: Payload, message: str) -> None:
        """Find the bad records of a payload that can't be sent."""
        payload.index = lane.next_index
        lane.next_index += 1
        self._budget.results += 1
        self._isolator.take(lane, payload, "ClientError", message)

    def _pass_over(self, lane: Lane, error: PayloadTooLarge) -> None:
        """Look for the end of a record that is too long, and form payloads of what stands behind it."""
        lane.former = passing = self._rules.passing_over(lane.former, error, lane.header)
        if lane.ended:
            passing.finish()
        self._owner.give_back(passing.let_go())
