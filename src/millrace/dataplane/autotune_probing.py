"""Say when a search that has come to rest looks again, and bound what that costs. Pure."""

from millrace.dataplane.autotune_settings import AutotuneSettings

__all__ = ["Probing"]

UNSURE_SECONDS = 0.5
"""The pause where something disturbed the search."""
FREE_SECONDS = 0.5
"""Looking again may have cost so much at any time."""
MOST_SAVED_SECONDS = 1.0
"""What was gained by trials may be spent on others, up to so much."""


class Probing:
    """Pauses that double while looking again is in vain, and an account of what it cost."""

    def __init__(self, settings: AutotuneSettings) -> None:
        self._settings = settings
        self._pause = settings.probe_seconds
        self._next = float("inf")
        self._lost_seconds = 0.0
        self._first_rest: float | None = None
        self.settled_rate: float | None = None
        """The rate at which the search came to rest; None while it climbs."""

    @property
    def has_rested(self) -> bool:
        """Whether the first search is over."""
        return self._first_rest is not None

    def rest(self, now: float, rate: float, *, found: bool, unsure: bool, held_until: float) -> None:
        """Come to rest.

        Args:
            now: The time.
            rate: The rate that was reached.
            found: Whether the search found anything.
            unsure: Whether something may have disturbed it.
            held_until: When a ceiling ends: a look is due then.
        """
        settings = self._settings
        if self._first_rest is None:
            self._first_rest = now
        self._pause = settings.probe_seconds if found else min(2.0 * self._pause, settings.longest_probe_seconds)
        self.settled_rate = rate
        self._next = now + (min(self._pause, UNSURE_SECONDS) if unsure else self._pause)
        if now < held_until:
            self._next = min(self._next, held_until)

    def wake(self) -> None:
        """Climb again."""
        self.settled_rate = None

    def hurry(self, until: float | None = None) -> None:
        """Make pauses short again: the server is another one now. A look is due at `until` at the latest."""
        self._pause = self._settings.probe_seconds
        if until is not None:
            self._next = min(self._next, until)

    def is_due(self, now: float, *, whatever_it_costs: bool = False) -> bool:
        """Return whether to look again."""
        return now >= self._next and (whatever_it_costs or self.affords(now))

    def spend(self, seconds: float) -> None:
        """Account for what a trial cost."""
        if self._first_rest is not None:
            self._lost_seconds = max(self._lost_seconds + seconds, -MOST_SAVED_SECONDS)

    def affords(self, now: float) -> bool:
        """Return whether what was lost by looking again is little for the time that has passed."""
        rested = 0.0 if self._first_rest is None else now - self._first_rest
        return self._lost_seconds <= FREE_SECONDS + self._settings.probe_share * rested
