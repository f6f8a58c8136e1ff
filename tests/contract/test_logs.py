"""Every LogStore keeps the contract."""

from pathlib import Path

import pytest

from millrace.ports.logs import LogStore
from millrace.store.log_files import LogFiles
from millrace.testing.contract_logs import LogStoreContract


class TestLogFiles(LogStoreContract):
    """Logs in files."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> LogStore:
        return LogFiles(tmp_path / "logs")
