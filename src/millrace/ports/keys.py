"""KeyStore: who may sign requests, and for whose account."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from millrace.names import canonical_user_id

__all__ = ["AccessKey", "Account", "Accounts", "KeyStore"]


@dataclass(frozen=True, kw_only=True, slots=True)
class AccessKey:
    """One key pair, and the assumed role's session that its holder is.

    A temporary key has a token, which its holder sends along, and an end.
    """

    id: str
    secret: str
    role: str
    account: str
    session: str = "millrace"
    session_token: str | None = None
    expires_at: datetime | None = None

    def __repr__(self) -> str:
        # Keys end up in logs and assertion texts; secrets must not.
        return f"AccessKey(id={self.id!r}, role={self.role!r}, session={self.session!r}, expires_at={self.expires_at})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """An owner of keys and buckets: 12 digits, and a name for people."""

    id: str
    name: str

    @property
    def canonical_id(self) -> str:
        """How S3's owners and grants name it."""
        return canonical_user_id(self.id)


class Accounts(Protocol):
    """The accounts that there are. Few, and asked for often: an answer from memory is worth having."""

    async def list_accounts(self) -> Sequence[Account]:
        """Return all accounts, the default one among them, in the order in which they were made."""
        ...


class KeyStore(Accounts, Protocol):
    """Access keys by id. Asked once per request, so an answer from memory is worth having.

    A key that was deleted, by whichever process, is found no more a second later.
    """

    async def find_key(self, access_key_id: str) -> AccessKey | None:
        """Return the key, also an expired one (the caller is told so), or None."""
        ...

    async def create_session_key(
        self, *, role: str, session_name: str, duration_seconds: int, account: str | None = None
    ) -> AccessKey:
        """Make and keep a temporary key for a session of a role; its id starts with ASIA.

        Without an account it is the default account's.
        """
        ...
