"""KeyStore: who may sign requests."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

__all__ = ["AccessKey", "KeyStore"]


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


class KeyStore(Protocol):
    """Access keys by id. Asked once per request, so an answer from memory is worth having."""

    async def find_key(self, access_key_id: str) -> AccessKey | None:
        """Return the key, also an expired one (the caller is told so), or None."""
        ...

    async def create_session_key(self, *, role: str, session_name: str, duration_seconds: int) -> AccessKey:
        """Make and keep a temporary key for a session of a role; its id starts with ASIA."""
        ...
