"""Every ObjectStore keeps the contract."""

from pathlib import Path

import pytest

from millrace.ports.objects import ObjectStore
from millrace.store.filesystem import FilesystemObjects
from millrace.testing.contract_objects import ObjectStoreContract
from millrace.testing.objects import MemoryObjects


class TestFilesystemObjects(ObjectStoreContract):
    """Folders, facts in extended attributes."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> ObjectStore:
        return FilesystemObjects(tmp_path / "objects")


class TestFilesystemObjectsWithSidecars(ObjectStoreContract):
    """Folders on a file system without extended attributes."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> ObjectStore:
        return FilesystemObjects(tmp_path / "objects", use_attributes=False, durable=False)


class TestMemoryObjects(ObjectStoreContract):
    """The shipped fake."""

    @pytest.fixture
    def store(self) -> ObjectStore:
        return MemoryObjects()
