"""Turn what pyarrow raises about an object into our own error."""

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from millrace.dataplane.formats.unreadable import UnfitFormat

__all__ = ["arrow_errors"]


@contextmanager
def arrow_errors(what: str) -> Iterator[None]:
    """Raise UnfitFormat for what pyarrow says about content; `what` begins the message, such as "Failed to read ...".

    Its errors about content are of many classes, OSError among them; one with a number is the system's and passes.
    """
    try:
        yield
    except OSError as exc:
        if exc.errno is not None:
            raise
        raise UnfitFormat(f"{what}: {_told(exc)}") from exc
    except (pa.ArrowException, ValueError, TypeError, KeyError, OverflowError, NotImplementedError) as exc:
        raise UnfitFormat(f"{what}: {_told(exc)}") from exc


def _told(error: Exception) -> str:
    """Return the first line: what follows names places in the library's source."""
    return str(error).partition("\n")[0][:300] or type(error).__name__
