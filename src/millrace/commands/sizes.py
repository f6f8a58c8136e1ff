"""Word sizes and numbers of things for people. Pure."""

__all__ = ["counted", "told_part", "told_rate", "told_size"]

_UNITS = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


def told_size(count: float) -> str:
    """Return a number of bytes in the unit that suits it."""
    for unit, size in _UNITS:
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"


def told_part(part: float, whole: float) -> str:
    """Return how many bytes of how many, in the unit that suits the whole; nothing of nothing is not worth a word."""
    for unit, size in _UNITS:
        if whole >= size:
            return f"{part / size:.1f}/{whole / size:.1f} {unit}"
    return f"{part:.0f}/{whole:.0f} B" if whole else ""


def told_rate(bytes_per_second: float | None) -> str:
    """Return a rate in the unit that suits it, nothing where it is not known."""
    return "" if bytes_per_second is None else f"{told_size(bytes_per_second)}/s"


def counted(number: int, thing: str) -> str:
    """Return a number of things: `1 object`, `2,000 objects`."""
    return f"{number:,} {thing}{'s' * (number != 1)}"
