"""DocumentStore: small JSON documents such as roles, by kind, region and name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

__all__ = ["Document", "DocumentExists", "DocumentStore", "NoSuchDocument"]


class NoSuchDocument(Exception):
    """There is no such document."""

    def __init__(self, kind: str, region: str, name: str) -> None:
        super().__init__(f"no {kind} {name!r} in region {region!r}")
        self.kind = kind
        self.region = region
        self.name = name


class DocumentExists(Exception):
    """A document of that name exists already."""

    def __init__(self, kind: str, region: str, name: str) -> None:
        super().__init__(f"{kind} {name!r} exists already in region {region!r}")
        self.kind = kind
        self.region = region
        self.name = name


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """One stored document. `content` is JSON: strings, numbers, booleans, None, lists and maps."""

    kind: str
    region: str
    name: str
    content: Mapping[str, Any]
    created_at: datetime
    modified_at: datetime


class DocumentStore(Protocol):
    """JSON documents by (kind, region, name). Each call is atomic and durable when it returns.

    What has no region (IAM's roles, say) is stored under the region "".
    """

    async def find(self, kind: str, region: str, name: str) -> Document | None:
        """Return the document, or None."""
        ...

    async def get(self, kind: str, region: str, name: str) -> Document:
        """Return the document; raises NoSuchDocument."""
        ...

    async def put(
        self, kind: str, region: str, name: str, content: Mapping[str, Any], *, create: bool = False
    ) -> Document:
        """Store a document, replacing an older one; with `create`, raise DocumentExists if there is one.

        `created_at` is that of the first version, `modified_at` that of this one.
        """
        ...

    async def change(
        self, kind: str, region: str, name: str, change: Callable[[Mapping[str, Any] | None], Mapping[str, Any]]
    ) -> Document:
        """Store what `change` makes of a document's content (None if there is no document); no write comes between.

        `change` is pure: it may run in another thread. What it raises passes, and nothing is stored.
        """
        ...

    async def delete(self, kind: str, region: str, name: str) -> None:
        """Remove a document; raises NoSuchDocument."""
        ...

    async def list(
        self, kind: str, region: str, *, prefix: str = "", after: str = "", limit: int | None = None
    ) -> list[Document]:
        """Return documents whose names start with `prefix` and sort after `after`, by name, at most `limit`."""
        ...
