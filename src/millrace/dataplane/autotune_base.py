"""Keep what was measured of the best setting so far."""

import statistics
from collections import deque
from collections.abc import Callable, Iterable

from millrace.dataplane.autotune_measure import Slice
from millrace.dataplane.autotune_settings import Setting

__all__ = ["Base"]

KEPT_SLICES = 5
"""Slices that its rate is taken from."""


class Base:
    """A setting and the latest slices of it; `rate_of` says which rate counts."""

    def __init__(self, setting: Setting, rate_of: Callable[[Slice], float]) -> None:
        self.setting = setting
        self._rate_of = rate_of
        self._slices: deque[Slice] = deque(maxlen=KEPT_SLICES)

    def __len__(self) -> int:
        return len(self._slices)

    def move(self, setting: Setting, slices: Iterable[Slice] = ()) -> None:
        """Make another setting the base, with what is known of it."""
        self.setting = setting
        self.know(slices)

    def know(self, slices: Iterable[Slice]) -> None:
        """Replace what is known of the setting."""
        self._slices = deque(slices, maxlen=KEPT_SLICES)

    def add(self, measured: Slice) -> None:
        """Take a slice into account."""
        self._slices.append(measured)

    @property
    def rate(self) -> float:
        """The mean of the slices, without the best and the worst of many.

        Where three requests share two workers, slices take turns at two rates: their median would be either.
        """
        rates = sorted(map(self._rate_of, self._slices))
        return statistics.fmean(rates[1:-1] if len(rates) == KEPT_SLICES else rates)

    @property
    def doubt(self) -> float:
        """The share by which the slices differ."""
        rates = [self._rate_of(one) for one in self._slices]
        return (max(rates) - min(rates)) / max(rates)

    @property
    def slice(self) -> Slice:
        """The slice whose rate is the median."""
        return sorted(self._slices, key=self._rate_of)[len(self._slices) // 2]
