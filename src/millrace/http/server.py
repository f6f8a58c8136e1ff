"""uvicorn as Millrace runs it: no access log, no lifespan, drains on SIGTERM and SIGINT."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from millrace.http.app import ASGIApp
from millrace.http.connection import Connection

__all__ = ["BACKLOG", "DRAIN_SECONDS", "KEEP_ALIVE_SECONDS", "OnReady", "serve"]

DRAIN_SECONDS = 30.0
"""Seconds that requests in progress are given after SIGTERM, unless told otherwise."""

KEEP_ALIVE_SECONDS = 75
"""Seconds that an idle connection is kept: longer than the polls of the SDK's waiting loops are apart."""

BACKLOG = 2048
"""Connections that wait to be accepted at most."""

OnReady = Callable[[str, int], None]
"""Called with the host and the real port once connections are accepted."""


async def serve(
    app: ASGIApp,
    host: str,
    port: int,
    on_ready: OnReady | None = None,
    *,
    stop: asyncio.Event | None = None,
    handle_signals: bool = True,
    drain_seconds: float = DRAIN_SECONDS,
) -> None:
    """Serve until SIGTERM, SIGINT or `stop`, then finish the requests in progress and return.

    A second signal ends the process at once, as if it were killed: nothing is lost by that but what is in progress.

    Args:
        app: The application.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        on_ready: Called with the host and the real port once connections are accepted.
        stop: Ends serving when it is set.
        handle_signals: Whether SIGTERM and SIGINT end serving; only possible on the main thread.
        drain_seconds: How long requests in progress are given at the end.

    Raises:
        OSError: The address cannot be listened on.
    """
    stop = stop or asyncio.Event()
    listener = _listen(host, port)
    server = _Server(_config(app, drain_seconds), listener, on_ready)
    stopping = asyncio.ensure_future(_stop_when(stop, server))
    try:
        with _signals(stop if handle_signals else None):
            await server.serve(sockets=[listener])
    finally:
        stopping.cancel()
        listener.close()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # On "::" IPv4 comes in as well, however the machine is set up: what is told to clients is 127.0.0.1.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _config(app: ASGIApp, drain_seconds: float) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        interface="asgi3",
        http=Connection,
        ws="none",
        lifespan="off",
        access_log=False,
        server_header=False,
        log_config=None,
        log_level="warning",
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=drain_seconds,  # type: ignore[arg-type]  # it is only handed to wait_for
        # No proxy of ours adds such headers, and a client must not choose its own scheme and address.
        proxy_headers=False,
    )


class _Server(uvicorn.Server):
    """uvicorn's server, which says when it is ready and leaves signals to us.

    uvicorn raises a caught signal once more when it has shut down, so that the process would end by the signal and
    not with status 0.
    """

    def __init__(self, config: uvicorn.Config, listener: socket.socket, on_ready: OnReady | None) -> None:
        super().__init__(config)
        self._listener = listener
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started and self._on_ready is not None:
            host, port = self._listener.getsockname()[:2]
            self._on_ready(host, port)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextmanager
def _signals(stop: asyncio.Event | None) -> Iterator[None]:
    """Set `stop` at the first SIGTERM or SIGINT while the block runs, and end the process at the second."""
    if stop is None:
        yield
        return
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)
    caught: list[signal.Signals] = []

    def catch(number: signal.Signals) -> None:
        if caught:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        caught.append(number)
        stop.set()

    for number in numbers:
        loop.add_signal_handler(number, catch, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def _stop_when(stop: asyncio.Event, server: uvicorn.Server) -> None:
    await stop.wait()
    server.should_exit = True
