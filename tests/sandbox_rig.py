"""What tests of the sandbox share: a runtime, images of one hand-made layer, and containers of them."""

import asyncio
import functools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from millrace.ports.runtime import Container, ContainerSpec, Image, RootFilesystem
from millrace.runtimes.sandbox import SandboxRuntime
from millrace.runtimes.sandbox_probe import probe_sandbox

__all__ = ["PYTHON", "Rig", "needs_sandbox"]

PYTHON = "/usr/bin/python3"
"""The machine's own interpreter: containers of a hand-made layer have no other."""

LINE_SECONDS = 30.0


@functools.cache
def _obstacle() -> str | None:
    with tempfile.TemporaryDirectory() as folder:
        finding = probe_sandbox(Path(folder))
    return None if finding.works else finding.detail


needs_sandbox = pytest.mark.skipif(_obstacle() is not None, reason=f"no sandbox here: {_obstacle()}")


class Rig:
    """A runtime on a folder, and what its containers said."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.layer = folder / "layer"
        self.layer.mkdir(parents=True, exist_ok=True)
        self.lines: list[str] = []
        self._spoken = asyncio.Event()
        self.runtime = SandboxRuntime(folder / "cache", **options)

    def file(self, path: str, text: str, *, mode: int = 0o644) -> None:
        """Put a file into the image's layer."""
        target = self.layer / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def image(self, **members: Any) -> Image:
        return Image(
            **{
                "uri": "shop/brought:1",
                "name": "brought",
                "command": (),
                "root": RootFilesystem(layers=[self.layer]),
                **members,
            }
        )

    def opt_ml(self, name: str, parts: Sequence[str] = ("model", "input/config", "output/data", "code")) -> Path:
        """Make a container's /opt/ml as agents do."""
        opt_ml = self.folder / name / "opt" / "ml"
        for part in parts:
            (opt_ml / part).mkdir(parents=True, exist_ok=True)
        return opt_ml

    async def launch(
        self,
        *command: str,
        name: str = "c",
        image: Image | None = None,
        environment: Mapping[str, str] | None = None,
        on_line: Callable[[int, str], None] | None = None,
        **members: Any,
    ) -> Container:
        """Start a container."""
        return await self.runtime.launch(
            ContainerSpec(
                **{
                    "name": name,
                    "image": image or self.image(),
                    "command": command,
                    "environment": environment or {},
                    "opt_ml": self.opt_ml(name),
                    "on_line": on_line or self._note,
                    **members,
                }
            )
        )

    def _note(self, _: int, line: str) -> None:
        self.lines.append(line)
        self._spoken.set()

    async def said(self, word: str) -> str:
        """Return the first line that has a word in it, once it was said."""
        async with asyncio.timeout(LINE_SECONDS):
            while True:
                found = next((line for line in self.lines if word in line), None)
                if found is not None:
                    return found
                self._spoken.clear()
                await self._spoken.wait()

    async def run(self, script: str, **members: Any) -> list[str]:
        """Run a shell script to its end, which must be a good one, and return what it said."""
        container = await self.launch("/bin/sh", "-c", script, **members)
        status = await container.wait()
        assert status.ok, (status, self.lines)
        said, self.lines = self.lines, []
        return said
