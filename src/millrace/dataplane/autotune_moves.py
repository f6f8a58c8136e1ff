"""Say which setting to try next, from what was measured. Pure.

Two simple models choose the steps; a step is kept only if measuring it says so.

* A request of b bytes takes a + p * b. Its overhead is worth h = a / p bytes, and h / (b + h) of the time is lost to
  it: payloads grow until that loss is small, and no further, since large ones make the end of a job ragged, and are
  what servers run out of memory on.
* n requests at a time give n / L answers a second, L being what one takes alone, until the server is busy. Where n
  requests gave g times the rate of m < n, about g * m of them keep it busy.
"""

import math

from millrace.dataplane.autotune_measure import Slice

__all__ = ["busy_slots", "foreseen_gain", "next_payload", "next_slots", "overhead_bytes", "scales"]

STEP = 2
LONG_STEP = 8
FIRST_PAYLOAD_STEP = 4
LONGEST_PAYLOAD_STEP = 16
"""Where most of the time is lost to overhead, size matters little: else a server may be near what its memory holds."""
LEAST_PAYLOAD_STEP = 1.15
"""No smaller step in size is worth a trial,"""
LEAST_FORESEEN_GAIN = 1.01
"""unless it should bring so much."""
SCALES = 0.85
"""Share of a step in slots that must come back in rate for the next step to be a long one."""
LEAST_STEP_SHARE = 8
"""No smaller part of the requests at a time is worth a trial."""
SLACK = 1.15
"""Requests at a time, over those that keep the server busy: one waits while an answer is on its way."""


def overhead_bytes(small: Slice, large: Slice) -> float:
    """Return how many bytes' worth of time each request costs beyond its bytes; infinite if bytes cost nothing.

    Both slices have the same number of requests at a time: waiting in a queue then stretches both alike.
    """
    if large.payload_bytes <= small.payload_bytes:
        return 0.0
    per_byte = (large.latency_seconds - small.latency_seconds) / (large.payload_bytes - small.payload_bytes)
    if per_byte <= 0.0:
        return math.inf
    return max(0.0, small.latency_seconds / per_byte - small.payload_bytes)


def next_payload(
    current: int, overhead: float | None, *, loss: float, least: float = 0.0, ceiling: int | None, firm: bool = False
) -> int:
    """Return the payload size to try next, `current` if it is large enough.

    Args:
        current: Bytes.
        overhead: What a request costs beyond its bytes, in bytes; None if it is not known yet.
        loss: Share of the time that may be lost to it.
        least: A size that is small enough in any case.
        ceiling: A size that was refused or slower, if there is one.
        firm: Whether that size is refused always: then a small step towards it may pay.
    """
    if overhead is None:
        wanted = float(current * FIRST_PAYLOAD_STEP)
    else:
        step = LONGEST_PAYLOAD_STEP if overhead >= current else STEP
        wanted = min(overhead * (1.0 / loss - 1.0), float(current * step))
        wanted = max(wanted, min(least, float(current * STEP)))
    if ceiling is not None and wanted >= ceiling:
        wanted = (current + ceiling) / 2 if firm else math.sqrt(current * ceiling)
        if firm and wanted > current and foreseen_gain(current, wanted, overhead) >= LEAST_FORESEEN_GAIN:
            return int(wanted)
    return int(wanted) if wanted >= LEAST_PAYLOAD_STEP * current else current


def foreseen_gain(current: float, wanted: float, overhead: float | None) -> float:
    """Return the times by which a size should raise the rate; without bound if the overhead is."""
    if overhead is None or math.isinf(overhead):
        return wanted / current
    return wanted * (overhead + current) / (current * (overhead + wanted))


def next_slots(
    current: int, last_step: float, last_gain: float, *, limit: int, longest_step: float, ceiling: int | None
) -> int:
    """Return the number of requests at a time to try next, `current` if there is none.

    Args:
        current: Requests at a time.
        last_step: Times by which the last step raised them, 1 if there was none.
        last_gain: Times by which that raised the rate.
        limit: Most that are allowed.
        longest_step: Times by which a step may raise them at most; one of two is always allowed.
        ceiling: A number that was refused, if there is one.
    """
    step = max(STEP, min(LONG_STEP, int(longest_step))) if scales(last_step, last_gain) else STEP
    wanted = min(current * step, limit)
    if ceiling is not None and wanted >= ceiling:
        wanted = (current + ceiling) // 2
    return wanted if wanted - current >= max(1, current // LEAST_STEP_SHARE) else current


def scales(step: float, gain: float) -> bool:
    """Return whether a step in slots brought about as much in rate: the server is far from busy."""
    return step > 1.0 and gain >= SCALES * step


def busy_slots(before: int, gain: float) -> int:
    """Return how many requests at a time should do, where more than `before` gave `gain` times the rate."""
    return max(1, math.ceil(before * gain * SLACK))
