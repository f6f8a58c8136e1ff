"""Every ObjectStore keeps the contract of resumable outputs."""

from pathlib import Path

import pytest

from millrace.ports.objects import ObjectStore
from millrace.store.filesystem import FilesystemObjects
from millrace.testing.contract_drafts import DraftContract
from millrace.testing.objects import MemoryObjects


class TestFilesystemDrafts(DraftContract):
    """Files in the page cache."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> ObjectStore:
        return FilesystemObjects(tmp_path / "objects", draft_wait_seconds=0)


class TestFilesystemDraftsPastTheCache(DraftContract):
    """Files that pass by the page cache, facts in sidecars, and nothing waits for the disk."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> ObjectStore:
        return FilesystemObjects(
            tmp_path / "objects",
            cached_output_bytes=0,
            draft_wait_seconds=0,
            use_attributes=False,
            durable=False,
        )


class TestMemoryDrafts(DraftContract):
    """The shipped fake."""

    @pytest.fixture
    def store(self) -> ObjectStore:
        return MemoryObjects()
