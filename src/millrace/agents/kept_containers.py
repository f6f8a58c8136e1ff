"""Start containers again that end while a job works that leaves bad records out.

A record may end the container that it is sent to: it takes all memory, or meets a fault in native code. Where bad
records are to be left out, that is no reason to end the job: the data plane finds the record, once a container is there
again to be asked. What it can't go on with is a container that does not become healthy again, or one that ends again
and again and answers nothing between.
"""

import asyncio
from collections.abc import Callable
from typing import NoReturn

from millrace.agents.serving import ServedContainer, ServedModel, exit_failure
from millrace.clock import Clock
from millrace.dataplane.standing import ContainerEnds

__all__ = ["keep_containers"]

STARTS = 3
"""How often one is started in a row that ends before it is healthy: a request that backed off may have ended it."""


async def keep_containers(
    served: ServedModel,
    *,
    ends: ContainerEnds,
    ends_in_vain: int,
    count_answers: Callable[[], int],
    ping_window_seconds: float,
    clock: Clock,
    report: Callable[[str], None],
) -> NoReturn:
    """Start containers again as they end, until that is of no use.

    Args:
        served: The containers, healthy.
        ends: Told of each end, and that all are healthy again.
        ends_in_vain: How often they may end without an answer between.
        count_answers: Returns how many answers there were so far.
        ping_window_seconds: How long a container may take to become healthy.
        clock: Measures that.
        report: Called with a line of the data log for each end.

    Raises:
        JobFailure: One has ended once too often, can't be started again, or is not healthy then.
    """
    answers, in_vain = count_answers(), 0
    while True:
        ended = await served.wait()
        status = await ended.container.wait()
        seen = count_answers()
        in_vain = in_vain + 1 if seen == answers else 1
        answers = seen
        if in_vain > ends_in_vain:
            raise await exit_failure(ended, f"{in_vain} times without an answer between")
        who = "" if ended.name is None else f" {ended.name}"
        ends.note(clock.monotonic(), f"{who[1:] or 'the container'} exited with {status}")
        report(f"Model container{who} exited with {status}; it is started again{ended.last_words}")
        await served.start_again(ended)
        starts = 1
        while again := await _ended_before_healthy(served, ping_window_seconds, clock):
            if starts == STARTS:
                raise await exit_failure(again, "before it answered /ping, when it was started again")
            starts += 1
            await served.start_again(again)
        ends.note_up(clock.monotonic())


async def _ended_before_healthy(served: ServedModel, window_seconds: float, clock: Clock) -> ServedContainer | None:
    """Return once all containers are healthy, or with the first that ends before."""
    healthy = asyncio.create_task(served.wait_until_healthy(window_seconds=window_seconds, clock=clock))
    ended = asyncio.create_task(served.wait())
    try:
        await asyncio.wait({healthy, ended}, return_when=asyncio.FIRST_COMPLETED)
        if not healthy.done():
            return ended.result()
        healthy.result()
        return None
    finally:
        healthy.cancel()
        ended.cancel()
