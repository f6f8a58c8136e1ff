"""Examples in the documentation that are marked with `<!-- test -->` run as they stand."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace.commands.environment import client_environment
from tests.docs.markdown import ROOT, Fence, fences, pages
from tests.integration.platform import Platform

ORDER = ("README.md", "docs/getting-started.md")
"""The README makes the model that other pages use."""

TIMEOUT_SECONDS = 300


def _pages_with_examples() -> list[str]:
    found = [str(page.relative_to(ROOT)) for page in pages() if any(it.runs for it in fences(page.read_text("utf-8")))]
    return sorted(found, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of somebody who has followed the README up to its first example."""
    platform = Platform(tmp_path_factory.mktemp("documentation") / "data").start()
    try:
        tools = str(Path(sys.executable).parent)
        yield {
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(platform.settings.data_dir),
            **client_environment(platform.settings, platform.address, proxy=False),
        }
    finally:
        platform.stop()


def _script(page: Path) -> str:
    """Return the page's marked examples as one script, in which those in Python are handed to the interpreter."""
    return "\n".join(["set -euo pipefail", *(_command(it) for it in fences(page.read_text("utf-8")))])


def _command(fence: Fence) -> str:
    if fence.file is not None:
        return f"cat > {fence.file} <<'END OF EXAMPLE'\n{fence.code}END OF EXAMPLE"
    if not fence.runs:
        return ""
    if fence.language == "python":
        return f"python - <<'END OF EXAMPLE'\n{fence.code}END OF EXAMPLE"
    assert fence.language == "sh", f"only sh and python can run, got {fence.language!r}"
    return fence.code


@pytest.mark.parametrize("name", _pages_with_examples())
def test_examples_run(name: str, environment: dict[str, str], tmp_path: Path) -> None:
    """The marked examples of a page run one after the other, in an empty folder, against a fresh server."""
    done = subprocess.run(
        ["bash", "-c", _script(ROOT / name)],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout
