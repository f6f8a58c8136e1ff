"""Turn what pyarrow raises about an object into our own error, with its columns and rows named as their owner does."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa

from millrace.dataplane.formats.unreadable import UnfitFormat

__all__ = ["arrow_errors"]

_NUMBERED = re.compile(r"In (?:CSV )?column #?(\d+): (?:Row #(\d+): )?(?:Invalid: )?")
_MEMBER = re.compile(r"Column\(/(.+)\) (.*) in row (\d+)$")
_CSV_ROW = re.compile(r"Row #(\d+): ")
_JSON_ROW = re.compile(r"\.? in row (\d+)$")


@contextmanager
def arrow_errors(what: str, *, columns: Sequence[str] = (), first_row: int = 1) -> Iterator[None]:
    """Raise UnfitFormat for what pyarrow says about content; `what` begins the message, such as "Failed to read ...".

    Its errors about content are of many classes, OSError among them; one with a number is the system's and passes.

    Args:
        what: The beginning of the message.
        columns: The names of the columns, as far as they are known.
        first_row: The number of the first row of what it is given.
    """
    try:
        yield
    except OSError as exc:
        if exc.errno is not None:
            raise
        raise UnfitFormat(f"{what}: {_told(exc, columns, first_row)}") from exc
    except (pa.ArrowException, ValueError, TypeError, KeyError, OverflowError, NotImplementedError) as exc:
        raise UnfitFormat(f"{what}: {_told(exc, columns, first_row)}") from exc


def _told(error: Exception, columns: Sequence[str], first_row: int) -> str:
    """Return the first line: what follows names places in the library's source."""
    text = str(error).partition("\n")[0]
    return _placed(text, columns, first_row)[:300] or type(error).__name__


def _placed(text: str, columns: Sequence[str], first_row: int) -> str:
    """Return a message of pyarrow with the names of columns for their numbers, and rows counted from the first of all.

    It counts columns from 0; rows of what it was given from 1 if they are CSV, and from 0 if they are JSON.
    """
    if (found := _NUMBERED.search(text)) is not None and int(found[1]) < len(columns):
        row = "" if found[2] is None else f", row {first_row + int(found[2]) - 1}"
        return f'{text[: found.start()]}column "{columns[int(found[1])]}"{row}: {text[found.end() :]}'
    if (found := _MEMBER.search(text)) is not None:
        name = found[1].replace("/[]", "[]").replace("/", ".")
        return f'{text[: found.start()]}column "{name}", row {first_row + int(found[3])}: {found[2]}'
    if (found := _CSV_ROW.search(text)) is not None:
        return f"{text[: found.start()]}row {first_row + int(found[1]) - 1}: {text[found.end() :]}"
    if (found := _JSON_ROW.search(text)) is not None:
        return f"{text[: found.start()]} in row {first_row + int(found[1])}"
    return text
