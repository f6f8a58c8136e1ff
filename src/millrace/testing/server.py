"""The server behind the pytest fixtures: each test gets a state of its own, on one port, by a word on the input.

    python -m millrace.testing.server FOLDER

It answers each line on its standard input with one line of JSON on its output: first, unasked, where it is; then, for
`reset`, where the new state is. It ends when the input does. There is no way to it by the network, and `millrace serve`
has nothing of the kind.

A reset does not clean up: it puts a new server in the place of the old one, in front of an empty data directory that
was made ready while the test before ran. So nothing that a server remembers can reach the next test, whatever it is.
The jobs of the old one are killed, and its files removed, while the next test runs.
"""

import asyncio
import contextlib
import json
import os
import shutil
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import uvloop

from millrace import settings as settings_module
from millrace.app import Server, ServerAddress
from millrace.commands.environment import client_environment
from millrace.engines.agent_maker import AgentMaker
from millrace.http.app import ASGIApp
from millrace.http.server import serve
from millrace.log_format import set_up_logging
from millrace.settings import Settings
from millrace.store.sqlite import SqliteDatabase

__all__ = ["main"]


@dataclass(frozen=True, kw_only=True, slots=True)
class _State:
    """One data directory and the server of it; closing `stack` ends the server."""

    data_dir: Path
    server: Server
    application: ASGIApp
    stack: AsyncExitStack


class _Host:
    """Answers requests by the server whose turn it is, and keeps the next one ready."""

    def __init__(self, template: Settings, root: Path) -> None:
        self._template = template
        self._root = root
        self._maker = AgentMaker(root / "agents.log")
        self._made = 0
        self._url = ""
        self._current: _State | None = None
        self._next: asyncio.Task[_State] | None = None
        self._ending: set[asyncio.Task[None]] = set()

    async def application(self, scope: Any, receive: Any, send: Any) -> None:
        assert self._current is not None
        await self._current.application(scope, receive, send)

    async def begin(self, url: str) -> Path:
        """Make the first state and return its data directory."""
        self._url = url
        self._next = asyncio.create_task(self._make())
        return await self.reset()

    async def reset(self) -> Path:
        """Go on with the state that is ready; return its data directory."""
        assert self._next is not None
        old, self._current = self._current, await self._next
        self._next = asyncio.create_task(self._make())
        if old is not None:
            ending = asyncio.create_task(self._end(old))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
        return self._current.data_dir

    async def close(self) -> None:
        """End everything."""
        states = [self._current, None if self._next is None else await self._next]
        await asyncio.gather(*self._ending, *(self._end(state) for state in states if state is not None))
        await self._maker.close()

    async def _make(self) -> _State:
        self._made += 1
        settings = replace(self._template, data_dir=self._root / f"{self._made:06}")
        settings.data_dir.mkdir(mode=0o700)
        # A copy of a file that is made and has its key costs a tenth of making one.
        shutil.copyfile(self._template.database_path, settings.database_path)
        database = SqliteDatabase(settings.database_path, durable=False)
        server = Server(settings, database=database, maker=self._maker)
        server.tell_agents(self._url)
        stack = AsyncExitStack()
        await stack.enter_async_context(server.running(stop_jobs=False))
        return _State(data_dir=settings.data_dir, server=server, application=server.application(), stack=stack)

    async def _end(self, state: _State) -> None:
        state.server.release_held()
        for job_id in await state.server.jobs.list_unfinished():
            for agent in await state.server.jobs.list_agents(job_id):
                state.server.engine.kill(agent)
        state.server.engine.kill_started()
        await state.stack.aclose()
        await asyncio.to_thread(shutil.rmtree, state.data_dir, ignore_errors=True)


async def _run(root: Path) -> None:
    template = settings_module.load(data_dir=root / "template", host="127.0.0.1", port=0, serve_stop_grace_seconds=1)
    listening: asyncio.Future[tuple[str, int]] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    host = _Host(template, root)
    commands = asyncio.create_task(_obey(host, template, listening, stop))
    try:
        await serve(
            host.application,
            template.host,
            template.port,
            lambda address, port: listening.set_result((address, port)),
            stop=stop,
            drain_seconds=1.0,
        )
    finally:
        commands.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await commands
        await host.close()


async def _obey(
    host: _Host, template: Settings, listening: "asyncio.Future[tuple[str, int]]", stop: asyncio.Event
) -> None:
    """Tell where the server is, then carry out what the input says until it ends."""
    try:
        address, port = await listening
        url = f"http://{address}:{port}"
        own = ServerAddress(url=url, process_id=os.getpid(), proxy_url="", proxy_ca="")
        environment = await asyncio.to_thread(client_environment, template, own, proxy=False)
        _say({"url": url, "environment": environment, "data_dir": str(await host.begin(url))})
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        async for line in reader:
            if line.strip() != b"reset":
                raise ValueError(f"a command must be reset, got {line!r}")
            _say({"data_dir": str(await host.reset())})
    finally:
        stop.set()


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


def main() -> int:
    """Serve until the input ends."""
    os.environ.pop("MILLRACE_DATABASE_URL", None)  # tests must not meet the state of a server that is in use
    set_up_logging("warning")
    uvloop.run(_run(Path(sys.argv[1])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
