"""Find the number of requests at a time and the size of payloads that are best for a server, while the job runs. Pure.

Theory. A job is finite, so looking costs: a setting half as good for a twentieth of the job costs as much as one that
is a fortieth too slow for all of it. So the search climbs from a careful first guess in long steps as long as they pay,
stops at the knee, and looks again rarely.

* A *trial* measures another setting beside the *base*, the best so far. The median of a few short slices decides, and
  the first slice does where there is no doubt. A trial that takes far longer than it should is given up.
* The number of requests comes first, with small payloads that are soon answered: it grows until that brings nothing.
  Then how latency grows with size tells what a request costs beyond its bytes, and thereby the size from which on that
  is small.
* Being refused (429, 503, a time-out, a connection lost) during a trial ends it; at the base it halves the number of
  requests. The number refused is a ceiling for a while, longer each time it proves right. A payload that is too large
  (413) is never tried again.
* At the base the rate is watched. If it changes for good, the search begins anew; and from time to time a look at more
  requests tells whether a server has grown.
* Near the end of the input payloads shrink, so that all requests at a time end at about the same moment.

Time is told by the caller, in seconds of any clock that does not go back.
"""

import statistics
from collections import deque

from millrace.dataplane.autotune_ceiling import Ceiling
from millrace.dataplane.autotune_curve import Curve
from millrace.dataplane.autotune_measure import CurvePoint, Slice, SliceMeter, Totals, Verdict
from millrace.dataplane.autotune_moves import next_payload, next_slots, overhead_bytes, scales
from millrace.dataplane.autotune_settings import AutotuneSettings, Setting
from millrace.dataplane.autotune_trial import SMALL_DOUBT, Move, Trial, TrialOutcome
from millrace.jobs.transform import MIB

__all__ = ["Autotuner"]

BASE_SLICES = 5
"""Slices of the base whose median is its rate."""
PATIENCE = 4.0
"""A trial may take so many times as long as it would if latency grew with all that was raised."""
PATIENCE_SECONDS = 0.2
WORTH = 6.0
"""What is left of a job must take so many times as long as a trial of fewer or more slots."""
PAYLOAD_WORTH = 3.0
"""The same for payloads: what they gain is foreseen, and trying them seldom costs anything."""
FIRST_HOLD_SECONDS = 1.0
"""A refusal is first believed for so long: some are bursts."""
SLOWER_HOLD_SECONDS = 60.0
"""A payload size that was slower is believed to be for so long."""
HARDLY_CHANCE = 0.6
"""A trial with less than this share of the base's rate is no better than a base that was measured badly."""
LENIENT = 2.0
"""Large payloads of a trial that was refused may fill the server for so many times the time that one should take."""
FILLED = 0.6
"""Share of the size aimed at that payloads must have for the size to matter: objects may be smaller."""
STILL_LARGE_LOSS = 0.1
"""A size short of one that was slower is tried only if more than this is to be gained."""
LEAST_WAVES = 8
"""Payloads grow only as long as so many are left for each request at a time: the last ones leave some idle."""
TAPER = 2
"""Payloads shrink from when there are fewer than so many for each request at a time."""
TAPERED_SHARE = 4
"""They shrink to no less than this part of their size."""


class Autotuner:
    """The controller of one run.

    `concurrency` and `payload_bytes` are what holds now: the run reads them for every request. `payload_bytes` is a
    size to aim at; a record that is longer is still sent.
    """

    def __init__(self, settings: AutotuneSettings) -> None:
        self._settings = settings
        self._base = settings.fitted(settings.first_concurrency, settings.first_payload_bytes, 0.0)
        self.concurrency = self._base.concurrency
        self.payload_bytes = self._base.payload_bytes
        self._base_slices: deque[Slice] = deque(maxlen=BASE_SLICES)
        self._trial: Trial | None = None
        self._meter = SliceMeter()
        self._must_settle = True
        self._curve = Curve(settings.curve_points)
        self._started_at: float | None = None
        self._changed_at = self._lenient_until = float("-inf")
        self._provoked = False
        """Whether the last refusals came of a trial."""
        self._remaining: int | None = None
        self._answer_ratio = 0.0
        self._tries = 0

        self._payload_settled = not settings.tunes_payload
        self._overhead: float | None = None
        self._smallest: Slice | None = None
        """What was measured with the smallest payloads at as many requests at a time: far apart, two tell most."""
        self._largest: int | None = None
        """The smallest payload that the server called too large."""
        self._slower_payload = Ceiling(first_seconds=SLOWER_HOLD_SECONDS, longest_seconds=SLOWER_HOLD_SECONDS)
        self._slots_settled = False
        self._slots_ceiling = Ceiling(first_seconds=FIRST_HOLD_SECONDS, longest_seconds=settings.longest_probe_seconds)
        self._last_step = self._last_gain = 1.0
        self._knee: int | None = None
        """Fewer requests at a time that should do."""
        self._glanced = False
        """Whether the base was taken at a first glance, at requests some of which waited in a shorter queue."""
        self._base_due = False
        """Whether the base must be measured better before anything else is tried."""
        self._eases = False
        """Whether less may be more: the server has become slower."""
        self._grown = False
        """Whether the climb under way took anything."""
        self._settled_rate: float | None = None
        """The rate at which the search came to rest; None while it climbs."""
        self._probe_seconds = settings.probe_seconds
        self._next_probe = float("inf")

    # -- what the run and the report read

    @property
    def curve(self) -> list[CurvePoint]:
        """What was measured, in order."""
        return self._curve.points

    @property
    def setting(self) -> Setting:
        """The best setting so far: what is tried now, and smaller payloads at the end of the input, left out."""
        return self._base

    @property
    def chosen(self) -> str:
        """What the search has found so far, for the data log."""
        base = self._base
        payloads = f", payloads of {base.payload_bytes / MIB:.3g} MB" if self._settings.tunes_payload else ""
        found = f"Autotuning: {base.concurrency} requests at a time{payloads}"
        if not self._base_slices:
            return found
        best = self._base_slice()
        return (
            f"{found}, after {self._tries} others were tried: {best.record_rate:.4g} records/s, "
            f"{best.byte_rate / 1e6:.4g} MB/s, {best.latency_seconds * 1e3:.3g} ms a request"
        )

    # -- what the run tells

    def observe(self, now: float, totals: Totals) -> None:
        """Take the counters into account; call it every `slice_seconds` / 2 or so, more often is of no use."""
        self._remaining = totals.remaining_bytes
        if self._started_at is None:
            self._started_at = now
            self._must_settle = False
            self._measure(totals, settle_answers=0)
        if self._must_settle:
            self._begin(totals)
            self._publish()
            return
        if self._tapers():
            self._trial = None
            self._publish()
            return
        measured = self._meter.look(now, totals)
        trial = self._trial
        if measured is not None:
            self._answer_ratio = measured.answer_ratio
            if trial is None:
                self._watch(now, measured)
            else:
                self._judge(now, trial, measured)
        elif trial is not None and now >= trial.deadline:
            self._leave(now, trial)
        if self._trial is None and self._base_slices and not self._must_settle:
            self._choose(now)
        if self._must_settle:
            self._changed_at = now
            self._begin(totals)
        self._publish()

    def refused(self, now: float, sent_at: float, payload_bytes: int) -> bool:
        """Tell at once that a request was refused (429, 503), ran out of time or lost its connection.

        Args:
            now: The time.
            sent_at: When the request was sent: those sent under an earlier setting tell nothing of this one.
            payload_bytes: What it carried: payloads of an abandoned, larger size come again after their back-off.

        Returns:
            Whether the search brought it about, by asking more than the server can take: then it is no failed attempt.
        """
        trial, base = self._trial, self._base
        holds = base if trial is None else trial.setting
        if sent_at < self._changed_at or now < self._lenient_until:
            return self._provoked
        if self._settings.tunes_payload and payload_bytes > holds.payload_bytes:
            return self._provoked
        self._trial = None
        self._note(now, holds, Verdict.REFUSED)
        self._tries += trial is not None
        self._provoked = trial is not None and trial.grows
        if trial is None or not self._provoked:
            self._back_off(now)
        elif trial.move is Move.MORE_SLOTS:
            self._slots_ceiling.hit(trial.setting.concurrency, now)
        else:
            self._slower_payload.hit(trial.setting.payload_bytes, now)
            self._payload_settled = not self._may_gain_by_size()
            stretch = trial.setting.payload_bytes / base.payload_bytes
            self._lenient_until = now + LENIENT * trial.base.latency_seconds * stretch
        self._next_probe = min(self._next_probe, self._slots_ceiling.until)
        self._changed_at = now
        self._must_settle = True
        self._publish()
        return self._provoked

    def too_large(self, now: float, payload_bytes: int) -> None:
        """Tell at once that a payload of so many bytes was refused for its size (413)."""
        if not self._settings.tunes_payload or (self._largest is not None and payload_bytes >= self._largest):
            return
        self._largest = payload_bytes
        self._note(now, Setting(concurrency=self.concurrency, payload_bytes=payload_bytes), Verdict.TOO_LARGE)
        if self._trial is not None and self._trial.setting.payload_bytes >= payload_bytes:
            self._trial = None
            self._tries += 1
        if self._base.payload_bytes >= payload_bytes:
            self._base = self._settings.fitted(self._base.concurrency, payload_bytes // 2, self._answer_ratio)
            self._base_slices.clear()
        self._changed_at = now
        self._must_settle = True
        self._publish()

    # -- the base

    def _watch(self, now: float, measured: Slice) -> None:
        """Take a slice of the base; begin anew if the server is another one now."""
        self._base_slices.append(measured)
        self._note(now, self._base, Verdict.KEPT, measured)
        fitted = self._fitted(self._base.concurrency, self._base.payload_bytes)
        if fitted != self._base:  # answers turned out to need more room
            self._base = fitted
            self._base_slices.clear()
            self._must_settle = True
        settled = self._settled_rate
        if settled is None or len(self._base_slices) < self._settings.slices:
            return
        rate = self._base_rate()
        if abs(rate - settled) > self._settings.drift * settled:
            slower = rate < settled
            self._restart_climb()
            self._payload_settled = not self._settings.tunes_payload
            self._smallest = None
            self._probe_seconds = self._settings.probe_seconds
            self._eases = slower

    def _back_off(self, now: float) -> None:
        """Halve what is asked of the server: requests at a time, or payloads if there is one request."""
        base = self._base
        round_seconds = self._base_slice().latency_seconds if self._base_slices else 0.0
        self._lenient_until = now + max(round_seconds, self._settings.slice_seconds)
        self._slots_ceiling.hit(base.concurrency, now)
        payload = base.payload_bytes if base.concurrency > 1 else base.payload_bytes // 2
        self._base = self._fitted(base.concurrency // 2, payload)
        self._base_slices.clear()
        self._smallest = None
        self._restart_climb()
        self._probe_seconds = self._settings.probe_seconds

    def _restart_climb(self) -> None:
        self._slots_settled = False
        self._last_step = self._last_gain = 1.0
        self._knee = None
        self._eases = False
        self._settled_rate = None
        self._grown = False

    # -- trials

    def _choose(self, now: float) -> None:
        """Begin the next trial, if one is due."""
        if self._settled_rate is not None:
            if now < self._next_probe:
                return
            self._restart_climb()
            self._payload_settled = not (self._settings.tunes_payload and self._may_gain_by_size())
        if self._base_due and len(self._base_slices) < self._settings.slices:
            return
        self._base_due = False
        trial = self._next_trial(now)
        if trial is None and self._must_settle:
            return
        if trial is None:
            self._settled_rate = self._base_rate()
            self._probe_seconds = (
                self._settings.probe_seconds
                if self._grown
                else min(2.0 * self._probe_seconds, self._settings.longest_probe_seconds)
            )
            until = self._slots_ceiling.until
            self._next_probe = now + self._probe_seconds
            if now < until < self._next_probe:
                self._next_probe = until
            return
        self._trial = trial
        self._must_settle = True

    def _next_trial(self, now: float) -> Trial | None:
        base, known = self._base, self._base_slice()
        if not self._slots_settled:
            wanted = next_slots(
                base.concurrency,
                self._last_step,
                self._last_gain,
                limit=self._settings.max_concurrency,
                ceiling=self._slots_ceiling.limit(now),
            )
            if self._slots_ceiling.value is not None:
                wanted = min(wanted, max(base.concurrency + 1, self._slots_ceiling.value))
            fitted = self._fitted(wanted, base.payload_bytes)
            if fitted.concurrency > base.concurrency:
                trial = self._trial_of(Move.MORE_SLOTS, fitted, now)
                if trial is not None:
                    return trial
            self._slots_settled = True
        if self._glanced:
            self._glanced = False
            self._base_slices.clear()
            self._must_settle = True
            return None
        if self._knee is not None and self._knee <= 0.8 * base.concurrency:
            fitted = self._fitted(self._knee, base.payload_bytes)
            self._knee = None
            return self._trial_of(Move.FEWER_SLOTS, fitted, now)
        if not self._payload_settled:
            wanted = base.payload_bytes
            if known.payload_bytes >= FILLED * base.payload_bytes:
                wanted = next_payload(
                    base.payload_bytes,
                    self._overhead,
                    loss=self._settings.payload_loss,
                    ceiling=self._payload_ceiling(now),
                )
            if self._remaining is not None:
                wanted = max(base.payload_bytes, min(wanted, self._remaining // (LEAST_WAVES * base.concurrency)))
            fitted = self._fitted(base.concurrency, wanted)
            longest = known.latency_seconds * fitted.payload_bytes / base.payload_bytes
            if fitted.payload_bytes > base.payload_bytes and longest <= self._settings.longest_request_seconds:
                return self._trial_of(Move.LARGER_PAYLOADS, fitted, now)
            self._payload_settled = True
        if self._eases:
            self._eases = False
            fitted = self._fitted(base.concurrency, base.payload_bytes // 2)
            if self._settings.tunes_payload and fitted != base:
                return self._trial_of(Move.SMALLER_PAYLOADS, fitted, now)
        return None

    def _trial_of(self, move: Move, setting: Setting, now: float) -> Trial | None:
        """Return the trial of a setting, None if too little is left of the job for it."""
        known = self._base_slice()
        stretch = max(1.0, setting.concurrency / self._base.concurrency)
        stretch *= max(1.0, setting.payload_bytes / self._base.payload_bytes)
        seconds = 2.0 * known.latency_seconds * stretch + self._settings.slice_seconds
        patience = PATIENCE * seconds + PATIENCE_SECONDS
        if move is Move.MORE_SLOTS and scales(self._last_step, self._last_gain):
            seconds = 2.0 * known.latency_seconds + self._settings.slice_seconds
        worth = PAYLOAD_WORTH if move is Move.LARGER_PAYLOADS else WORTH
        if self._remaining is not None and known.byte_rate * seconds * worth > self._remaining:
            return None
        return Trial(
            move=move,
            setting=setting,
            base_setting=self._base,
            base=known,
            base_rate=self._base_rate(),
            patience=patience,
            deadline=now + patience,
        )

    def _judge(self, now: float, trial: Trial, measured: Slice) -> None:
        """Take or leave a setting, or measure on."""
        trial.add(measured, self._rate(measured), now)
        outcome = trial.outcome(self._settings)
        if outcome is TrialOutcome.TAKE:
            self._take(now, trial)
        elif outcome is TrialOutcome.LEAVE:
            self._leave(now, trial)
        elif outcome is TrialOutcome.FALL_BACK:
            trial.fall_back(self._fitted(trial.enough_slots(), trial.setting.payload_bytes))
            self._must_settle = True

    def _take(self, now: float, trial: Trial) -> None:
        before = self._base
        self._note(now, trial.setting, Verdict.TAKEN, trial.slices[-1])
        self._tries += 1
        self._base, self._trial = trial.setting, None
        self._base_slices = deque(trial.slices, maxlen=BASE_SLICES)
        self._grown = self._grown or trial.move is not Move.FEWER_SLOTS
        if self._base.concurrency != before.concurrency:
            self._smallest = None
        if trial.move is Move.LARGER_PAYLOADS:
            self._smallest = self._smallest or trial.base
            self._overhead = overhead_bytes(self._smallest, self._base_slice())
        elif trial.move is Move.SMALLER_PAYLOADS:
            self._eases = True
        elif trial.move is Move.MORE_SLOTS:
            self._glanced = trial.glances and len(trial.slices) == 1
            self._slots_ceiling.passed(trial.setting.concurrency)
            self._last_step = trial.setting.concurrency / before.concurrency
            self._last_gain = trial.gain
            self._knee = trial.enough_slots()

    def _leave(self, now: float, trial: Trial) -> None:
        doubtful = len(self._base_slices) < self._settings.slices and trial.gain >= HARDLY_CHANCE
        self._note(now, trial.setting, Verdict.LEFT, trial.slices[-1] if trial.slices else None)
        self._tries += 1
        self._trial = None
        self._must_settle = True
        if doubtful and trial.grows:
            self._base_due = True  # the base's one slice may have been a lucky one
        elif trial.move is Move.MORE_SLOTS:
            self._slots_settled = True
        elif trial.move is Move.LARGER_PAYLOADS:
            self._payload_settled = True
            if trial.slices and self._overhead is None:
                self._overhead = overhead_bytes(trial.base, trial.slices[-1])
            if trial.gain < 1.0 - SMALL_DOUBT:
                self._slower_payload.hit(trial.setting.payload_bytes, now)
                self._payload_settled = not self._may_gain_by_size()

    def _may_gain_by_size(self) -> bool:
        """Whether a size short of the one that was worse would still be worth a trial, as far as is known."""
        overhead = self._overhead
        return overhead is None or self._base.payload_bytes * STILL_LARGE_LOSS < overhead * (1.0 - STILL_LARGE_LOSS)

    # -- small things

    def _begin(self, totals: Totals) -> None:
        """Measure what holds now, once the requests of what held before are answered."""
        setting = self._base if self._trial is None else self._trial.setting
        slots = setting.concurrency
        trial = self._trial
        climbs = trial is not None and trial.glances
        self._must_settle = False
        self._measure(
            totals,
            # Of requests that waited behind those of another size, or in another queue, latency tells too little; only
            # where more slots are tried a first glance is enough, since most servers have far fewer or far more.
            settle_answers=totals.in_flight if climbs else slots + totals.in_flight,
        )

    def _measure(self, totals: Totals, *, settle_answers: int) -> None:
        setting = self._base if self._trial is None else self._trial.setting
        self._meter.begin(
            totals,
            settle_answers=settle_answers,
            answers=max(self._settings.slice_answers, setting.concurrency),
            seconds=self._settings.slice_seconds,
        )

    def _publish(self) -> None:
        setting = self._base if self._trial is None else self._trial.setting
        payload = setting.payload_bytes
        if self._settings.tunes_payload and self._remaining is not None:
            share = self._remaining // (TAPER * setting.concurrency)
            payload = min(payload, max(share, payload // TAPERED_SHARE, self._settings.least_payload()))
        self.concurrency = setting.concurrency
        self.payload_bytes = payload

    def _tapers(self) -> bool:
        """Whether so little is left that payloads shrink: they tell nothing any more."""
        base = self._base
        return (
            self._settings.tunes_payload
            and self._remaining is not None
            and self._remaining < TAPER * base.concurrency * base.payload_bytes
        )

    def _fitted(self, concurrency: int, payload_bytes: int) -> Setting:
        if self._largest is not None:
            payload_bytes = min(payload_bytes, self._largest - 1)
        return self._settings.fitted(concurrency, payload_bytes, self._answer_ratio)

    def _payload_ceiling(self, now: float) -> int | None:
        known = [one for one in (self._slower_payload.limit(now), self._largest) if one is not None]
        return min(known) if known else None

    def _rate(self, measured: Slice) -> float:
        return measured.byte_rate if self._settings.tunes_payload else measured.answer_rate

    def _base_rate(self) -> float:
        return statistics.median(map(self._rate, self._base_slices))

    def _base_slice(self) -> Slice:
        """Return the slice of the base whose rate is the median."""
        return sorted(self._base_slices, key=self._rate)[len(self._base_slices) // 2]

    def _note(self, now: float, setting: Setting, verdict: Verdict, measured: Slice | None = None) -> None:
        at = now - self._started_at if self._started_at is not None else 0.0
        self._curve.add(
            CurvePoint(
                at_seconds=at,
                concurrency=setting.concurrency,
                payload_bytes=setting.payload_bytes,
                verdict=verdict,
                records_per_second=measured.record_rate if measured else 0.0,
                megabytes_per_second=measured.byte_rate / 1e6 if measured else 0.0,
                mean_latency_seconds=measured.latency_seconds if measured else 0.0,
            )
        )
