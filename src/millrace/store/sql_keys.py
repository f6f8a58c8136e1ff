"""KeyStore on SQL."""

import base64
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from millrace.clock import Clock
from millrace.errors import UsageError
from millrace.moments import from_micros, to_micros
from millrace.ports.keys import AccessKey, Account
from millrace.store.database import Database, Row, Transaction, queries

__all__ = ["DEFAULT_OWNER", "SqlKeyStore", "StoredKey"]

_Q = queries("keys")

DEFAULT_OWNER = "millrace"
"""Name of the default account."""

RECHECK_SECONDS = 1.0
"""How long keys and accounts are believed in memory: another process may delete the ones, add to the others."""

_CACHED_KEYS = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredKey:
    """A lasting key in a listing, without its secret."""

    id: str
    account: str
    owner: str
    created_at: datetime


class SqlKeyStore:
    """Access keys and accounts in the tables of those names; what was found is kept in memory for a second."""

    def __init__(self, database: Database, *, clock: Clock, account: str) -> None:
        self._db = database
        self._clock = clock
        self._account = account
        self._known: dict[str, tuple[float, AccessKey]] = {}
        self._accounts: tuple[float, Sequence[Account]] | None = None

    async def find_key(self, access_key_id: str) -> AccessKey | None:
        now = self._clock.monotonic()
        known = self._known.get(access_key_id)
        if known is not None and now < known[0]:
            return known[1]
        row = await self._db.one(_Q["find_key"], {"id": access_key_id})
        if row is None:
            self._known.pop(access_key_id, None)
            return None
        if len(self._known) >= _CACHED_KEYS:
            self._known.clear()
        key = _key(row)
        self._known[access_key_id] = (now + RECHECK_SECONDS, key)
        return key

    async def list_accounts(self) -> Sequence[Account]:
        now = self._clock.monotonic()
        if self._accounts is None or now >= self._accounts[0]:
            found = [Account(id=row["id"], name=row["name"]) for row in await self._db.all(_Q["list_accounts"], {})]
            if all(account.id != self._account for account in found):
                found.insert(0, Account(id=self._account, name=DEFAULT_OWNER))
            self._accounts = (now + RECHECK_SECONDS, found)
        return self._accounts[1]

    async def create_session_key(
        self, *, role: str, session_name: str, duration_seconds: int, account: str | None = None
    ) -> AccessKey:
        now = self._clock.now()
        key = AccessKey(
            id="ASIA" + _random_id(),
            secret=_random_secret(),
            role=role,
            account=account or self._account,
            session=session_name,
            session_token=base64.b64encode(secrets.token_bytes(48)).decode(),
            expires_at=now + timedelta(seconds=duration_seconds),
        )
        await self._insert(key, now)
        return key

    async def ensure_first_key(self, *, role: str) -> AccessKey:
        """Return the oldest lasting key of the default account, making it on a new store."""
        wanted = {"account": self._account}
        row = await self._db.one(_Q["first_key"], wanted)
        if row is not None:
            return _key(row)
        key = AccessKey(id="AKIA" + _random_id(), secret=_random_secret(), role=role, account=self._account)
        now = self._clock.now()

        def insert(transaction: Transaction) -> AccessKey:
            found = transaction.execute(_Q["first_key"], wanted).fetchone()
            if found is not None:  # another process made it just now
                return _key(found)
            transaction.execute(_Q["insert_key"], _row(key, now))
            return key

        return await self._db.write(insert, alone_in="access_keys")

    async def create_key(
        self, *, role: str, owner: str | None = None, account: str | None = None
    ) -> tuple[AccessKey, Account]:
        """Make a lasting key and, if it is new, its account.

        Args:
            role: The role whose session its holder appears to be.
            owner: The account's name; without an account id a new name makes a new account.
            account: The account's id, 12 digits; without a name a new id names its account by itself.

        Raises:
            UsageError: The name and the id belong to different accounts.
        """
        now = self._clock.now()

        def insert(transaction: Transaction) -> tuple[AccessKey, Account]:
            rows = transaction.execute(_Q["list_accounts"], {}).fetchall()
            known = {row["id"]: row["name"] for row in rows}
            chosen = _choose_account(known, self._account, owner, account)
            for added in (Account(id=self._account, name=DEFAULT_OWNER), chosen):
                if added.id not in known:
                    row = {"id": added.id, "name": added.name, "created_at": to_micros(now)}
                    transaction.execute(_Q["insert_account"], row)
                    known[added.id] = added.name
            key = AccessKey(id="AKIA" + _random_id(), secret=_random_secret(), role=role, account=chosen.id)
            transaction.execute(_Q["insert_key"], _row(key, now))
            return key, chosen

        made = await self._db.write(insert, alone_in="accounts")
        self._accounts = None
        return made

    async def list_keys(self) -> list[StoredKey]:
        """Return the lasting keys, the oldest first."""
        names = {account.id: account.name for account in await self.list_accounts()}
        return [
            StoredKey(
                id=row["id"],
                account=row["account"],
                owner=names.get(row["account"], row["account"]),
                created_at=from_micros(row["created_at"]),
            )
            for row in await self._db.all(_Q["list_lasting_keys"], {})
        ]

    async def delete_key(self, access_key_id: str) -> bool:
        """Forget a key, lasting or temporary, and tell whether there was one."""

        def delete(transaction: Transaction) -> bool:
            return transaction.execute(_Q["delete_key"], {"id": access_key_id}).rowcount > 0

        deleted = await self._db.write(delete)
        self._known.pop(access_key_id, None)
        return deleted

    async def delete_expired(self) -> None:
        """Forget temporary keys whose time is over."""
        at = to_micros(self._clock.now())
        await self._db.write(lambda transaction: transaction.execute(_Q["delete_expired_keys"], {"at": at}))

    async def _insert(self, key: AccessKey, now: datetime) -> None:
        await self._db.write(lambda transaction: transaction.execute(_Q["insert_key"], _row(key, now)))


def _choose_account(known: Mapping[str, str], default: str, owner: str | None, account: str | None) -> Account:
    """Return the account that a new key is for; `known` is names by id, without the default one on a new store."""
    known = {default: DEFAULT_OWNER, **known}
    if owner is None:
        chosen = account or default
        return Account(id=chosen, name=known.get(chosen, chosen))
    named = next((id for id, name in known.items() if name == owner), None)
    if account is not None and (named or account) != account:
        raise UsageError(f"the name {owner!r} belongs to the account {named}, not to {account}")
    if account is not None and known.get(account, owner) != owner:
        raise UsageError(f"the account {account} is named {known[account]!r}, not {owner!r}")
    return Account(id=named or account or _free_account_id(known.__contains__), name=owner)


def _free_account_id(is_taken: Callable[[str], bool]) -> str:
    while is_taken(account := f"{secrets.randbelow(9 * 10**11) + 10**11}"):
        pass
    return account


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


def _key(row: Row) -> AccessKey:
    return AccessKey(
        id=row["id"],
        secret=row["secret"],
        role=row["role"],
        account=row["account"],
        session=row["session"],
        session_token=row["session_token"],
        expires_at=None if row["expires_at"] is None else from_micros(row["expires_at"]),
    )
