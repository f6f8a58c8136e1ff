"""Connections that the server closes as soon as they are there."""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
import uvloop
from tests.acceptance.transform_rig import job, no_guard

from millrace.clock import SystemClock
from millrace.dataplane import EffectiveSettings, list_inputs, run_transform
from millrace.jobs.transform import BatchStrategy, InstanceOutcome, SplitType
from millrace.ports.runtime import Address
from millrace.testing.objects import MemoryObjects

RESETS = struct.pack("ii", 1, 0)
"""SO_LINGER of no seconds: closing resets the connection."""


@pytest.fixture(params=[False, True], ids=["closed", "reset"])
def address(request: pytest.FixtureRequest) -> Iterator[Address]:
    """Where connections are taken, and closed by another thread."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                taken, _ = listening.accept()
                if request.param:
                    taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETS)
                taken.close()

    thread = threading.Thread(target=serve)
    thread.start()
    yield Address(port=listening.getsockname()[1])
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join()


async def transform(address: Address) -> InstanceOutcome:
    """Send a few hundred records, in as many objects."""
    store = MemoryObjects()
    for number in range(400):
        store.add(f"s3://b/in/{number}", b"1\n")
    strategy = BatchStrategy.SINGLE_RECORD
    spec = job(split=SplitType.LINE, strategy=strategy, invocation_max_retries=0, invocation_timeout_seconds=3600)
    return await run_transform(
        spec,
        await list_inputs(store, spec),
        objects=store,
        address=address,
        effective=EffectiveSettings(max_concurrent_transforms=8, max_payload_bytes=100, strategy=strategy),
        data_log=lambda _: None,
        on_progress=lambda _: None,
        stop=asyncio.Event(),
        commit_guard=no_guard,
        clock=SystemClock(),
    )


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_request_is_lost_with_its_connection(address: Address, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Also where that is gone before anything was written: nobody waits for an answer, and nothing else breaks."""
    with asyncio.Runner(loop_factory=loop) as runner:
        outcome = runner.run(transform(address))
    assert outcome.failure_count == 400
    assert {told.label for told in outcome.failures} == {"AlgorithmError"}
    assert all(told.message.startswith("Unable to get response from algorithm: ") for told in outcome.failures)
