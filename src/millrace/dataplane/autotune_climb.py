"""Propose what to try next, and learn from what became of it. Pure.

The number of requests comes first, with small payloads that are soon answered: it grows until that brings nothing.
Then how latency grows with size tells what a request costs beyond its bytes, and thereby the size from which on that is
small.
"""

from collections.abc import Callable

from millrace.dataplane.autotune_base import Base
from millrace.dataplane.autotune_measure import Slice
from millrace.dataplane.autotune_moves import next_payload, next_slots, overhead_bytes
from millrace.dataplane.autotune_refusals import Refusals
from millrace.dataplane.autotune_settings import AutotuneSettings, Setting
from millrace.dataplane.autotune_trial import FLAT, SMALL_DOUBT, Move, Trial

__all__ = ["FILLED", "Climb"]

FILLED = 0.6
"""Share of the size aimed at that payloads must have for the size to matter: objects may be smaller."""
STILL_LARGE_LOSS = 0.1
"""A size short of one that was slower is tried only if more than this is to be gained."""
LEAST_WAVES = 8
"""Payloads grow only as long as so many are left for each request at a time: the last ones leave some idle."""
ROUND_SHARE = 0.02
ROUND_SECONDS = 0.5
"""A long step is one whose requests, if all had to wait, would take at most this share of the time left, or this."""
HELD_FOR_COST = 3.0
"""Payloads that were slower are not tried again before so many times the time that they cost,"""
HELD_FOR_NOTHING = 10.0
"""or so many times, if no answer came while there was patience: no passing trouble explains that."""
MOST_SIZE_LOSSES = 4
"""After so many trials of larger payloads that were left in a row, no more is expected of them."""
PROVEN_SECONDS = 5.0
"""A size that was taken is to blame for refusals for so long."""
NEAR = 2
"""A limit of fewer times the size leaves little to gain."""
FEWER = 0.8
"""Fewer requests at a time are tried if this share of them should do."""


class Climb:
    """What is still to be tried.

    `fit` returns the nearest setting that is allowed, `room_for` how many payloads of a size the run can hold.
    """

    def __init__(
        self,
        settings: AutotuneSettings,
        refusals: Refusals,
        *,
        fit: Callable[[int, int], Setting],
        room_for: Callable[[int], int],
    ) -> None:
        self._settings = settings
        self._refusals = refusals
        self._fit = fit
        self._room_for = room_for
        self._slots_settled = False
        self._last_step = self._last_gain = 1.0
        self._knee: int | None = None
        """Fewer requests at a time that should do."""
        self._payload_settled = not settings.tunes_payload
        self._overhead: float | None = None
        self._smallest: Slice | None = None
        """What was measured with the smallest payloads at as many requests at a time: far apart, two tell most."""
        self._size_losses = 0
        """Trials of larger payloads that were left since the last that was taken."""
        self._before: Setting | None = None
        self._proven_at = 0.0
        """When nothing that is refused can be put down to larger payloads any more, and what they took the place of."""
        self._eases = False
        """Whether less may be more: the server has become slower."""
        self.glanced = False
        """Whether the base was taken at a first glance, at requests some of which waited in a shorter queue."""
        self.found = False
        """Whether the climb under way took anything."""
        self.unsure = False
        """Whether it met something slower than could be expected, as what disturbs for a moment is."""

    @property
    def last_step(self) -> tuple[float, float]:
        """Times by which the last step in slots raised them, and the rate."""
        return self._last_step, self._last_gain

    def restart(self, *, payloads: bool, slower: bool = False) -> None:
        """Begin anew from where the base is.

        Args:
            payloads: Whether the size is searched anew as well, else only if it is known that more may be gained.
            slower: Whether the server has become slower.
        """
        self._slots_settled = False
        self._last_step = self._last_gain = 1.0
        self._knee = None
        self._eases = slower
        self.found = self.unsure = False
        if payloads:
            self._smallest = None
            self._payload_settled = not self._settings.tunes_payload

    def look_again(self, base: Base, now: float) -> None:
        """Climb again although nothing has changed as far as is known."""
        self.restart(payloads=False)
        self._slots_settled = self.expects_of_size(base, now)  # which then comes first
        self._payload_settled = not self._may_gain_by_size(base)

    def expects_of_size(self, base: Base, now: float) -> bool:
        """Return whether much is to be gained by larger payloads, and trials of them were left by bad luck perhaps."""
        limit = self._refusals.payload_limit(now)
        return (
            0 < self._size_losses < MOST_SIZE_LOSSES
            and self._may_gain_by_size(base)
            and (limit is None or limit > NEAR * base.setting.payload_bytes)
        )

    def propose(self, move: Move, base: Base, now: float, remaining: int | None) -> Setting | None:
        """Return the setting that a move leads to, None if there is none."""
        wanted = _PROPOSALS[move](self, base, now, remaining)
        return None if wanted == base.setting else wanted

    def give_up(self, move: Move) -> None:
        """Take note that nothing comes of a move for now."""
        if move is Move.MORE_SLOTS:
            self._slots_settled = True
        elif move is Move.FEWER_SLOTS:
            self._knee = None
        elif move is Move.LARGER_PAYLOADS:
            self._payload_settled = True
        else:
            self._eases = False

    def smaller_before(self, now: float) -> Setting | None:
        """Return what the base was until just now, if larger payloads were taken since: those were too much, then."""
        before, self._before = self._before, None
        return before if now < self._proven_at else None

    def took(self, trial: Trial, base: Base, now: float) -> None:
        """Learn from a setting that was taken and is the base now."""
        self._before = trial.base_setting if trial.move is Move.LARGER_PAYLOADS else None
        self._proven_at = now + PROVEN_SECONDS
        self.found = self.found or trial.move is not Move.FEWER_SLOTS
        if trial.setting.concurrency != trial.base_setting.concurrency:
            self._smallest = None
        if trial.move is Move.LARGER_PAYLOADS:
            self._size_losses = 0
            self._smallest = self._smallest or trial.base
            self._overhead = overhead_bytes(self._smallest, base.slice)
            self._refusals.payload.passed(trial.setting.payload_bytes)
        elif trial.move is Move.FEWER_SLOTS:
            self._knee = None
        elif trial.move is Move.MORE_SLOTS:
            self.glanced = trial.glances and len(trial.slices) == 1
            self._refusals.slots.passed(trial.setting.concurrency)
            self._last_step = trial.setting.concurrency / trial.base_setting.concurrency
            self._last_gain = trial.gain
            self._knee = trial.enough_slots()

    def left(self, trial: Trial, base: Base, now: float) -> None:
        """Learn from a setting that was not taken."""
        self.give_up(trial.move)
        if trial.move is Move.LARGER_PAYLOADS:
            self._size_losses += 1
            if trial.gain < 1.0 - SMALL_DOUBT:
                hold = (HELD_FOR_COST if trial.slices else HELD_FOR_NOTHING) * trial.cost(now)
                self._refusals.payload.hit(trial.setting.payload_bytes, now, at_least=hold)
                self._payload_settled = not self._may_gain_by_size(base)
        self.unsure = self.unsure or (trial.grows and trial.gain < FLAT)

    def was_refused(self, trial: Trial, base: Base, now: float) -> None:
        """Learn from a setting that was refused."""
        if trial.move is Move.MORE_SLOTS:
            self._refusals.slots.hit(trial.setting.concurrency, now)
        else:
            self._refusals.payload.hit(trial.setting.payload_bytes, now)
            self._payload_settled = not self._may_gain_by_size(base)

    def _may_gain_by_size(self, base: Base) -> bool:
        """Whether a size short of the one that was worse would still be worth a trial, as far as is known."""
        overhead = self._overhead
        if not self._settings.tunes_payload:
            return False
        return overhead is None or base.setting.payload_bytes * STILL_LARGE_LOSS < overhead * (1.0 - STILL_LARGE_LOSS)

    # -- moves

    def _more_slots(self, base: Base, now: float, remaining: int | None) -> Setting | None:
        if self._slots_settled:
            return None
        known, slots, ceiling = base.slice, base.setting.concurrency, self._refusals.slots
        left = remaining / known.byte_rate if remaining is not None and known.byte_rate else 0.0
        wanted = next_slots(
            slots,
            self._last_step,
            self._last_gain,
            limit=self._settings.max_concurrency,
            longest_step=max(ROUND_SECONDS, ROUND_SHARE * left) / max(known.latency_seconds, 1e-6),
            ceiling=ceiling.limit(now),
        )
        if ceiling.value is not None:
            wanted = min(wanted, max(slots + 1, ceiling.value))
        payload = base.setting.payload_bytes
        if self._settings.tunes_payload:  # much smaller payloads would tell nothing of the number of requests
            least = min(payload, max(payload // 2, self._settings.first_payload_bytes))
            wanted = max(slots, min(wanted, self._room_for(least)))
        fitted = self._fit(wanted, payload)
        return fitted if fitted.concurrency > slots else None

    def _fewer_slots(self, base: Base, now: float, remaining: int | None) -> Setting | None:
        if self._knee is None or self._knee > FEWER * base.setting.concurrency:
            return None
        return self._fit(self._knee, base.setting.payload_bytes)

    def _larger_payloads(self, base: Base, now: float, remaining: int | None) -> Setting | None:
        known, payload, slots = base.slice, base.setting.payload_bytes, base.setting.concurrency
        if self._payload_settled or known.payload_bytes < FILLED * payload:
            return None
        ceiling = self._refusals.payload_limit(now)
        wanted = next_payload(
            payload,
            self._overhead,
            loss=self._settings.payload_loss,
            least=payload * self._settings.short_request_seconds / max(known.latency_seconds, 1e-6),
            ceiling=ceiling,
            firm=ceiling is not None and ceiling == self._refusals.largest,
        )
        if self._refusals.payload.value is not None:
            wanted = min(wanted, self._refusals.payload.value)
        if remaining is not None:
            wanted = min(wanted, remaining // (LEAST_WAVES * slots))
        fitted = self._fit(slots, wanted)
        longest = known.latency_seconds * fitted.payload_bytes / payload
        grows = fitted.payload_bytes > payload and longest <= self._settings.longest_request_seconds
        return fitted if grows else None

    def _smaller_payloads(self, base: Base, now: float, remaining: int | None) -> Setting | None:
        if not self._eases or not self._settings.tunes_payload:
            return None
        return self._fit(base.setting.concurrency, base.setting.payload_bytes // 2)


_PROPOSALS: dict[Move, Callable[[Climb, Base, float, int | None], Setting | None]] = {
    Move.MORE_SLOTS: Climb._more_slots,
    Move.FEWER_SLOTS: Climb._fewer_slots,
    Move.LARGER_PAYLOADS: Climb._larger_payloads,
    Move.SMALLER_PAYLOADS: Climb._smaller_payloads,
}
