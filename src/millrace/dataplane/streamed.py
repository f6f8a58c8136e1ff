"""Send one object of any size as one chunked request, its answer straight into the draft of its output.

This is what a payload without a limit needs: nothing of the object is held but what is on its way. An attempt reads the
object from its beginning, and leaves nothing behind if it fails.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

from millrace.clock import Clock
from millrace.dataplane.chain_failures import FAILURE_HEADER, failure_in_place
from millrace.dataplane.client import Client, ConnectionFailed, Headers, InvocationTimeout, StreamedAnswer
from millrace.dataplane.progress import Counters
from millrace.dataplane.record_count import RecordCount
from millrace.dataplane.retry import (
    AttemptFailure,
    Trouble,
    failure_of_status,
    failure_of_trouble,
    retry_after_seconds,
)
from millrace.ports.objects import ObjectWriter

__all__ = ["FailedAttempt", "StreamedAttempt"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FailedAttempt:
    """Why an attempt failed, what broke it off, what the container said, and how long it asked to wait."""

    failure: AttemptFailure
    detail: str = ""
    answer: bytes | None = None
    retry_after: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamedAttempt:
    """What all attempts of a run have in common.

    Records and bytes of an answer are counted once it was committed: those of a broken attempt come again.
    """

    path: str
    headers: Headers
    timeout_seconds: float
    new_count: Callable[[], RecordCount]
    """Makes what counts the records of an attempt, and checks their framing."""
    line_after: bool
    """Whether a line feed follows the answer."""
    kept_bytes: int
    """Of a failing answer, as much is kept to be shown."""
    clock: Clock
    counters: Counters

    async def make(
        self,
        client: Client,
        chunks: AsyncGenerator[bytes, None],
        open_writer: Callable[[], Awaitable[ObjectWriter]],
        commit: Callable[[ObjectWriter, int], Awaitable[bool]],
    ) -> FailedAttempt | None:
        """Make one attempt and commit its output; return why it failed, or None. What `chunks` raises passes.

        `commit` takes the writer and how many records were sent.
        """
        writer: ObjectWriter | None = None
        sent = self.new_count()
        started = self.clock.monotonic()
        try:
            async with aclosing(chunks):
                head = await anext(chunks, None)
                if head is not None:
                    self.counters.requests += 1
                    async with client.stream(
                        "POST",
                        self.path,
                        self.headers,
                        self._counted(head, chunks, sent),
                        timeout_seconds=self.timeout_seconds,
                    ) as answer:
                        failure = failure_of_status(answer.status)
                        if failure is not None:
                            return await self._refused(failure, answer)
                        writer = await open_writer()
                        async for piece in answer:
                            await writer.write(piece)
                    self.counters.latency.add(self.clock.monotonic() - started)
                    if self.line_after:
                        await writer.write(b"\n")
            if writer is None:
                writer = await open_writer()
            if await commit(writer, sent.records):
                writer = None
        except InvocationTimeout:
            return FailedAttempt(failure=failure_of_trouble(Trouble.TIMEOUT, timeout_seconds=self.timeout_seconds))
        except ConnectionFailed as exc:
            failure = failure_of_trouble(Trouble.NO_ANSWER, timeout_seconds=self.timeout_seconds)
            return FailedAttempt(failure=failure, detail=str(exc))
        finally:
            if writer is not None:
                await writer.abort()
        return None

    async def _refused(self, failure: AttemptFailure, answer: StreamedAnswer) -> FailedAttempt:
        headers = dict(answer.headers)
        retry_after = headers.get("retry-after", "").encode() or None
        why = headers.get(FAILURE_HEADER.decode(), "").encode() or None
        return FailedAttempt(
            failure=failure_in_place(failure, why, timeout_seconds=self.timeout_seconds),
            answer=await _first_bytes(answer, self.kept_bytes),
            retry_after=retry_after_seconds(retry_after, self.clock.now()),
        )

    async def _counted(
        self, head: bytes, rest: AsyncGenerator[bytes, None], sent: RecordCount
    ) -> AsyncGenerator[bytes, None]:
        """Yield all chunks and count their records."""
        sent.add(head)
        yield head
        async for chunk in rest:
            sent.add(chunk)
            yield chunk
        sent.finish()


async def _first_bytes(answer: StreamedAnswer, limit: int) -> bytes:
    """Return the beginning of a failing answer, as much as is shown."""
    pieces = []
    size = 0
    async for piece in answer:
        pieces.append(piece)
        size += len(piece)
        if size >= limit:
            break
    return b"".join(pieces)[:limit]
