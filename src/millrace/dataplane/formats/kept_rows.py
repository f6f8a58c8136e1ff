"""Say what opens the rows of an output, for all that make something of them."""

from collections.abc import AsyncGenerator, Callable

__all__ = ["Rows"]

Rows = Callable[[], AsyncGenerator[bytes, None]]
"""Opens the rows of an output from their beginning, as chunks cut anywhere; it may be called twice."""
