"""A database and the folder of its objects belong together."""

from pathlib import Path

import pytest

from millrace.errors import UsageError
from millrace.store.companion import MARK_FILE, check_companion
from millrace.testing.documents import MemoryDocumentStore


async def test_the_first_folder_is_the_database_s(tmp_path: Path) -> None:
    """Every server that brings it is welcome, also when the folder has another name by then."""
    documents = MemoryDocumentStore()
    await check_companion(documents, tmp_path / "objects")
    await check_companion(documents, tmp_path / "objects")
    (tmp_path / "objects").rename(tmp_path / "restored")
    await check_companion(documents, tmp_path / "restored")


async def test_another_folder_is_refused(tmp_path: Path) -> None:
    """A new one is left without a mark; what makes it the right one is told, and does."""
    documents = MemoryDocumentStore()
    await check_companion(documents, tmp_path / "ours")
    with pytest.raises(UsageError, match=r"does not hold the objects of this database.*no such file"):
        await check_companion(documents, tmp_path / "fresh")
    assert not (tmp_path / "fresh" / MARK_FILE).exists()
    await check_companion(MemoryDocumentStore(), tmp_path / "theirs")
    with pytest.raises(UsageError, match=r"must hold '(\w+)', got '") as refused:
        await check_companion(documents, tmp_path / "theirs")
    mark = (tmp_path / "ours" / MARK_FILE).read_text()
    assert mark in str(refused.value)
    (tmp_path / "theirs" / MARK_FILE).write_text(mark)
    await check_companion(documents, tmp_path / "theirs")


async def test_a_folder_may_get_a_new_database(tmp_path: Path) -> None:
    """Its mark becomes the database's: the state begins anew, the objects stay."""
    await check_companion(MemoryDocumentStore(), tmp_path)
    mark = (tmp_path / MARK_FILE).read_text()
    documents = MemoryDocumentStore()
    await check_companion(documents, tmp_path)
    assert (await documents.get("state", "", "objects")).content == {"mark": mark}
