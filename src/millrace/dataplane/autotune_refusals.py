"""Remember what a server refused: how many requests at a time, and payloads of which size. Pure.

A refusal comes once for each request that was sent before the search could answer to the first one: those tell nothing
new, and are recognized by when they were sent, by their size, and by coming shortly after.
"""

from millrace.dataplane.autotune_ceiling import Ceiling
from millrace.dataplane.autotune_settings import AutotuneSettings

__all__ = ["Refusals"]

FIRST_HOLD_SECONDS = 1.0
"""A refusal is first believed for so long: some are bursts."""
SLOWER_HOLD_SECONDS = 1.0
"""A payload size that was slower is first believed to be for so long: others may have kept the server busy."""
LONGEST_SLOWER_HOLD_SECONDS = 60.0
LENIENT = 2.0
"""Large payloads of a trial that was refused may fill the server for so many times the time that one should take."""


class Refusals:
    """What must not be asked of the server, and until when."""

    def __init__(self, settings: AutotuneSettings) -> None:
        self.slots = Ceiling(first_seconds=FIRST_HOLD_SECONDS, longest_seconds=settings.longest_probe_seconds)
        self.payload = Ceiling(first_seconds=SLOWER_HOLD_SECONDS, longest_seconds=LONGEST_SLOWER_HOLD_SECONDS)
        """Payloads that were refused for want of memory, or slower."""
        self.largest: int | None = None
        """The smallest payload that the server called too large."""
        self.provoked = False
        """Whether the last refusals came of a trial."""
        self._alone_after: int | None = None
        self._changed_at = self._lenient_until = float("-inf")

    def is_stale(self, now: float, sent_at: float) -> bool:
        """Return whether a refusal tells of an earlier setting, or of what that left behind in the server."""
        return sent_at < self._changed_at or self.forgives(now)

    def forgives(self, now: float) -> bool:
        """Return whether what was asked too much may still be with the server."""
        return now < self._lenient_until

    def changed(self, now: float) -> None:
        """Take note that another setting holds from now on."""
        self._changed_at = now

    def forgive(self, now: float, seconds: float) -> None:
        """Take note that what was asked too much stays with the server for a while."""
        self._lenient_until = now + seconds

    def again(self, answers: int) -> bool:
        """Take note that a single request was refused after so many answers; True if there were none since the last."""
        refused, self._alone_after = self._alone_after, answers
        return refused == answers

    def is_too_large(self, payload_bytes: int) -> bool:
        """Return whether a payload is as large as one that was too large."""
        return self.largest is not None and payload_bytes >= self.largest

    @property
    def ends(self) -> tuple[float, float]:
        """When what was refused may be tried again."""
        return self.slots.until, self.payload.until

    def payload_limit(self, now: float) -> int | None:
        """Return the size that payloads must not reach now, None if there is none."""
        known = [one for one in (self.payload.limit(now), self.largest) if one is not None]
        return min(known) if known else None
