"""Make payloads smaller at the end of the input, so that all requests at a time end at about the same moment. Pure."""

from millrace.dataplane.autotune_settings import AutotuneSettings, Setting

__all__ = ["is_near_end", "tapered"]

TAPER = 2
"""Payloads shrink from when there are fewer than so many for each request at a time."""
TAPERED_SHARE = 4
"""They shrink to no less than this part of their size."""


def is_near_end(setting: Setting, remaining: int | None, settings: AutotuneSettings) -> bool:
    """Return whether payloads shrink, so that they tell nothing of the setting any more."""
    if not settings.tunes_payload or remaining is None:
        return False
    return remaining < TAPER * setting.concurrency * setting.payload_bytes


def tapered(setting: Setting, remaining: int | None, settings: AutotuneSettings) -> int:
    """Return the size to aim at, where so many bytes of the input are in no payload yet."""
    payload = setting.payload_bytes
    if not settings.tunes_payload or remaining is None:
        return payload
    share = remaining // (TAPER * setting.concurrency)
    return min(payload, max(share, payload // TAPERED_SHARE, settings.least_payload()))
