"""Run the objects of a job that have no payload limit: each is one chunked request, of which nothing is held."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from millrace.clock import Clock
from millrace.dataplane.assemble import LineEnd
from millrace.dataplane.client import Client
from millrace.dataplane.formats.unreadable import UNREADABLE
from millrace.dataplane.lane import Lane
from millrace.dataplane.object_failures import reading_told, refused_output_told, unusable_told, writing_told
from millrace.dataplane.output_bucket import NoOutputBucket, of_output
from millrace.dataplane.payload import Payload, UnusableRecord
from millrace.dataplane.progress import Counters
from millrace.dataplane.requests import Requests
from millrace.dataplane.rules import PATH, Rules
from millrace.dataplane.streamed import FailedAttempt, StreamedAttempt
from millrace.dataplane.writing import Commits, WritingOwner
from millrace.ports.objects import NoSuchBucket, NoSuchKey, ObjectUnreadable, ObjectWriter
from millrace.ports.runtime import Address

__all__ = ["Streaming"]

_UNREADABLE = (NoSuchKey, NoSuchBucket, ObjectUnreadable, *UNREADABLE)


class Streaming:
    """Streams objects through the container, as many at a time as requests may be sent.

    `give_up` is told of an object whose attempts have failed.
    """

    def __init__(
        self,
        rules: Rules,
        owner: WritingOwner,
        *,
        requests: Requests,
        commits: Commits,
        counters: Counters,
        clock: Clock,
        address: Address,
        give_up: Callable[[Lane, Payload, FailedAttempt], None],
    ) -> None:
        self._rules = rules
        self._owner = owner
        self._requests = requests
        self._commits = commits
        self._counters = counters
        self._clock = clock
        self._address = address
        self._give_up = give_up
        self._slots = asyncio.Semaphore(rules.effective.max_concurrent_transforms)

    async def run(self, lane: Lane) -> None:
        """Send an object as one chunked request and its answer straight to the output; read it again for a retry."""
        try:
            await self._run(lane)
        except Exception as exc:  # noqa: BLE001 - before the lane is closed: with the last one the run would end well
            self._owner.crash(exc)
        finally:
            self._owner.close_lane(lane)

    async def _run(self, lane: Lane) -> None:
        try:
            async with self._slots, Client(self._address) as client:
                await self._attempts(lane, client)
        except NoOutputBucket as exc:
            self._owner.fail(lane, 0, writing_told(lane, "ClientError", str(exc)))
        except OSError as exc:
            self._owner.fail(lane, 0, refused_output_told(lane, exc))
        except UnusableRecord as exc:
            self._owner.fail(lane, 0, unusable_told(lane, exc, limit=0))
        except _UNREADABLE as exc:
            self._owner.fail(lane, 0, reading_told(lane, exc, splits=self._rules.splits))

    async def _attempts(self, lane: Lane, client: Client) -> None:
        spec, limits = self._rules.spec, self._rules.limits
        attempt = StreamedAttempt(
            path=PATH,
            headers=self._rules.headers,
            timeout_seconds=spec.invocation_timeout_seconds,
            new_count=self._rules.formats.record_count,
            line_after=self._rules.line_end is not LineEnd.NOTHING,
            kept_bytes=4 * limits.answer_snippet_chars,
            clock=self._clock,
            counters=self._counters,
        )
        open_writer: Callable[[], Awaitable[ObjectWriter]] = lane.output.open_streamed
        commit = partial(self._commit, lane)
        attempts = 0
        while lane.failure is None:
            self._counters.in_flight += 1
            try:
                failed = await attempt.make(client, lane.reader.chunks(whole=True), open_writer, commit)
            finally:
                self._counters.in_flight -= 1
            if failed is None:
                return
            attempts += 1
            if failed.failure.may_retry and attempts <= spec.invocation_max_retries:
                self._counters.retries += 1
                await self._clock.sleep(self._requests.retry_delay(attempts, failed.retry_after))
            else:
                payload = Payload(b"", 0, 1, 0, 1)
                payload.failed_attempts = spec.invocation_max_retries
                self._give_up(lane, payload, failed)

    async def _commit(self, lane: Lane, writer: ObjectWriter, records: int) -> bool:
        lane.ok = records

        async def commit() -> None:
            info = await writer.commit(origin=lane.output.origin(lane.counts))
            self._counters.bytes_out += info.size

        with of_output(lane.input.output):
            return await self._commits.make(lane, commit)
