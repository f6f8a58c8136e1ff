"""Wait until a container answers /ping."""

import asyncio
from collections.abc import Awaitable

from millrace.clock import Clock
from millrace.dataplane.client import Client, ClientError, ConnectionFailed
from millrace.errors import AlgorithmFailure
from millrace.ports.runtime import Address

__all__ = ["PING_TIMEOUT_SECONDS", "ping", "wait_until_healthy"]

PING_TIMEOUT_SECONDS = 2.0
"""Source: batch-transform.md 4.3."""

PING_ANSWER_BYTES = 64 * 1024
"""Longest body of an answer to /ping; nobody reads it."""

FIRST_PING_SECONDS = 0.02
LAST_PING_SECONDS = 1.0
PING_GROWTH = 1.3
"""From 20 ms the wait grows to a second in about 15 pings: a quick model is found at once, a slow one not pestered."""

FIRST_CONNECT_SECONDS = 0.004
CONNECT_SHARE = 0.03
"""While nobody listens a try costs the container nothing: its start is noticed at most 3 % (or 4 ms) late."""


async def ping(client: Client) -> str | None:
    """Ask once; return None if the container is healthy, else what was wrong.

    The body of a good answer may be anything of at most 64 KiB. Each ping has a connection of its own: a server with
    one thread would otherwise wait for the next request on this one and never accept another.
    """
    trouble, _ = await _ask(client)
    return trouble


async def _ask(client: Client) -> tuple[str | None, bool]:
    """Return what was wrong, if anything, and whether there is somebody who listens."""
    try:
        answer = await client.invoke(
            "GET",
            "/ping",
            (("Connection", "close"),),
            timeout_seconds=PING_TIMEOUT_SECONDS,
            max_answer_bytes=PING_ANSWER_BYTES,
        )
    except ClientError as exc:
        return str(exc), not (isinstance(exc, ConnectionFailed) and exc.absent)
    return None if answer.status == 200 else f"status {answer.status}", True


async def wait_until_healthy(
    address: Address, *, window_seconds: float, clock: Clock, exited: Awaitable[object] | None = None
) -> None:
    """Return once /ping answers 200.

    Args:
        address: Where the container listens.
        window_seconds: How long it may take.
        clock: Measures the window.
        exited: Completes if the container ends; its result is quoted.

    Raises:
        AlgorithmFailure: Not healthy within the window, or the container ended before.
    """
    pinging: asyncio.Future[object] = asyncio.ensure_future(_ping_until_healthy(address, window_seconds, clock))
    if exited is None:
        await pinging
        return
    ended = asyncio.ensure_future(exited)
    try:
        await asyncio.wait((pinging, ended), return_when=asyncio.FIRST_COMPLETED)
        if not pinging.done():
            raise AlgorithmFailure(
                f"Model container failed to respond to ping: it exited with {ended.result()} before it was healthy"
            )
        await pinging
    finally:
        pinging.cancel()
        if ended is not exited:
            ended.cancel()


async def _ping_until_healthy(address: Address, window_seconds: float, clock: Clock) -> None:
    started = clock.monotonic()
    growing = FIRST_PING_SECONDS
    async with Client(address) as client:
        while True:
            trouble, listens = await _ask(client)
            if trouble is None:
                return
            waited = clock.monotonic() - started
            if listens:
                pause, growing = growing, min(growing * PING_GROWTH, LAST_PING_SECONDS)
            else:
                pause = min(max(FIRST_CONNECT_SECONDS, waited * CONNECT_SHARE), LAST_PING_SECONDS)
            if waited + pause >= window_seconds:
                raise AlgorithmFailure(
                    f"Model container failed to respond to ping within {window_seconds:g} seconds; last: {trouble}"
                )
            await clock.sleep(pause)
