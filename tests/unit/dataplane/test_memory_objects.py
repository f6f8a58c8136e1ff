"""The memory store keeps the port's whole contract."""

import pytest

from millrace.testing.contract_objects import ObjectStoreContract
from millrace.testing.objects import MemoryObjects


class TestMemoryObjects(ObjectStoreContract):
    """Runs the contract on MemoryObjects."""

    @pytest.fixture
    def store(self) -> MemoryObjects:
        """A store without buckets."""
        return MemoryObjects()
