"""Data libraries with S3 clients of their own, unmodified, against a real server."""

import os
import subprocess
from pathlib import Path

import pytest

from millrace.commands.environment import client_environment
from tests.integration.platform import Platform

PROGRAM = Path(__file__).parents[1] / "programs" / "data_clients.py"
PYTHON = os.environ.get("MILLRACE_DATA_PYTHON", str(Path(__file__).parents[2] / ".venv-data" / "bin" / "python"))


@pytest.mark.skipif(not Path(PYTHON).exists(), reason="`make data-clients` installs the libraries")
@pytest.mark.parametrize("library", ["s3fs", "pandas", "pyarrow", "polars", "duckdb"])
def test_a_data_library_reads_and_writes(platform: Platform, tmp_path: Path, library: str) -> None:
    """What it stored comes back, whole, in parts and filtered; listings, moves and removals are as it expects."""
    platform.put("s3://lake/seed", b"")
    environment = {**os.environ, **client_environment(platform.settings, platform.address, proxy=False)}
    environment |= {"HOME": str(tmp_path)}
    done = subprocess.run(
        [PYTHON, str(PROGRAM), library, "lake"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
