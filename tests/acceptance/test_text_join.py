"""The text example with the unmodified SageMaker SDK, its container's program run as a host image."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD = Path(__file__).with_name("host_image_build.py")
SDK_PYTHON = os.environ.get("MILLRACE_SDK_PYTHON", "")


@pytest.mark.skipif(not SDK_PYTHON, reason="MILLRACE_SDK_PYTHON names no interpreter with the SDK; `make test` does")
def test_the_text_example_checks_its_results(tmp_path: Path) -> None:
    """Gzip objects of a manifest, one record a request, joined with the input: every line is compared."""
    words = [sys.executable, str(BUILD), str(tmp_path / "data"), "{tag}", "{dir}"]
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "millrace", "exec", "--data-dir", str(tmp_path / "data"), "--"),
            *(SDK_PYTHON, str(ROOT / "examples" / "text_join" / "text_join.py")),
        ],
        env={**os.environ, "IMAGE_BUILD": shlex.join(words), "SAGEMAKER_SUPPRESS_V2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-5000:] + ended.stderr[-2000:]
    assert len(re.findall(r"check: .* \.\.\. ok", ended.stdout)) == 9
