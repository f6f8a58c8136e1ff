"""Containers that are started again, and when that is given up."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from millrace.agents.kept_containers import STARTS, keep_containers
from millrace.agents.log_stream import LogStream
from millrace.agents.serving import ServedContainer, ServedModel
from millrace.clock import SystemClock
from millrace.dataplane.standing import ContainerEnds
from millrace.errors import AlgorithmFailure
from millrace.ports.runtime import Address, ExitStatus
from millrace.store.log_files import LogFiles
from millrace.testing.model_server import ModelReply, ModelRequest, ModelServer


class Container:
    """A container that ends when it is told to."""

    address: Address | None = None
    process_id = 0

    def __init__(self) -> None:
        self._ended = asyncio.Event()

    def end(self) -> None:
        self._ended.set()

    async def wait(self) -> ExitStatus:
        await self._ended.wait()
        return ExitStatus(137)

    async def stop(self, grace_seconds: float) -> ExitStatus:
        return await self.wait()


class Kept:
    """A model of one container, which is kept; `starts` are its containers, one after the other.

    Args:
        address: Where all of them listen.
        healthy: Whether each next one stays until it is ended; else it ends at once.
    """

    def __init__(self, address: Address, logs: Path, healthy: Sequence[bool]) -> None:
        self._address = address
        self._stream = LogStream(LogFiles(logs), "g", "s")
        self._healthy = iter(healthy)
        self.starts: list[Container] = []
        self.started = asyncio.Event()
        self.lines: list[str] = []
        self.answers = 0
        self.ends = ContainerEnds()
        self.model = ServedModel(
            containers=[self._start()], address=address, launch_again=lambda ended: self._start_again()
        )

    def _start(self) -> ServedContainer:
        container = Container()
        if not next(self._healthy, True):
            container.end()
        self.starts.append(container)
        self.started.set()
        return ServedContainer(name=None, container=container, address=self._address, stream=self._stream)

    async def _start_again(self) -> ServedContainer:
        return self._start()

    def keep(self, *, ends_in_vain: int = 100) -> "asyncio.Task[None]":
        return asyncio.create_task(
            keep_containers(
                self.model,
                ends=self.ends,
                ends_in_vain=ends_in_vain,
                count_answers=lambda: self.answers,
                ping_window_seconds=60,
                clock=SystemClock(),
                report=self.lines.append,
            )
        )

    async def end_once(self) -> None:
        """End the container that runs; return once the next one is healthy."""
        self.starts[-1].end()
        self.started.clear()
        await self.started.wait()
        await self.ends.wait_until_up()


async def answer(request: ModelRequest) -> ModelReply:
    return ModelReply()


async def test_a_container_is_started_again_in_its_place(tmp_path: Path) -> None:
    """The data plane learns how it ended, and that it is up again; the job's owner reads a line."""
    async with ModelServer(answer) as server:
        kept = Kept(server.address, tmp_path, [True])
        keeping = kept.keep()
        before = SystemClock().monotonic()
        await kept.end_once()
        keeping.cancel()
    assert len(kept.starts) == 2
    assert kept.model.containers[0].container is kept.starts[-1]
    assert kept.ends.down_until >= before
    assert kept.ends.how == "the container exited with status 137 (killed)"
    assert kept.lines == ["Model container exited with status 137 (killed); it is started again"]


async def test_a_container_that_answers_nothing_is_given_up(tmp_path: Path) -> None:
    """After so many ends in a row; answers between have them counted anew."""
    async with ModelServer(answer) as server:
        kept = Kept(server.address, tmp_path, [])
        keeping = kept.keep(ends_in_vain=2)
        for _ in range(5):
            await kept.end_once()
            kept.answers += 1
        for _ in range(2):
            await kept.end_once()
        kept.starts[-1].end()
        with pytest.raises(AlgorithmFailure, match=r"\(killed\) 3 times without an answer between$"):
            await keeping
    assert kept.ends.is_down is False


async def test_a_container_that_ends_before_it_is_healthy_is_given_up(tmp_path: Path) -> None:
    """After a few starts: one may have been ended by a request that came before anybody knew that it was there."""
    async with ModelServer(answer) as server:
        kept = Kept(server.address, tmp_path, [True, *[False] * (STARTS - 1)])
        keeping = kept.keep()
        await kept.end_once()
        assert len(kept.starts) == 1 + STARTS
        keeping.cancel()

        kept = Kept(server.address, tmp_path, [True, *[False] * STARTS])
        keeping = kept.keep()
        kept.starts[-1].end()
        with pytest.raises(AlgorithmFailure, match=r"before it answered /ping, when it was started again$"):
            await keeping
    assert kept.ends.is_down
