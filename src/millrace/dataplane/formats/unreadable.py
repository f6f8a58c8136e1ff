"""Say why an object cannot be read, or its output not written, in the format that was asked for."""

from millrace.dataplane.gzip import CorruptGzip
from millrace.dataplane.zstd import CorruptZstd

__all__ = ["UNREADABLE", "UnfitFormat"]


class UnfitFormat(Exception):
    """An object's content does not fit its format; the message names the rule, and column and row where it can."""


UNREADABLE = (CorruptGzip, CorruptZstd, UnfitFormat)
"""What reading and converting raise where the object is at fault, not the platform."""
