"""KeyStore on SQL."""

import base64
import secrets
import sqlite3
from datetime import datetime, timedelta
from typing import Any

from millrace.clock import Clock
from millrace.moments import from_micros, to_micros
from millrace.ports.keys import AccessKey
from millrace.store.database import Database, queries

__all__ = ["SqlKeyStore"]

_Q = queries("keys")

_CACHED_KEYS = 1000


class SqlKeyStore:
    """Access keys in the table of that name. Keys never change, so those once found are kept in memory."""

    def __init__(self, database: Database, *, clock: Clock, account: str) -> None:
        self._db = database
        self._clock = clock
        self._account = account
        self._known: dict[str, AccessKey] = {}

    async def find_key(self, access_key_id: str) -> AccessKey | None:
        known = self._known.get(access_key_id)
        if known is not None:
            return known
        row = self._db.one(_Q["find_key"], {"id": access_key_id})
        if row is None:
            return None
        if len(self._known) >= _CACHED_KEYS:
            self._known.clear()
        key = self._known[access_key_id] = _key(row)
        return key

    async def create_session_key(self, *, role: str, session_name: str, duration_seconds: int) -> AccessKey:
        now = self._clock.now()
        key = AccessKey(
            id="ASIA" + _random_id(),
            secret=_random_secret(),
            role=role,
            account=self._account,
            session=session_name,
            session_token=base64.b64encode(secrets.token_bytes(48)).decode(),
            expires_at=now + timedelta(seconds=duration_seconds),
        )
        await self._insert(key, now)
        return key

    async def ensure_first_key(self, *, role: str) -> AccessKey:
        """Return the oldest lasting key, making it on a new store."""
        row = self._db.one(_Q["first_key"], {})
        if row is not None:
            return _key(row)
        key = AccessKey(id="AKIA" + _random_id(), secret=_random_secret(), role=role, account=self._account)
        now = self._clock.now()

        def insert(connection: sqlite3.Connection) -> AccessKey:
            found = connection.execute(_Q["first_key"]).fetchone()
            if found is not None:  # another process made it just now
                return _key(found)
            connection.execute(_Q["insert_key"], _row(key, now))
            return key

        return await self._db.write(insert)

    async def delete_expired(self) -> None:
        """Forget temporary keys whose time is over."""
        at = to_micros(self._clock.now())
        await self._db.write(lambda connection: connection.execute(_Q["delete_expired_keys"], {"at": at}))

    async def _insert(self, key: AccessKey, now: datetime) -> None:
        await self._db.write(lambda connection: connection.execute(_Q["insert_key"], _row(key, now)))


def _random_id() -> str:
    """Return 16 characters as AWS uses them in key ids."""
    return base64.b32encode(secrets.token_bytes(10)).decode()


def _random_secret() -> str:
    return base64.b64encode(secrets.token_bytes(30)).decode()


def _row(key: AccessKey, created_at: datetime) -> dict[str, Any]:
    return {
        "id": key.id,
        "secret": key.secret,
        "role": key.role,
        "account": key.account,
        "session": key.session,
        "session_token": key.session_token,
        "created_at": to_micros(created_at),
        "expires_at": None if key.expires_at is None else to_micros(key.expires_at),
    }


def _key(row: sqlite3.Row) -> AccessKey:
    return AccessKey(
        id=row["id"],
        secret=row["secret"],
        role=row["role"],
        account=row["account"],
        session=row["session"],
        session_token=row["session_token"],
        expires_at=None if row["expires_at"] is None else from_micros(row["expires_at"]),
    )
