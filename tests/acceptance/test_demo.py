"""The main job with the unmodified SageMaker SDK, as `make demo` runs it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"
SDK_PYTHON = os.environ.get("MILLRACE_SDK_PYTHON", "")


@pytest.mark.skipif(not SDK_PYTHON, reason="MILLRACE_SDK_PYTHON names no interpreter with the SDK; `make test` does")
def test_the_demo_checks_its_results(tmp_path: Path) -> None:
    """k-NN on Iris, movie clusters by PCA, digits, texts by an own container: all compared with open libraries."""
    millrace = Path(sys.executable).with_name("millrace")
    ended = subprocess.run(
        [
            *(sys.executable, str(DEMO), "--millrace", str(millrace)),
            *("--sdk-python", SDK_PYTHON, "--output", str(tmp_path / "out")),
        ],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-5000:] + ended.stderr[-2000:]
    held = re.findall(r"check: .* \.\.\. ok", ended.stdout)
    assert len(held) >= 28
    assert "FAILED" not in ended.stdout
