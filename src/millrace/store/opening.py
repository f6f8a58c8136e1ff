"""Open the state that the settings name."""

import importlib
import importlib.util
from contextlib import suppress

from millrace.errors import StoreUnavailable
from millrace.settings import Settings
from millrace.store.database import Database
from millrace.store.sqlite import SqliteDatabase

__all__ = ["has_state", "load_driver", "open_agent_database", "open_database"]

AGENT_CONNECTIONS = 2
"""One for the work, one so that a heartbeat does not wait for it."""


def open_database(settings: Settings) -> Database:
    """Open the database as servers and commands do, making or migrating it first.

    Raises:
        StoreUnavailable: It can't be opened, or is of a newer release.
    """
    if settings.database_url:
        return _postgresql(settings, connections=settings.database_connections, waits_at_start=False)
    return SqliteDatabase(settings.database_path)


def open_agent_database(settings: Settings) -> Database:
    """Open the database as agents do: with few connections, patiently, and not waiting for the disk.

    An agent's work can be redone, so that what it wrote may be lost with the machine.

    Raises:
        StoreUnavailable: It can't be opened, or is of a newer release.
    """
    if settings.database_url:
        return _postgresql(settings, connections=AGENT_CONNECTIONS, waits_at_start=True)
    return SqliteDatabase(settings.database_path, durable=False)


def _postgresql(settings: Settings, *, connections: int, waits_at_start: bool) -> Database:
    if importlib.util.find_spec("psycopg") is None:
        raise StoreUnavailable(
            "MILLRACE_DATABASE_URL names a PostgreSQL database, but the driver is not installed: "
            "pip install 'millrace[postgresql]'"
        )
    from millrace.store.postgresql import PostgresqlDatabase  # takes 60 ms, and is not there without the extra

    return PostgresqlDatabase(
        settings.database_url,
        connections=connections,
        statement_seconds=settings.database_statement_seconds,
        wait_seconds=settings.database_wait_seconds,
        waits_at_start=waits_at_start,
    )


def load_driver(settings: Settings) -> None:
    """Import what opening the database will need, as far as it is there."""
    if settings.database_url:
        with suppress(ImportError):
            importlib.import_module("millrace.store.postgresql")


def has_state(settings: Settings) -> bool:
    """Whether there may be any state: commands that only look must not make a file."""
    return bool(settings.database_url) or settings.database_path.exists()
