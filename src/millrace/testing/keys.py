"""KeyStore in memory."""

import secrets
from collections.abc import Iterable, Sequence
from datetime import timedelta

from millrace.clock import Clock, SystemClock
from millrace.names import DEFAULT_ACCOUNT
from millrace.ports.keys import AccessKey, Account

__all__ = ["MemoryKeyStore"]


class MemoryKeyStore:
    """Keeps keys in a dict; see `millrace.ports.keys.KeyStore` for the contract."""

    def __init__(
        self,
        keys: Iterable[AccessKey] = (),
        *,
        clock: Clock | None = None,
        account: str = DEFAULT_ACCOUNT,
        accounts: Sequence[Account] = (),
    ) -> None:
        self._keys = {key.id: key for key in keys}
        self._clock = clock or SystemClock()
        self._account = account
        self._accounts = [Account(id=account, name="millrace"), *accounts]

    async def find_key(self, access_key_id: str) -> AccessKey | None:
        return self._keys.get(access_key_id)

    async def list_accounts(self) -> Sequence[Account]:
        return self._accounts

    async def create_session_key(
        self, *, role: str, session_name: str, duration_seconds: int, account: str | None = None
    ) -> AccessKey:
        key = AccessKey(
            id="ASIA" + secrets.token_hex(8).upper(),
            secret=secrets.token_urlsafe(30),
            role=role,
            account=account or self._account,
            session=session_name,
            session_token=secrets.token_urlsafe(48),
            expires_at=self._clock.now() + timedelta(seconds=duration_seconds),
        )
        self._keys[key.id] = key
        return key
