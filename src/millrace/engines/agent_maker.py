"""The nursery as its server sees it: a process that forks agents on request, replaced when it has ended."""

import asyncio
import contextlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from millrace.errors import RuntimeUnavailable

__all__ = ["FORK_SECONDS", "AgentMaker"]

FORK_SECONDS = 60.0
"""How long the nursery may take to answer; the first time it has its imports to do."""


class AgentMaker:
    """One nursery. Requests are answered one after the other; several engines may share it."""

    def __init__(self, log_file: Path) -> None:
        """Take where it says what goes wrong."""
        self._log_file = log_file
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def open(self, environment: Mapping[str, str]) -> None:
        """Start the nursery, unless it runs; it does its imports while others go on."""
        if self._process is not None and self._process.returncode is None:
            return
        with self._log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "millrace.nursery"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,
            )

    async def fork(self, request: Mapping[str, Any]) -> int:
        """Return the process id of a new agent; the request is what the nursery takes.

        Raises:
            RuntimeUnavailable: The nursery ends whenever it is started.
        """
        # A caller that gives up must not leave the answer to the next one.
        return await asyncio.shield(asyncio.ensure_future(self._fork(request)))

    async def _fork(self, request: Mapping[str, Any]) -> int:
        line = json.dumps(request).encode() + b"\n"
        async with self._turn:
            for _ in range(2):
                await self.open(request["environment"])
                process = self._process
                assert process is not None and process.stdin is not None and process.stdout is not None
                with contextlib.suppress(ConnectionError):
                    process.stdin.write(line)
                    await process.stdin.drain()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(FORK_SECONDS):
                            answer = await process.stdout.readline()
                        if answer:
                            return int(answer)
                        await process.wait()
                        continue
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        raise RuntimeUnavailable(f"the process that starts agents ends at once; see {self._log_file}")

    async def close(self) -> None:
        """Let the nursery end; its agents go on."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            await self._process.wait()
