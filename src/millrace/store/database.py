"""What the SQL stores ask of a database: reads, transactions, and word of changes; and their named queries.

Statements are written once, in the words that SQLite and PostgreSQL share: `:name` parameters, ON CONFLICT, RETURNING,
no function that one of them lacks. Where the two differ, the engine's own module translates.
"""

import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from typing import Any, Protocol, TypeVar

__all__ = ["Database", "Row", "Transaction", "migrations", "queries"]

T = TypeVar("T")


class Row(Protocol):
    """One row: values by the names of their columns."""

    def __getitem__(self, column: str, /) -> Any: ...


class Result(Protocol):
    """What a statement gave back."""

    @property
    def rowcount(self) -> int: ...

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...


class Transaction(Protocol):
    """What runs in a transaction asks of its connection."""

    def execute(self, statement: str, parameters: Mapping[str, Any] = ..., /) -> Result: ...


class Database(Protocol):
    """One state, opened by one process; others may have it open too. Every method raises StoreUnavailable.

    A transaction sees the state as it was when it began, and what others write meanwhile is not lost: on PostgreSQL it
    is run again from the start when it collides, so `work` must do nothing but ask its transaction.
    """

    is_shared: bool
    """Whether several servers may use it at a time."""

    async def one(self, statement: str, parameters: Mapping[str, Any]) -> Row | None:
        """Return the first row of a read, or None."""
        ...

    async def all(self, statement: str, parameters: Mapping[str, Any]) -> list[Row]:
        """Return all rows of a read."""
        ...

    async def table(self, statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Return all rows of a read as plain tuples, in the order of its columns: the quickest way for many rows."""
        ...

    async def write(
        self, work: Callable[[Transaction], T], *, alone_in: str | None = None, is_fleeting: bool = False
    ) -> T:
        """Run `work`, in another thread, in one transaction; an exception rolls it back.

        Args:
            work: Asks the transaction, and nothing else.
            alone_in: A table that nobody else may write meanwhile: for decisions taken on rows that are not there.
            is_fleeting: Whether it will be written again in a moment: nobody is told, and a crash may lose it.
        """
        ...

    def state_mark(self) -> int | None:
        """Return a number that each commit changes, whoever's it is; None where only a server could tell.

        What is read after the mark was taken is still the state for as long as the mark is the same.
        """
        ...

    async def wait_for_change(self, timeout_seconds: float) -> bool:
        """Return True once anything (but what is fleeting) was written, by any process, else False after the timeout.

        It may return True for nothing.
        """
        ...

    def close(self) -> None:
        """Finish the writes under way and close all connections."""
        ...


@cache
def queries(name: str) -> Mapping[str, str]:
    """Return the named queries of one file under queries/."""
    text = resources.files("millrace.store").joinpath("queries", f"{name}.sql").read_text("utf-8")
    found = {}
    for part in re.split(r"^-- name: ", text, flags=re.MULTILINE)[1:]:
        title, _, statement = part.partition("\n")
        found[title.strip()] = statement.strip().rstrip(";")
    return found


@cache
def migrations() -> tuple[str, ...]:
    """Return the scripts that bring the schema up to date, in order; script n leads from version n - 1 to n."""
    folder = resources.files("millrace.store").joinpath("migrations")
    steps = sorted((entry.name, entry) for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return tuple(entry.read_text("utf-8") for _, entry in steps)
