"""Keep the tasks of a run, the first of which to fail ends it, and see to it that none outlives it."""

import asyncio
from collections.abc import Coroutine, Set
from typing import Any

from millrace.dataplane.lane import Lane

__all__ = ["RunTasks"]


class RunTasks:
    """The tasks of one run, and whether it has ended; to be made on the event loop.

    `committing` are those that must not be cancelled: a commit is either done or not done.
    """

    def __init__(self, committing: Set[asyncio.Task[object]]) -> None:
        self._committing = committing
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: dict[asyncio.Task[None], Lane] = {}
        """Those of the tasks that write outputs in parts."""
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def spawn(self, actor: Coroutine[Any, Any, None], *, writes: Lane | None = None) -> asyncio.Task[None]:
        """Run a task; if it fails, so does the run. `writes` is the lane whose output it writes in parts, if any."""
        task = asyncio.create_task(actor)
        self._tasks.add(task)
        if writes is not None:
            self._writers[task] = writes
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._writers.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.crash(error)

    @property
    def is_over(self) -> bool:
        """Whether the run has ended."""
        return self._ended.done()

    async def wait(self) -> None:
        """Return when the run has ended; raises what broke it off."""
        await self._ended

    def crash(self, error: BaseException) -> None:
        """Break the run off."""
        if not self._ended.done():
            self._ended.set_exception(error)

    def end(self) -> None:
        """End the run."""
        if not self._ended.done():
            self._ended.set_result(None)

    async def close(self, *, keeps_results: bool) -> None:
        """Cancel all tasks, and return when they have ended; first what may be written is, if it is to be kept."""
        for task in self._tasks - self._committing - self._writers.keys():
            task.cancel()
        try:
            if keeps_results:
                await self._keep_results()
        finally:
            for task in self._tasks - self._committing:
                task.cancel()
            while self._tasks:  # a commit under way is waited for
                await asyncio.wait(set(self._tasks))

    async def _keep_results(self) -> None:
        """Have what may be written committed in a last part of each object, for a job that resumes this one."""
        writers = [
            writer
            for writer, lane in self._writers.items()
            if lane.answers or lane.writing or not lane.complete or lane.in_no_part
        ]  # others have nothing left to keep: they wait for those who join ranges
        for writer in writers:
            lane = self._writers[writer]
            lane.closing = True
            lane.wake.set()
        if writers:
            await asyncio.wait(writers)
