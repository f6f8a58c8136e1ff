"""DocumentStore on SQL."""

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from millrace.clock import Clock
from millrace.moments import from_micros, to_micros
from millrace.ports.documents import Document, DocumentExists, NoSuchDocument
from millrace.store.database import Database, Row, Transaction, queries

__all__ = ["SqlDocumentStore"]

_Q = queries("documents")

_NO_LIMIT = 2**62


class SqlDocumentStore:
    """Documents in the table of that name."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._db = database
        self._clock = clock

    async def find(self, kind: str, region: str, name: str) -> Document | None:
        row = await self._db.one(_Q["find_document"], {"kind": kind, "region": region, "name": name})
        return None if row is None else _document(row)

    async def get(self, kind: str, region: str, name: str) -> Document:
        document = await self.find(kind, region, name)
        if document is None:
            raise NoSuchDocument(kind, region, name)
        return document

    async def put(
        self, kind: str, region: str, name: str, content: Mapping[str, Any], *, create: bool = False
    ) -> Document:
        key = {"kind": kind, "region": region, "name": name}
        row = {**key, "at": self._now(), "body": orjson.dumps(content)}

        def store(transaction: Transaction) -> Row:
            stored: Row | None = transaction.execute(
                _Q["insert_document" if create else "put_document"], row
            ).fetchone()
            if stored is None:
                raise DocumentExists(kind, region, name)
            return stored

        return _document(await self._db.write(store))

    async def change(
        self, kind: str, region: str, name: str, change: Callable[[Mapping[str, Any] | None], Mapping[str, Any]]
    ) -> Document:
        key = {"kind": kind, "region": region, "name": name}

        def store(transaction: Transaction) -> Row:
            older = transaction.execute(_Q["find_document"], key).fetchone()
            content = change(None if older is None else orjson.loads(older["body"]))
            row = {**key, "at": self._now(), "body": orjson.dumps(content)}
            stored: Row = transaction.execute(_Q["put_document"], row).fetchone()
            return stored

        return _document(await self._db.write(store))

    async def delete(self, kind: str, region: str, name: str) -> None:
        key = {"kind": kind, "region": region, "name": name}
        removed = await self._db.write(lambda transaction: transaction.execute(_Q["delete_document"], key).rowcount)
        if not removed:
            raise NoSuchDocument(kind, region, name)

    async def list(
        self, kind: str, region: str, *, prefix: str = "", after: str = "", limit: int | None = None
    ) -> list[Document]:
        parameters = {
            "kind": kind,
            "region": region,
            "prefix": prefix,
            "after": after,
            "limit": _NO_LIMIT if limit is None else limit,
        }
        return [_document(row) for row in await self._db.all(_Q["list_documents"], parameters)]

    def _now(self) -> int:
        return to_micros(self._clock.now())


def _document(row: Row) -> Document:
    return Document(
        kind=row["kind"],
        region=row["region"],
        name=row["name"],
        content=orjson.loads(row["body"]),
        created_at=from_micros(row["created_at"]),
        modified_at=from_micros(row["modified_at"]),
    )
