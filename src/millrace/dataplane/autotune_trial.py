"""Judge a setting that is tried beside another, from the slices measured so far."""

import statistics
from dataclasses import dataclass, field
from enum import Enum, auto

from millrace.dataplane.autotune_measure import Slice
from millrace.dataplane.autotune_moves import STEP, busy_slots
from millrace.dataplane.autotune_settings import AutotuneSettings, Setting

__all__ = ["Move", "Trial", "TrialOutcome"]

BEYOND_DOUBT = 1.3
"""So many times the base's rate need no second slice."""
SMALL_DOUBT = 0.1
"""With two slices that are so far from enough, no third one is waited for."""
_TAKEN_ON_FORESIGHT = 1.0


class Move(Enum):
    """What a trial changes."""

    LARGER_PAYLOADS = auto()
    SMALLER_PAYLOADS = auto()
    MORE_SLOTS = auto()
    FEWER_SLOTS = auto()


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


@dataclass(kw_only=True, slots=True)
class Trial:
    """A setting that is being measured."""

    move: Move
    setting: Setting
    base_setting: Setting
    base: Slice
    """What was measured of the base."""
    base_rate: float
    patience: float
    """Seconds in which the next slice must come."""
    deadline: float
    rates: list[float] = field(default_factory=list)
    slices: list[Slice] = field(default_factory=list)
    fell_back: bool = False
    """Whether it began with more slots than would do."""

    @property
    def gain(self) -> float:
        """Times by which the rate is the base's; 0 while nothing is measured."""
        return statistics.median(self.rates) / self.base_rate if self.rates else 0.0

    @property
    def grows(self) -> bool:
        """Whether it asks more of the server than the base does."""
        return self.move in (Move.MORE_SLOTS, Move.LARGER_PAYLOADS)

    @property
    def glances(self) -> bool:
        """Whether the first round of answers is enough: most servers have far fewer slots, or far more."""
        return self.move is Move.MORE_SLOTS and not self.fell_back

    def add(self, measured: Slice, rate: float, now: float) -> None:
        """Take a slice into account."""
        self.slices.append(measured)
        self.rates.append(rate)
        self.deadline = now + self.patience

    def outcome(self, settings: AutotuneSettings) -> TrialOutcome:
        """Return what the slices say so far; there is at least one."""
        if self._overshoots():
            return TrialOutcome.FALL_BACK
        gain = self.gain
        foreseen = self.move is Move.LARGER_PAYLOADS and gain >= _TAKEN_ON_FORESIGHT
        if foreseen or min(self.rates) >= BEYOND_DOUBT * self.base_rate:
            return TrialOutcome.TAKE
        least = _LEAST_GAIN.get(self.move, settings.slots_gain)
        if len(self.rates) >= settings.slices:
            return TrialOutcome.TAKE if gain >= least else TrialOutcome.LEAVE
        hopeless = len(self.rates) > 1 and max(self.rates) < (least - SMALL_DOUBT) * self.base_rate
        return TrialOutcome.LEAVE if hopeless else TrialOutcome.UNDECIDED

    def enough_slots(self) -> int:
        """Return how many requests at a time should do, as far as is known."""
        return busy_slots(self.base_setting.concurrency, self.gain)

    def fall_back(self, setting: Setting) -> None:
        """Try a setting with fewer slots instead."""
        self.setting = setting
        self.rates.clear()
        self.slices.clear()
        self.fell_back = True

    def _overshoots(self) -> bool:
        slots, tried = self.base_setting.concurrency, self.setting.concurrency
        return self.glances and tried > STEP * slots and slots < self.enough_slots() <= tried // STEP
