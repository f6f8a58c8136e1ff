"""Find the number of requests at a time and the size of payloads that are best for a server, while the job runs. Pure.

Theory. A job is finite, so looking costs: a setting half as good for a twentieth of the job costs as much as one that
is a fortieth too slow for all of it. So the search climbs from a careful first guess in long steps as long as they pay,
stops at the knee, and looks again rarely.

* A *trial* measures another setting beside the *base*, the best so far. A few short slices decide, and the first one
  does where there is no doubt. A surprise is compared with the base once more. A trial that takes far longer than it
  should is given up.
* What to try, and in which order, is said by `Climb`; when to try again, once nothing is left, by `Probing`.
* Being refused (429, 503, a time-out, a connection lost) during a trial ends it; at the base it halves the number of
  requests. The number refused is a ceiling for a while, longer each time it proves right. A payload that is too large
  (413) is never tried again.
* At the base the rate is watched. If it changes for good, the search begins anew.
* Near the end of the input payloads shrink, so that all requests at a time end at about the same moment.

Time is told by the caller, in seconds of any clock that does not go back.
"""

from dataclasses import replace

from millrace.dataplane.autotune_base import KEPT_SLICES, Base
from millrace.dataplane.autotune_climb import FILLED, Climb
from millrace.dataplane.autotune_curve import Curve, told_choice
from millrace.dataplane.autotune_measure import CurvePoint, Slice, SliceMeter, Totals, Verdict
from millrace.dataplane.autotune_moves import scales
from millrace.dataplane.autotune_probing import Probing
from millrace.dataplane.autotune_refusals import LENIENT, Refusals
from millrace.dataplane.autotune_settings import AutotuneSettings, Setting
from millrace.dataplane.autotune_taper import is_near_end, tapered
from millrace.dataplane.autotune_trial import Move, Trial, TrialOutcome

__all__ = ["Autotuner"]


SMALLER_BY = 4
"""Payloads become so many times smaller where no size is known that the server takes: each step is refused in turn."""
CUT_ABOVE = 1.25
"""Payloads that are to be sent again are cut if they are so many times as large as others: halves of one are not."""


class Autotuner:
    """The controller of one run.

    `concurrency` and `payload_bytes` are what holds now: the run reads them for every request. `payload_bytes` is a
    size to aim at; a record that is longer is still sent.
    """

    def __init__(self, settings: AutotuneSettings) -> None:
        self._settings = settings
        self._answer_ratio = 0.0
        self._refusals = Refusals(settings)
        self._base = Base(self._fit(settings.first_concurrency, settings.first_payload_bytes), self._rate)
        self._climb = Climb(
            settings,
            self._refusals,
            fit=self._fit,
            room_for=lambda size: settings.slots_with_room(size, self._answer_ratio),
        )
        self._probing = Probing(settings)
        self._trial: Trial | None = None
        self._meter = SliceMeter(least_answers=settings.slice_answers, least_seconds=settings.slice_seconds)
        self._must_settle = True
        self._curve = Curve(settings.curve_points)
        self._started = False
        self._remaining: int | None = None
        self._answers = 0
        self._tries = 0
        self.concurrency, self.payload_bytes = self._base.setting.concurrency, self._base.setting.payload_bytes

    # -- what the run and the report read

    @property
    def curve(self) -> list[CurvePoint]:
        """What was measured, in order."""
        return self._curve.points

    @property
    def setting(self) -> Setting:
        """The best setting so far: what is tried now, and smaller payloads at the end of the input, left out."""
        return self._base.setting

    @property
    def chosen(self) -> str:
        """What the search has found so far, for the data log."""
        return told_choice(self._base, self._tries, self._settings)

    # -- what the run tells

    def observe(self, now: float, totals: Totals) -> None:
        """Take the counters into account; call it every `slice_seconds` / 2 or so, more often is of no use."""
        self._remaining, self._answers = totals.remaining_bytes, totals.answers
        if not self._started:
            self._started = True
            self._curve.start(now)
            self._must_settle = False
            self._meter.begin(totals, concurrency=self.concurrency, waits_rounds=0)
        if self._must_settle:
            self._begin(totals)
        elif is_near_end(self._base.setting, self._remaining, self._settings):
            self._trial = None
        else:
            self._look(now, totals)
        self._publish()

    def refused(self, now: float, sent_at: float, payload_bytes: int, *, under_way: int = 1) -> bool:
        """Tell at once that a request was refused (429, 503), ran out of time or lost its connection.

        Args:
            now: The time.
            sent_at: When the request was sent: those sent under an earlier setting tell nothing of this one.
            payload_bytes: What it carried: payloads of an abandoned, larger size come again after their back-off.
            under_way: Requests under way with it: more than are allowed now, where connecting for it took its time.

        Returns:
            Whether the search brought it about, by asking more than the server can take: then it is no failed attempt.
        """
        trial, refusals, holds = self._trial, self._refusals, self._held
        stale = refusals.is_stale(now, sent_at) or under_way > holds.concurrency
        if stale or (self._settings.tunes_payload and payload_bytes > holds.payload_bytes):
            return refusals.provoked
        self._trial = None
        self._curve.note(now, holds, Verdict.REFUSED)
        self._tries += trial is not None
        refusals.provoked = trial is not None and trial.grows and not trial.compares
        if trial is None or not refusals.provoked:
            self._back_off(now)
        else:
            self._climb.was_refused(trial, self._base, now)
            if trial.move is Move.LARGER_PAYLOADS:
                stretch = trial.setting.payload_bytes / self._base.setting.payload_bytes
                refusals.forgive(now, LENIENT * trial.base.latency_seconds * stretch)
        self._probing.hurry(refusals.slots.until)
        self._change(now)
        self._publish()
        return refusals.provoked

    def too_large(self, now: float, payload_bytes: int) -> None:
        """Tell at once that a payload of so many bytes was refused for its size (413)."""
        refusals, trial, base = self._refusals, self._trial, self._base
        if not self._settings.tunes_payload or refusals.is_too_large(payload_bytes):
            return
        refusals.largest = payload_bytes
        self._curve.note(now, Setting(concurrency=self.concurrency, payload_bytes=payload_bytes), Verdict.TOO_LARGE)
        if trial is not None and trial.setting.payload_bytes >= payload_bytes:
            self._trial = None
            self._tries += 1
        if base.setting.payload_bytes >= payload_bytes:
            self._trial = None
            base.move(self._fit(base.setting.concurrency, payload_bytes // SMALLER_BY))
        self._change(now)
        self._publish()

    def cuts(self, payload_bytes: int) -> bool:
        """Return whether a payload that is to be sent again is larger than those that are formed now."""
        if not self._settings.tunes_payload:
            return False
        return payload_bytes > CUT_ABOVE * self._base.setting.payload_bytes or self._refusals.is_too_large(
            payload_bytes
        )

    def holds(self, now: float) -> bool:
        """Return whether payloads that back off hold their slots: just after what is no trial was refused.

        So they do as long as a single request at a time is refused.
        """
        refusals = self._refusals
        return not refusals.provoked and (self.concurrency == 1 or refusals.forgives(now))

    # -- the base

    @property
    def _held(self) -> Setting:
        return self._base.setting if self._trial is None else self._trial.held

    def _look(self, now: float, totals: Totals) -> None:
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
            self._base.know(())  # before anything else is tried, the server is to be done with this
        if self._trial is None and len(self._base) and not self._must_settle:
            self._choose(now)
        if self._must_settle:
            self._refusals.changed(now)
            self._begin(totals)

    def _watch(self, now: float, measured: Slice) -> None:
        """Take a slice of the base; begin anew if the server is another one now."""
        base = self._base
        base.add(measured)
        self._curve.note(now, base.setting, Verdict.KEPT, measured)
        fitted = self._fit(base.setting.concurrency, base.setting.payload_bytes)
        if fitted != base.setting:  # answers turned out to need more room
            base.move(fitted)
            self._must_settle = True
        settled = self._probing.settled_rate
        if settled is None or len(base) < KEPT_SLICES or not self._probing.affords(now):
            return
        rate = base.rate
        if abs(rate - settled) > self._settings.drift * settled:
            self._climb.restart(payloads=True, slower=rate < settled)
            self._probing.wake()
            self._probing.hurry()

    def _back_off(self, now: float) -> None:
        """Halve what is asked of the server: requests at a time, or payloads if there is one request."""
        base = self._base
        round_seconds = base.slice.latency_seconds if len(base) else 0.0
        self._refusals.forgive(now, max(round_seconds, self._settings.slice_seconds))
        slots, payload = base.setting.concurrency, base.setting.payload_bytes
        smaller = self._climb.smaller_before(now)
        if smaller is not None:
            self._refusals.payload.hit(payload, now)
            base.move(smaller)
            return
        self._refusals.slots.hit(slots, now)
        if slots == 1 and self._refusals.again(self._answers):
            payload //= 2  # nothing was answered since the last time, so the number of requests is not what is too much
        base.move(self._fit(slots // 2, payload))
        self._climb.restart(payloads=False)
        self._probing.wake()

    # -- trials

    def _choose(self, now: float) -> None:
        """Begin the next trial, if one is due."""
        base, climb = self._base, self._climb
        if self._refusals.forgives(now):
            return
        if self._probing.settled_rate is not None:
            if not self._probing.is_due(now, whatever_it_costs=climb.expects_of_size(base, now)):
                return
            self._probing.wake()
            climb.look_again(base, now)
        for move in Move:
            setting = climb.propose(move, base, now, self._remaining)
            if setting is not None:
                self._trial = Trial.of(
                    move,
                    setting,
                    base,
                    now=now,
                    remaining=self._remaining,
                    settings=self._settings,
                    scaling=scales(*climb.last_step),
                    first_climb=not self._probing.has_rested,
                )
            if self._trial is not None:
                self._must_settle = True
                return
            climb.give_up(move)
            if move is Move.MORE_SLOTS and climb.glanced:
                climb.glanced = False
                base.know(())
                self._must_settle = True
                return
        held_until = min((one for one in self._refusals.ends if one > now), default=now)
        self._probing.rest(now, base.rate, found=climb.found, unsure=climb.unsure, held_until=held_until)

    def _judge(self, now: float, trial: Trial, measured: Slice) -> None:
        """Take or leave a setting, or measure on."""
        grows = trial.move is Move.LARGER_PAYLOADS and not trial.compares
        if grows and measured.payload_bytes < FILLED * trial.setting.payload_bytes and now < trial.deadline:
            return  # refused payloads of an earlier size that came again
        trial.add(measured, self._rate(measured), now)
        outcome = trial.outcome(self._settings)
        if outcome is TrialOutcome.TAKE:
            self._take(now, trial)
        elif outcome is TrialOutcome.LEAVE:
            self._leave(now, trial)
        elif outcome is TrialOutcome.COMPARE:
            self._curve.note(now, trial.setting, Verdict.TRIED, measured)
            trial.compare(now)
            self._must_settle = True
        elif outcome is TrialOutcome.FALL_BACK:
            trial.fall_back(self._fit(trial.enough_slots(), trial.setting.payload_bytes))
            self._must_settle = True

    def _take(self, now: float, trial: Trial) -> None:
        self._curve.note(now, trial.setting, Verdict.TAKEN, trial.slices[-1])
        self._spend(now, trial)
        self._trial = None
        self._must_settle = trial.compares
        self._base.move(trial.setting, trial.slices)
        self._climb.took(trial, self._base, now)

    def _leave(self, now: float, trial: Trial) -> None:
        self._curve.note(now, trial.setting, Verdict.LEFT, trial.slices[-1] if trial.slices else None)
        self._spend(now, trial)
        self._trial = None
        self._must_settle = not trial.slices_back
        if trial.slices_back:
            self._base.know(trial.slices_back)
        self._climb.left(trial, self._base, now)

    def _spend(self, now: float, trial: Trial) -> None:
        self._tries += 1
        self._probing.spend(trial.cost(now))

    # -- small things

    def _change(self, now: float) -> None:
        """Have another setting hold from now on."""
        self._refusals.changed(now)
        self._must_settle = True

    def _begin(self, totals: Totals) -> None:
        """Measure what holds now, once the requests of what held before are answered."""
        self._must_settle = False
        # Where more slots are tried a first glance is enough, since most servers have far fewer or far more.
        glances = self._trial is not None and self._trial.glances
        self._meter.begin(totals, concurrency=self._held.concurrency, waits_rounds=1 if glances else 2)

    def _publish(self) -> None:
        self.concurrency = self._held.concurrency
        self.payload_bytes = tapered(self._held, self._remaining, self._settings)

    def _fit(self, concurrency: int, payload_bytes: int) -> Setting:
        fitted = self._settings.fitted(concurrency, payload_bytes, self._answer_ratio)
        if self._refusals.is_too_large(fitted.payload_bytes):
            return replace(fitted, payload_bytes=max(1, min(payload_bytes, (self._refusals.largest or 1) - 1)))
        return fitted

    def _rate(self, measured: Slice) -> float:
        return measured.byte_rate if self._settings.tunes_payload else measured.answer_rate
