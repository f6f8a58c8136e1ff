"""A running server for tests: the real application under the real uvicorn, on a free port, in a thread."""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import boto3
from botocore.config import Config

from millrace import http
from millrace.clock import SystemClock
from millrace.http import PlainHandler
from millrace.http.stages import Handlers
from millrace.ports.keys import AccessKey
from millrace.settings import Settings
from millrace.testing.keys import MemoryKeyStore

__all__ = ["ACCESS_KEY", "Live", "client", "running"]

ACCESS_KEY = AccessKey(id="AKIDEXAMPLE", secret="se/cret+key=", role="Role", account="000000000000")


@cache
def _session() -> Any:
    # Its loader keeps the models; a new session per client would read them again.
    return boto3.session.Session()


class Live:
    """A server's address."""

    def __init__(self, port: int, keys: MemoryKeyStore) -> None:
        self.port = port
        self.keys = keys
        # Closed at the end: a client that is merely forgotten warns of its open connections in some later test.
        self.clients: list[Any] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def running(
    handlers: Handlers,
    *,
    keys: MemoryKeyStore | None = None,
    settings: Settings | None = None,
    extra: Mapping[str, PlainHandler] | None = None,
) -> Iterator[Live]:
    """Serve the handlers while the block runs."""
    store = keys or MemoryKeyStore([ACCESS_KEY])
    app = http.app(handlers, keys=store, settings=settings or Settings(), clock=SystemClock(), extra=extra)
    ready = threading.Event()
    ports: list[int] = []
    stopping: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def main() -> None:
        stop = asyncio.Event()
        stopping.append((asyncio.get_running_loop(), stop))

        def on_ready(host: str, port: int) -> None:
            ports.append(port)
            ready.set()

        await http.serve(app, "127.0.0.1", 0, on_ready, stop=stop, handle_signals=False)

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    assert ready.wait(30)
    live = Live(ports[0], store)
    try:
        yield live
    finally:
        for used in live.clients:
            used.close()
        loop, stop = stopping[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)


def client(live: Live, service: str, *, key: AccessKey = ACCESS_KEY, region: str = "us-west-2", **config: Any) -> Any:
    """Return a boto3 client of a running server."""
    made = _session().client(
        service,
        endpoint_url=live.url,
        aws_access_key_id=key.id,
        aws_secret_access_key=key.secret,
        aws_session_token=key.session_token,
        region_name=region,
        config=Config(retries={"total_max_attempts": 1}, **config),
    )
    live.clients.append(made)
    return made
