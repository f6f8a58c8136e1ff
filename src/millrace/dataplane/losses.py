"""Find out what of the payloads that had no answer is to blame for that, before any of it is called bad.

Theory. A record may break the container down, or a worker in it; then all that was under way has no answer, and nobody
knows which of it is to blame. So it is asked first how the container is found (`standing`). If it was down meanwhile,
each payload that it had is sent by itself. One that is lost again has the fault in it: it is cut, and its parts are
sent by themselves. A record is bad that was lost so more than once. What is lost while the container is there is sent
again as often as the job's owner allows, and then cut like any other payload that fails; a record of it is sent by
itself, too.
"""

from dataclasses import dataclass
from typing import Protocol

from millrace.dataplane.isolating import Isolator
from millrace.dataplane.lane import Lane
from millrace.dataplane.payload import Payload
from millrace.dataplane.progress import Counters
from millrace.dataplane.requests import Requests
from millrace.dataplane.retry import AttemptFailure
from millrace.dataplane.rules import Rules
from millrace.dataplane.standing import Standing

__all__ = ["Loss", "Losses", "LossesOwner"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Loss:
    """An attempt without an answer; `text` is what a chain says in its place, `provoked` as of `send_later`."""

    failure: AttemptFailure
    message: str
    text: str | None
    provoked: bool


class LossesOwner(Protocol):
    """What settles payloads."""

    def may_try_again(self, payload: Payload, failure: AttemptFailure) -> bool:
        """Return whether another attempt is allowed."""
        ...

    def give_up(self, lane: Lane, payload: Payload, failure: AttemptFailure, message: str, text: str | None) -> None:
        """Take a payload whose attempts are used up."""
        ...


class Losses:
    """Judges payloads without an answer, of a job that leaves bad records out."""

    def __init__(
        self, rules: Rules, owner: LossesOwner, *, requests: Requests, isolator: Isolator, counters: Counters
    ) -> None:
        self._rules = rules
        self._owner = owner
        self._requests = requests
        self._isolator = isolator
        self._counters = counters

    def judge(self, lane: Lane, payload: Payload, loss: Loss, standing: Standing) -> None:
        """Take a payload, now that it is known how the container was found."""
        failure = loss.failure
        if standing is Standing.BACK:
            payload.failed_attempts -= not loss.provoked
            self._take_downfall(lane, payload, loss)
        elif failure.is_stale:
            payload.failed_attempts -= not loss.provoked
            self._requests.send_afresh(lane, payload)
        elif self._owner.may_try_again(payload, failure):
            self._requests.send_later(lane, payload, None, provoked=loss.provoked)
        elif standing is Standing.THERE and payload.records == 1 and not self._is_to_blame(payload):
            self._suspect(lane, payload)
        else:
            self._owner.give_up(lane, payload, failure, loss.message, loss.text)

    def _take_downfall(self, lane: Lane, payload: Payload, loss: Loss) -> None:
        """Take a payload after which the container was down; one that was not even sent is not to blame."""
        if not loss.failure.was_sent:
            self._counters.retries += 1
            self._requests.send_now(lane, payload)
        elif self._was_alone(payload) and self._split(lane, payload):
            self._counters.in_flight -= 1
        elif not self._is_to_blame(payload):
            self._suspect(lane, payload)
        else:
            how = self._requests.how_ended(payload)
            message = f"{loss.failure.message}: {how} each time that it was sent" if how else loss.message
            self._owner.give_up(lane, payload, loss.failure, message, loss.text)

    def _split(self, lane: Lane, payload: Payload) -> bool:
        payload.is_suspect = True
        return self._isolator.split(lane, payload)

    def _suspect(self, lane: Lane, payload: Payload) -> None:
        """Have a payload sent by itself."""
        self._counters.retries += 1
        self._counters.in_flight -= 1
        self._isolator.suspect(lane, payload)

    def _is_to_blame(self, payload: Payload) -> bool:
        """Whether a payload is the reason that it has no answer: it was sent by itself, more than once."""
        if not self._was_alone(payload):
            return False
        payload.lost_alone += 1
        return payload.lost_alone >= self._rules.limits.losses_to_blame

    def _was_alone(self, payload: Payload) -> bool:
        """Whether nothing else was under way with it."""
        one_at_a_time = self._rules.autotune is None and self._rules.effective.max_concurrent_transforms == 1
        return payload.is_suspect or one_at_a_time
