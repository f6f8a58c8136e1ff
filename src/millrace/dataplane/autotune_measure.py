"""Take rates from the counters of a run, slice of time by slice.

A rate is taken by Little's law: requests under way, divided by what one takes. Counting answers in a window would be
off by as many requests as are under way at its edges, which is most of what there is when a request takes a second and
the window does too; requests and their times have no edges. Answers of requests that were sent under an earlier
setting belong to none: a slice begins when as many answers have come as there were requests under way.
"""

from dataclasses import dataclass
from enum import Enum

__all__ = ["CurvePoint", "Slice", "SliceMeter", "Totals", "Verdict"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Totals:
    """What a run has counted since its start; all only grow, save `in_flight` and `remaining_bytes`."""

    answers: int
    """Good answers."""
    records: int
    """Records that were sent with them."""
    sent_bytes: int
    """Bytes of the payloads that they answer."""
    answer_bytes: int
    latency_seconds: float
    """Sum over these answers, from sending to having the answer."""
    in_flight: int
    """Requests under way now, without those that back off."""
    remaining_bytes: int | None = None
    """Bytes of input that are in no payload yet; None if that is not known."""


class Verdict(Enum):
    """What became of a setting that was measured."""

    KEPT = "kept"
    TRIED = "tried"
    TAKEN = "taken"
    LEFT = "left"
    REFUSED = "refused"
    TOO_LARGE = "too large"


@dataclass(frozen=True, kw_only=True, slots=True)
class CurvePoint:
    """One measurement, as the job's report shows it; a refusal has no rates."""

    at_seconds: float
    """Since the run began."""
    concurrency: int
    payload_bytes: int
    verdict: Verdict
    records_per_second: float = 0.0
    megabytes_per_second: float = 0.0
    mean_latency_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Slice:
    """What was measured over one slice of time; rates are per second."""

    answer_rate: float
    record_rate: float
    byte_rate: float
    latency_seconds: float
    """Mean over its answers."""
    payload_bytes: float
    """Mean over its answers: less than was aimed at where objects end or records are long."""
    answer_ratio: float
    """Bytes of answers for each byte of payloads."""


class SliceMeter:
    """Cuts a run into slices of one setting each."""

    def __init__(self, *, least_answers: int, least_seconds: float) -> None:
        self._least_answers = least_answers
        self._least_seconds = least_seconds
        self._wanted_answers = least_answers
        self._settled_at = 0
        self._start: tuple[float, Totals] | None = None
        self._in_flight = 0
        self._looks = 0

    def begin(self, totals: Totals, *, concurrency: int, waits_rounds: int) -> None:
        """Forget what was measured: another setting holds from now on.

        Args:
            totals: As they stand.
            concurrency: Requests at a time from now on; a slice has an answer for each.
            waits_rounds: What is waited for before the first slice: 1 is the answers to all requests under way. Those
                that are sent now wait behind them, or in another queue, and their latency tells too little: 2 is these
                too. 0 is nothing.
        """
        self._settled_at = totals.answers
        if waits_rounds:
            self._settled_at += totals.in_flight + (waits_rounds - 1) * concurrency
        self._wanted_answers = max(self._least_answers, concurrency)
        self._start = None

    def look(self, now: float, totals: Totals) -> Slice | None:
        """Take the counters into account; return a slice if one is complete."""
        if self._start is None:
            if totals.answers >= self._settled_at:
                self._restart(now, totals)
            return None
        self._in_flight += totals.in_flight
        self._looks += 1
        began, first = self._start
        answers = totals.answers - first.answers
        if answers < self._wanted_answers or now - began < self._least_seconds:
            return None
        in_flight = self._in_flight / self._looks
        self._restart(now, totals)
        latency = totals.latency_seconds - first.latency_seconds
        per_answer = in_flight / latency if latency > 0.0 and in_flight else 1.0 / (now - began)
        sent = totals.sent_bytes - first.sent_bytes
        return Slice(
            answer_rate=per_answer * answers,
            record_rate=per_answer * (totals.records - first.records),
            byte_rate=per_answer * sent,
            latency_seconds=latency / answers,
            payload_bytes=sent / answers,
            answer_ratio=(totals.answer_bytes - first.answer_bytes) / sent if sent else 0.0,
        )

    def _restart(self, now: float, totals: Totals) -> None:
        self._start = now, totals
        self._in_flight = self._looks = 0
