"""DocumentStore in memory."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

from millrace.clock import Clock, SystemClock
from millrace.ports.documents import Document, DocumentExists, NoSuchDocument

__all__ = ["MemoryDocumentStore"]


class MemoryDocumentStore:
    """Keeps documents in a dict; see `millrace.ports.documents.DocumentStore` for the contract."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._documents: dict[tuple[str, str, str], Document] = {}
        self._clock = clock or SystemClock()

    async def find(self, kind: str, region: str, name: str) -> Document | None:
        return self._documents.get((kind, region, name))

    async def get(self, kind: str, region: str, name: str) -> Document:
        document = self._documents.get((kind, region, name))
        if document is None:
            raise NoSuchDocument(kind, region, name)
        return document

    async def put(
        self, kind: str, region: str, name: str, content: Mapping[str, Any], *, create: bool = False
    ) -> Document:
        older = self._documents.get((kind, region, name))
        if create and older is not None:
            raise DocumentExists(kind, region, name)
        now = self._clock.now()
        document = Document(
            kind=kind,
            region=region,
            name=name,
            content=copy.deepcopy(dict(content)),
            created_at=now if older is None else older.created_at,
            modified_at=now,
        )
        self._documents[kind, region, name] = document
        return document

    async def change(
        self, kind: str, region: str, name: str, change: Callable[[Mapping[str, Any] | None], Mapping[str, Any]]
    ) -> Document:
        older = self._documents.get((kind, region, name))
        return await self.put(kind, region, name, change(None if older is None else older.content))

    async def delete(self, kind: str, region: str, name: str) -> None:
        if self._documents.pop((kind, region, name), None) is None:
            raise NoSuchDocument(kind, region, name)

    async def list(
        self, kind: str, region: str, *, prefix: str = "", after: str = "", limit: int | None = None
    ) -> list[Document]:
        found = [
            document
            for (of_kind, of_region, name), document in self._documents.items()
            if (of_kind, of_region) == (kind, region) and name.startswith(prefix) and name > after
        ]
        return sorted(found, key=lambda document: document.name)[:limit]
