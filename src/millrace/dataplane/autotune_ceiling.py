"""Remember from where on a server refused, and for how long that is believed."""

__all__ = ["Ceiling"]


class Ceiling:
    """What is refused at a value may be allowed later: it is believed for a while, longer each time it proves right."""

    def __init__(self, *, first_seconds: float, longest_seconds: float) -> None:
        self._first_seconds = first_seconds
        self._longest_seconds = longest_seconds
        self._hold_seconds = first_seconds
        self.value: int | None = None
        """The smallest value that was refused."""
        self._above: int | None = None
        """A larger one, which counts if the smallest goes well."""
        self.until = 0.0

    def hit(self, value: int, now: float, *, at_least: float = 0.0) -> None:
        """Tell that a value was refused; it is believed for `at_least` seconds, within the longest time."""
        again = self.value is not None and value >= self.value
        if self.value is not None and value != self.value:
            self._above = max(value, self.value)
        self._hold_seconds = min(2.0 * self._hold_seconds, self._longest_seconds) if again else self._first_seconds
        self.value = value if self.value is None else min(value, self.value)
        self.until = now + min(max(self._hold_seconds, at_least), self._longest_seconds)

    def passed(self, value: int) -> None:
        """Tell that a value went well."""
        if self.value is not None and value >= self.value:
            self.value = self._above if self._above is not None and self._above > value else None
            self._above = None
            self._hold_seconds = self._first_seconds

    def limit(self, now: float) -> int | None:
        """Return the value that must not be reached now, None if there is none."""
        return self.value if self.value is not None and now < self.until else None
