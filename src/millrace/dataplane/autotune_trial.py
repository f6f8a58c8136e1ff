"""Judge a setting that is tried beside another, from the slices measured so far. Pure.

What a trial shows is believed if it could be expected: larger payloads are no slower, more requests at a time bring
much or nothing. Else somebody else may have used the server's processors just then, or ceased to. So the base is
measured again before a surprise is believed, and the trial compared with the base before and after it.
"""

import statistics
from dataclasses import dataclass, field
from enum import Enum, auto

from millrace.dataplane.autotune_base import Base
from millrace.dataplane.autotune_measure import Slice
from millrace.dataplane.autotune_moves import STEP, busy_slots
from millrace.dataplane.autotune_settings import AutotuneSettings, Setting

__all__ = ["Move", "Trial", "TrialOutcome"]

PATIENCE = 4.0
"""A trial may take so many times as long as it would if latency grew with all that was raised."""
PATIENCE_SECONDS = 0.2
WORTH = 6.0
"""What is left of a job must take so many times as long as a trial of fewer or more slots."""
PAYLOAD_WORTH = 3.0
"""The same for payloads: what they gain is foreseen, and trying them seldom costs anything."""
BEYOND_DOUBT = 1.3
"""So many times the base's rate need no second slice."""
SMALL_DOUBT = 0.1
"""With two slices that are so far from enough, no third one is waited for."""
FLAT = 0.9
"""More requests at a time seldom give less than this share of the rate."""
LITTLE = 1.1
"""Fewer requests at a time seldom give more than so many times the rate."""
SLICES_BACK = 2
"""Slices of the base that are measured again."""
_TAKEN_ON_FORESIGHT = 1.0


class Move(Enum):
    """What a trial changes, in the order in which moves are thought of."""

    MORE_SLOTS = auto()
    FEWER_SLOTS = auto()
    LARGER_PAYLOADS = auto()
    SMALLER_PAYLOADS = auto()


_LEAST_GAIN = {Move.LARGER_PAYLOADS: 0.94, Move.SMALLER_PAYLOADS: 1.03, Move.FEWER_SLOTS: 0.97}
"""Times the base's rate from which on a setting is taken; for more slots it is a setting.

What larger payloads gain is foreseen, and less than a few noisy slices can show: only a clear loss speaks against them.
"""


class TrialOutcome(Enum):
    """What the slices of a trial say."""

    UNDECIDED = auto()
    TAKE = auto()
    LEAVE = auto()
    FALL_BACK = auto()
    """A glance shows that far fewer slots would do: try those instead."""
    COMPARE = auto()
    """It is a surprise: measure the base once more."""


@dataclass(kw_only=True, slots=True)
class Trial:
    """A setting that is being measured."""

    move: Move
    setting: Setting
    base_setting: Setting
    base: Slice
    """What was measured of the base."""
    base_rate: float
    base_doubt: float
    """Share by which its slices differ."""
    base_is_sure: bool
    """Whether enough slices of the base are known."""
    first_climb: bool
    """Whether the search has not come to rest before: then it is in a hurry, and payloads are small."""
    began_at: float
    ended_at: float | None = None
    """When the base took over again, to be compared with."""
    patience: float
    """Seconds in which the next slice must come."""
    deadline: float
    rates: list[float] = field(default_factory=list)
    slices: list[Slice] = field(default_factory=list)
    fell_back: bool = False
    """Whether it began with more slots than would do."""
    compares: bool = False
    """Whether the base is being measured again."""
    rates_back: list[float] = field(default_factory=list)
    slices_back: list[Slice] = field(default_factory=list)

    @property
    def held(self) -> Setting:
        """What requests are sent with now."""
        return self.base_setting if self.compares else self.setting

    @property
    def gain(self) -> float:
        """Times by which the rate is the base's; 0 while nothing is measured."""
        if not self.rates:
            return 0.0
        if self.rates_back:  # what disturbs makes a server slower, never faster: the best of as many slices tells most
            tried = self.rates[1:] if self.glances_first and len(self.rates) > 1 else self.rates
            return max(tried) / max(self.base_rate, *self.rates_back)
        return statistics.median(self.rates) / self.base_rate

    @property
    def grows(self) -> bool:
        """Whether it asks more of the server than the base does."""
        return self.move in (Move.MORE_SLOTS, Move.LARGER_PAYLOADS)

    @property
    def glances_first(self) -> bool:
        """Whether the first slice was taken at a glance."""
        return self.move is Move.MORE_SLOTS and self.first_climb and not self.fell_back

    @property
    def glances(self) -> bool:
        """Whether the first round of answers is enough: most servers have far fewer slots, or far more."""
        return self.glances_first and not self.compares

    def add(self, measured: Slice, rate: float, now: float) -> None:
        """Take a slice into account."""
        slices, rates = (self.slices_back, self.rates_back) if self.compares else (self.slices, self.rates)
        slices.append(measured)
        rates.append(rate)
        self.deadline = now + self.patience

    def outcome(self, settings: AutotuneSettings) -> TrialOutcome:
        """Return what the slices say so far; there is at least one."""
        if self.compares:
            if len(self.rates_back) < SLICES_BACK:
                return TrialOutcome.UNDECIDED
            return TrialOutcome.TAKE if self.gain >= self._least(settings) else TrialOutcome.LEAVE
        if self._overshoots():
            return TrialOutcome.FALL_BACK
        outcome = self._first_impression(settings)
        surprise = outcome is not TrialOutcome.UNDECIDED and self._surprises(outcome)
        return TrialOutcome.COMPARE if surprise else outcome

    @classmethod
    def of(
        cls,
        move: Move,
        setting: Setting,
        base: Base,
        *,
        now: float,
        remaining: int | None,
        settings: AutotuneSettings,
        scaling: bool = False,
        first_climb: bool,
    ) -> "Trial | None":
        """Return the trial of a setting, None if too little is left of the job for it.

        Args:
            move: What it changes.
            setting: What is tried.
            base: What it is compared with.
            now: The time.
            remaining: Bytes of input that are in no payload yet, if that is known.
            settings: Bounds.
            scaling: Whether more requests at a time have just brought as much more.
            first_climb: Whether the search has not come to rest before.
        """
        known = base.slice
        stretch = max(1.0, setting.concurrency / base.setting.concurrency)
        stretch *= max(1.0, setting.payload_bytes / base.setting.payload_bytes)
        seconds = 2.0 * known.latency_seconds * stretch + settings.slice_seconds
        patience = PATIENCE * seconds + PATIENCE_SECONDS
        if move is Move.MORE_SLOTS and scaling:
            seconds = 2.0 * known.latency_seconds + settings.slice_seconds
        worth = PAYLOAD_WORTH if move is Move.LARGER_PAYLOADS else WORTH
        if remaining is not None and known.byte_rate * seconds * worth > remaining:
            return None
        return cls(
            move=move,
            setting=setting,
            base_setting=base.setting,
            base=known,
            base_rate=base.rate,
            base_doubt=base.doubt,
            base_is_sure=len(base) >= settings.slices,
            first_climb=first_climb,
            began_at=now,
            patience=patience,
            deadline=now + patience,
        )

    def cost(self, now: float) -> float:
        """Return the seconds of work that were lost by it, less than none if it paid."""
        return ((self.ended_at or now) - self.began_at) * (1.0 - self.gain)

    def compare(self, now: float) -> None:
        """Go back to the base, to measure it once more."""
        self.compares = True
        self.ended_at = now

    def enough_slots(self) -> int:
        """Return how many requests at a time should do, as far as is known."""
        return busy_slots(self.base_setting.concurrency, self.gain)

    def fall_back(self, setting: Setting) -> None:
        """Try a setting with fewer slots instead."""
        self.setting = setting
        self.rates.clear()
        self.slices.clear()
        self.fell_back = True

    def _least(self, settings: AutotuneSettings) -> float:
        if self.move is Move.MORE_SLOTS:
            return settings.slots_gain + self.base_doubt / 2
        least = _LEAST_GAIN[self.move]
        return least - self.base_doubt / 2 if self.move is Move.LARGER_PAYLOADS else least

    def _first_impression(self, settings: AutotuneSettings) -> TrialOutcome:
        gain, least = self.gain, self._least(settings)
        foreseen = self.move is Move.LARGER_PAYLOADS and gain >= _TAKEN_ON_FORESIGHT
        if foreseen or min(self.rates) >= BEYOND_DOUBT * self.base_rate:
            return TrialOutcome.TAKE
        if len(self.rates) >= settings.slices:
            return TrialOutcome.TAKE if gain >= least else TrialOutcome.LEAVE
        hopeless = len(self.rates) > 1 and max(self.rates) < (least - SMALL_DOUBT) * self.base_rate
        return TrialOutcome.LEAVE if hopeless else TrialOutcome.UNDECIDED

    def _surprises(self, outcome: TrialOutcome) -> bool:
        gain, taken = self.gain, outcome is TrialOutcome.TAKE
        if self.move is Move.MORE_SLOTS:
            if taken:
                return not self.first_climb or gain < BEYOND_DOUBT
            return gain < FLAT or not self.base_is_sure
        if self.move is Move.FEWER_SLOTS:
            return taken and gain > LITTLE
        return taken is (self.move is Move.SMALLER_PAYLOADS)

    def _overshoots(self) -> bool:
        slots, tried = self.base_setting.concurrency, self.setting.concurrency
        return self.glances and tried > STEP * slots and slots < self.enough_slots() <= tried // STEP
