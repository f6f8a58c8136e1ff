"""What every DocumentStore must do; a backend subclasses this and gives a store."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from millrace.ports.documents import DocumentExists, DocumentStore, NoSuchDocument

__all__ = ["DocumentStoreContract"]


class DocumentStoreContract:
    """The contract."""

    @pytest.fixture
    def store(self) -> DocumentStore:
        raise NotImplementedError("a backend gives its store")

    async def test_a_document_comes_back_as_it_was_put(self, store: DocumentStore) -> None:
        """All of JSON survives."""
        content = {"text": "é", "number": 1.5, "list": [1, None, True], "map": {"a": {}}}
        put = await store.put("model", "us-east-1", "m", content)
        found = await store.get("model", "us-east-1", "m")
        assert found == put
        assert (found.kind, found.region, found.name, found.content) == ("model", "us-east-1", "m", content)

    async def test_names_are_apart_by_kind_and_region(self, store: DocumentStore) -> None:
        """The same name may stand for other things elsewhere."""
        for kind, region in (("model", "us-east-1"), ("model", "eu-west-1"), ("role", "")):
            await store.put(kind, region, "same", {"where": f"{kind}/{region}"}, create=True)
        assert (await store.get("role", "", "same")).content == {"where": "role/"}

    async def test_missing_documents(self, store: DocumentStore) -> None:
        """find tells None; get and delete raise."""
        assert await store.find("model", "r", "nobody") is None
        with pytest.raises(NoSuchDocument, match="nobody"):
            await store.get("model", "r", "nobody")
        with pytest.raises(NoSuchDocument, match="nobody"):
            await store.delete("model", "r", "nobody")

    async def test_creating_what_exists_is_refused(self, store: DocumentStore) -> None:
        """And changes nothing."""
        await store.put("model", "r", "m", {"version": 1}, create=True)
        with pytest.raises(DocumentExists, match="'m' exists already"):
            await store.put("model", "r", "m", {"version": 2}, create=True)
        assert (await store.get("model", "r", "m")).content == {"version": 1}

    async def test_a_replaced_document_keeps_its_creation_time(self, store: DocumentStore) -> None:
        """Only the time of the last change moves."""
        first = await store.put("model", "r", "m", {"version": 1})
        second = await store.put("model", "r", "m", {"version": 2})
        assert second.created_at == first.created_at
        assert second.modified_at >= first.modified_at
        assert second.content == {"version": 2}

    async def test_changes_at_once_are_all_kept(self, store: DocumentStore) -> None:
        """Each change sees what the one before it stored; the first one sees that there is no document."""

        def adding(number: int) -> Callable[[Mapping[str, Any] | None], Mapping[str, Any]]:
            return lambda content: {"seen": [*([] if content is None else content["seen"]), number]}

        changed = await asyncio.gather(*(store.change("model", "r", "m", adding(number)) for number in range(10)))
        found = await store.get("model", "r", "m")
        assert sorted(found.content["seen"]) == list(range(10))
        assert sorted(len(document.content["seen"]) for document in changed) == list(range(1, 11))
        assert len({document.created_at for document in changed}) == 1

    async def test_a_change_may_refuse(self, store: DocumentStore) -> None:
        """What the change raises passes, and nothing is stored."""

        def refuse(content: Mapping[str, Any] | None) -> Mapping[str, Any]:
            raise LookupError(f"refused {content}")

        await store.put("model", "r", "m", {"version": 1})
        with pytest.raises(LookupError, match=r"refused \{'version': 1\}"):
            await store.change("model", "r", "m", refuse)
        with pytest.raises(LookupError, match="refused None"):
            await store.change("model", "r", "none", refuse)
        assert (await store.get("model", "r", "m")).content == {"version": 1}
        assert await store.find("model", "r", "none") is None

    async def test_a_deleted_document_is_gone(self, store: DocumentStore) -> None:
        """Its name is free again."""
        await store.put("model", "r", "m", {})
        await store.delete("model", "r", "m")
        assert await store.find("model", "r", "m") is None
        await store.put("model", "r", "m", {}, create=True)

    async def test_listings_are_by_name_with_prefix_and_limit(self, store: DocumentStore) -> None:
        """`after` continues where a page ended; wildcards of a query language are plain characters."""
        for name in ("b", "a1", "a%", "a2", "a_"):
            await store.put("model", "r", name, {})
        await store.put("model", "elsewhere", "a3", {})

        async def names(**how: object) -> list[str]:
            return [document.name for document in await store.list("model", "r", **how)]  # type: ignore[arg-type]

        assert await names() == ["a%", "a1", "a2", "a_", "b"]
        assert await names(prefix="a") == ["a%", "a1", "a2", "a_"]
        assert await names(prefix="a_") == ["a_"]
        assert await names(prefix="a", after="a1", limit=1) == ["a2"]
        assert await names(after="b") == []
