"""What every KeyStore must do; a backend subclasses this and gives a store and its clock."""

from datetime import timedelta

import pytest

from millrace.ports.keys import KeyStore
from millrace.testing.clock import ManualClock

__all__ = ["KeyStoreContract"]


class KeyStoreContract:
    """The contract."""

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    def store(self, clock: ManualClock) -> KeyStore:
        raise NotImplementedError("a backend gives its store")

    async def test_an_unknown_key_is_none(self, store: KeyStore) -> None:
        """Nobody signs with it."""
        assert await store.find_key("AKIANOBODY") is None

    async def test_a_session_key_is_found_with_its_token_and_end(self, store: KeyStore, clock: ManualClock) -> None:
        """The id is that of a temporary key; the end is the duration from now."""
        made = await store.create_session_key(role="Role", session_name="job-1", duration_seconds=900)
        found = await store.find_key(made.id)
        assert found == made
        assert made.id.startswith("ASIA")
        assert (made.role, made.session) == ("Role", "job-1")
        assert made.session_token
        assert made.expires_at == clock.now() + timedelta(seconds=900)

    async def test_a_session_key_belongs_to_the_account_that_is_named(self, store: KeyStore) -> None:
        """Without one it is the default account's, which is always among the accounts."""
        own = await store.create_session_key(role="Role", session_name="s", duration_seconds=60)
        other = await store.create_session_key(
            role="Role", session_name="s", duration_seconds=60, account="111122223333"
        )
        assert other.account == "111122223333"
        assert own.account in [account.id for account in await store.list_accounts()]

    async def test_an_expired_key_is_still_told(self, store: KeyStore, clock: ManualClock) -> None:
        """So that its holder learns that it has expired, not that it is unknown."""
        made = await store.create_session_key(role="Role", session_name="s", duration_seconds=900)
        clock.advance(1000)
        assert await store.find_key(made.id) == made

    async def test_keys_are_all_different(self, store: KeyStore) -> None:
        """Ids, secrets and tokens are random."""
        keys = [await store.create_session_key(role="R", session_name="s", duration_seconds=60) for _ in range(20)]
        for member in ("id", "secret", "session_token"):
            assert len({getattr(key, member) for key in keys}) == 20

    async def test_a_printed_key_does_not_show_its_secret(self, store: KeyStore) -> None:
        """Keys end up in logs."""
        made = await store.create_session_key(role="R", session_name="s", duration_seconds=60)
        assert made.secret not in repr(made)
        assert str(made.session_token) not in repr(made)
