"""`millrace keys`: make, list and remove access keys, with or without a running server."""

import asyncio
import re
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import orjson

from millrace.clock import SystemClock
from millrace.errors import UsageError
from millrace.names import canonical_user_id
from millrace.settings import Settings
from millrace.store.opening import open_database
from millrace.store.sql_keys import SqlKeyStore

__all__ = ["create_key", "list_keys", "remove_key"]

T = TypeVar("T")

_OWNER = re.compile(r"[\w+=,.@-]{1,64}")
_ACCOUNT = re.compile(r"[0-9]{12}")


def create_key(settings: Settings, *, owner: str | None, account: str | None, as_json: bool) -> int:
    """Make a key and print it: the one time that its secret is shown."""
    if owner is not None and not _OWNER.fullmatch(owner):
        raise UsageError(f"--owner must have 1 to 64 letters, digits or _+=,.@-, got {owner!r}")
    if account is not None and not _ACCOUNT.fullmatch(account):
        raise UsageError(f"--account must be 12 digits, got {account!r}")
    key, holder = _with_keys(
        settings, lambda keys: keys.create_key(role=settings.role_name, owner=owner, account=account)
    )
    document = {
        "AccessKeyId": key.id,
        "SecretAccessKey": key.secret,
        "Account": holder.id,
        "Owner": holder.name,
        "CanonicalUserId": holder.canonical_id,
    }
    if as_json:
        print(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
    else:
        for name, value in document.items():
            print(f"{name:16} {value}")
    return 0


def list_keys(settings: Settings, *, as_json: bool) -> int:
    """Print the lasting keys, without their secrets."""
    found = _with_keys(settings, lambda keys: keys.list_keys())
    if as_json:
        documents = [
            {
                "AccessKeyId": key.id,
                "Account": key.account,
                "Owner": key.owner,
                "CanonicalUserId": canonical_user_id(key.account),
                "CreateDate": key.created_at,
            }
            for key in found
        ]
        print(orjson.dumps(documents, option=orjson.OPT_INDENT_2).decode())
        return 0
    for key in found:
        print(f"{key.id:20} {key.account} {key.created_at:%Y-%m-%dT%H:%M:%SZ} {key.owner}")
    return 0


def remove_key(settings: Settings, access_key_id: str) -> int:
    """Remove a key; a running server refuses it within a second."""
    if _with_keys(settings, lambda keys: keys.delete_key(access_key_id)):
        return 0
    print(f"millrace keys: there is no access key {access_key_id!r} in {settings.data_dir}", file=sys.stderr)
    return 1


def _with_keys(settings: Settings, work: Callable[[SqlKeyStore], Coroutine[Any, Any, T]]) -> T:
    database = open_database(settings)
    try:
        return asyncio.run(work(SqlKeyStore(database, clock=SystemClock(), account=settings.account)))
    finally:
        database.close()
