"""DocumentStore on SQL."""

import sqlite3
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from millrace.clock import Clock
from millrace.moments import from_micros, to_micros
from millrace.ports.documents import Document, DocumentExists, NoSuchDocument
from millrace.store.database import Database, queries

__all__ = ["SqlDocumentStore"]

_Q = queries("documents")


class SqlDocumentStore:
    """Documents in the table of that name."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._db = database
        self._clock = clock

    async def find(self, kind: str, region: str, name: str) -> Document | None:
        row = self._db.one(_Q["find_document"], {"kind": kind, "region": region, "name": name})
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

        def store(connection: sqlite3.Connection) -> sqlite3.Row:
            try:
                connection.execute(_Q["insert_document" if create else "put_document"], row)
            except sqlite3.IntegrityError:
                raise DocumentExists(kind, region, name) from None
            stored: sqlite3.Row = connection.execute(_Q["find_document"], key).fetchone()
            return stored

        return _document(await self._db.write(store))

    async def change(
        self, kind: str, region: str, name: str, change: Callable[[Mapping[str, Any] | None], Mapping[str, Any]]
    ) -> Document:
        key = {"kind": kind, "region": region, "name": name}

        def store(connection: sqlite3.Connection) -> sqlite3.Row:
            older = connection.execute(_Q["find_document"], key).fetchone()
            content = change(None if older is None else orjson.loads(older["body"]))
            row = {**key, "at": self._now(), "body": orjson.dumps(content)}
            connection.execute(_Q["put_document"], row)
            stored: sqlite3.Row = connection.execute(_Q["find_document"], key).fetchone()
            return stored

        return _document(await self._db.write(store))

    async def delete(self, kind: str, region: str, name: str) -> None:
        key = {"kind": kind, "region": region, "name": name}
        removed = await self._db.write(lambda connection: connection.execute(_Q["delete_document"], key).rowcount)
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
            "limit": -1 if limit is None else limit,
        }
        return [_document(row) for row in self._db.all(_Q["list_documents"], parameters)]

    def _now(self) -> int:
        return to_micros(self._clock.now())


def _document(row: sqlite3.Row) -> Document:
    return Document(
        kind=row["kind"],
        region=row["region"],
        name=row["name"],
        content=orjson.loads(row["body"]),
        created_at=from_micros(row["created_at"]),
        modified_at=from_micros(row["modified_at"]),
    )
