"""What bounds and guides the search for concurrency and payload size."""

from dataclasses import dataclass

from millrace.jobs.transform import DEFAULT_MAX_PAYLOAD_BYTES, MIB

__all__ = ["AutotuneSettings", "Setting"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """How many requests are under way at a time, and what size of payload is aimed at."""

    concurrency: int
    payload_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class AutotuneSettings:
    """Limits that hold always, where the search starts, and what it takes for a difference.

    Raises:
        ValueError: A limit is below what it must be at least, or the first guess is outside of the limits.
    """

    tunes_payload: bool = True
    """Whether payloads hold many records: then rates are bytes a second and payloads are sized, else requests count."""
    max_concurrency: int = 256
    """Most requests at a time: MaxConcurrentTransforms where the client stated it."""
    max_payload_bytes: int = DEFAULT_MAX_PAYLOAD_BYTES
    """Largest payload: MaxPayloadInMB where it was stated."""
    least_payload_bytes: int = 16 * 1024
    """Payloads are made no smaller, unless `max_payload_bytes` is."""
    inflight_bytes: int = 48 * MIB
    """Bytes that the run may hold: all payloads under way and their answers must fit."""
    reserve_bytes: int = 4 * MIB
    """Of these, what is read ahead."""
    first_concurrency: int = 2
    """Where the search starts: the container's own wish, else the number of processors."""
    first_payload_bytes: int = 128 * 1024
    """Small, so that even a slow model soon answers for the first time."""
    longest_request_seconds: float = 30.0
    """Payloads are not made so large that a request takes longer: well below its time-out."""

    slice_seconds: float = 0.05
    """Least time over which a rate is taken."""
    slice_answers: int = 2
    """Least answers over which a rate is taken; one for each request under way, if that is more."""
    slices: int = 3
    """Slices of which the median decides, where the first does not show a difference beyond doubt."""
    slots_gain: float = 1.03
    """More requests at a time must bring at least so many times the rate: a queue in the server brings none."""
    payload_loss: float = 0.02
    """Share of the time that requests may cost beyond what their bytes cost; payloads grow until it is less."""
    probe_seconds: float = 2.0
    """First pause between two looks whether more requests at a time have become worth while; doubles in vain."""
    longest_probe_seconds: float = 60.0
    probe_share: float = 0.04
    """Share of the time that such looks may cost."""
    short_request_seconds: float = 0.25
    """Payloads grow until a request takes so long, whatever was measured of overhead: that is never too long."""
    drift: float = 0.25
    """Share by which the rate must change for the search to begin anew."""
    curve_points: int = 256
    """Points kept of the curve; with more, older ones of settings that were kept are thinned out."""

    def __post_init__(self) -> None:
        for name in ("max_concurrency", "max_payload_bytes", "first_concurrency", "first_payload_bytes", "slices"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.curve_points < 8:
            raise ValueError(f"curve_points must be at least 8, got {self.curve_points}")
        if not 0 <= self.reserve_bytes < self.inflight_bytes:
            raise ValueError(
                f"reserve_bytes must be at least 0 and below inflight_bytes ({self.inflight_bytes}), "
                f"got {self.reserve_bytes}"
            )

    def least_payload(self) -> int:
        """Return the smallest payload aimed at."""
        return min(self.least_payload_bytes, self.max_payload_bytes)

    def fitted(self, concurrency: int, payload_bytes: int, answer_ratio: float) -> Setting:
        """Return the setting within all limits that is nearest; requests come first, payloads get the room left.

        Args:
            concurrency: Requests wanted at a time.
            payload_bytes: Bytes wanted in each.
            answer_ratio: Bytes of answers for each byte of payloads, which need room too.
        """
        concurrency = max(1, min(concurrency, self.max_concurrency))
        if not self.tunes_payload:
            return Setting(concurrency=concurrency, payload_bytes=self.max_payload_bytes)
        least, room = self.least_payload(), self._room(answer_ratio)
        concurrency = max(1, min(concurrency, room // least))
        return Setting(
            concurrency=concurrency,
            payload_bytes=max(least, min(payload_bytes, self.max_payload_bytes, room // concurrency)),
        )

    def slots_with_room(self, payload_bytes: int, answer_ratio: float) -> int:
        """Return how many payloads of a size fit into memory with their answers."""
        return self._room(answer_ratio) // payload_bytes

    def _room(self, answer_ratio: float) -> int:
        return int((self.inflight_bytes - self.reserve_bytes) / (1.0 + answer_ratio))
