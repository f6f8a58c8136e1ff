"""Open the state that the settings name."""

from millrace.settings import Settings
from millrace.store.database import Database
from millrace.store.sqlite import SqliteDatabase

__all__ = ["has_state", "open_database"]


def open_database(settings: Settings, *, durable: bool = True) -> Database:
    """Open the database, making or migrating it first.

    Args:
        durable: Whether a write is on disk when it returns. Agents, whose work can be redone, do without.

    Raises:
        StoreUnavailable: It can't be opened, or is of a newer release.
    """
    return SqliteDatabase(settings.database_path, durable=durable)


def has_state(settings: Settings) -> bool:
    """Whether there may be any state: commands that only look must not make a file."""
    return settings.database_path.exists()
