"""Carry a request through the containers of a model, one after the other.

The body of each container's answer, and its type, become the next one's request; the last answer is the result. An
answer that is no success ends the passage at once. It is told with the name of the container that gave it, and so is a
container that gives none.

Requests of known length are small enough to be in memory: their answers are held too, between two containers, so that
each container is told a length. Requests without one may be longer than memory: they and all that follows from them
pass through as they arrive, and every container may work on a part of them at the same time.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Protocol

from millrace.dataplane.client import (
    Answer,
    AnswerTooLarge,
    Body,
    Client,
    ClientError,
    Headers,
    StreamedAnswer,
)

__all__ = [
    "ERROR_BYTES",
    "Chain",
    "ChainLimits",
    "ChainReply",
    "ChainRequest",
    "Link",
    "named_failure",
    "plain_failure",
]

CONTAINER_HEADER = "x-millrace-container"
"""In an answer that is no success: whose it is."""

FAILURE_HEADER = "x-millrace-failure"
"""In an answer that we had to give in a container's place: why."""

TARGET_HEADER = "x-amzn-sagemaker-target-container-hostname"
"""In a request: the one container that is asked, and no other."""

TIMED_OUT = "timeout"
NO_ANSWER = "no-answer"
TOO_LARGE = "too-large"

INVOCATIONS = "/invocations"

ERROR_BYTES = 8 * 1024
"""Bytes of an answer that is no success which are passed on; the container's log has the rest."""

_OF_THE_BODY = ("content-type", "content-encoding")
"""Headers that go with a body from one container's answer to the next one's request."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """One container, and the connections to it."""

    name: str
    client: Client


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainLimits:
    """What bounds a passage."""

    answer_bytes: int
    """Longest answer that is held between two containers; not of those that pass through as they arrive."""
    seconds: float
    """From the request's last byte (its head, if it has no length) until the last answer is complete."""
    stream_seconds: float | None = None
    """If given, `seconds` only last until the last answer begins, and from then on these."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainRequest:
    """What comes in: header names are lower-case, and what concerns the connection alone is not among them."""

    method: str
    path: str
    headers: Headers
    body: Body

    def header(self, name: str) -> str | None:
        """Return the value of a header."""
        return next((value for key, value in self.headers if key == name), None)


class ChainReply(Protocol):
    """Takes the answer: whole, or in pieces as they come."""

    def whole(self, status: int, headers: Headers, body: Sequence[bytes]) -> None:
        """Send all of it."""
        ...

    async def stream(self, status: int, headers: Headers, pieces: AsyncIterator[bytes], length: int | None) -> None:
        """Send the head and then each piece, no faster than they are taken; what the iterator raises breaks it off."""
        ...


FailureBody = Callable[[str, bytes], bytes]
"""Makes the body that is told of a container's name and the body of its answer."""


def named_failure(name: str, body: bytes) -> bytes:
    """Put the container's name before its words: for readers who are shown nothing but the body."""
    return name.encode() + b": " + body


def plain_failure(name: str, body: bytes) -> bytes:
    """Leave the container's words alone: for readers who look at the header."""
    return body


class _Failed(Exception):
    """A container gave an answer that ends the passage, or none."""

    def __init__(self, link: Link, status: int, body: bytes, headers: Headers = (), *, why: str | None = None) -> None:
        super().__init__(f"{link.name}: {status}")
        self.link = link
        self.status = status
        self.body = body
        self.headers = headers
        self.why = why


class _Passage:
    """Where a request is now."""

    __slots__ = ("link", "replying")

    def __init__(self, link: Link) -> None:
        self.link = link
        self.replying = False


class Chain:
    """The containers of one model on one instance, in order."""

    def __init__(self, links: Sequence[Link], *, limits: ChainLimits, failure_body: FailureBody) -> None:
        self._links = links
        self._limits = limits
        self._failure_body = failure_body

    async def carry(self, request: ChainRequest, reply: ChainReply) -> None:
        """Take a request through and give the reply what comes out, be it a failure.

        Invocations pass all containers, or the one that they name; anything else is the first container's to answer.

        Raises:
            ConnectionError, TimeoutError: An answer broke off whose beginning was given on already.
        """
        links = self._links
        if request.path != INVOCATIONS:
            # A server with one thread would wait for the next request on this connection and take no other.
            links, request = links[:1], replace(request, headers=[*request.headers, ("Connection", "close")])
        target = request.header(TARGET_HEADER)
        if target is not None:
            links = [link for link in links if link.name == target]
            if not links:
                names = ", ".join(link.name for link in self._links)
                reply.whole(400, (), (f"there is no container {target!r}; the model has {names}".encode(),))
                return
        passage = _Passage(links[0])
        try:
            async with asyncio.timeout(self._limits.seconds) as deadline:
                if isinstance(request.body, AsyncIterator):
                    await self._pass_through(request, request.body, links, passage, reply, deadline)
                else:
                    await self._pass_whole(request, request.body, links, passage, reply, deadline)
        except _Failed as failed:
            self._tell(failed, passage, reply)
        except ClientError as exc:
            self._tell(_unanswered(passage.link, exc), passage, reply)
        except TimeoutError:
            text = f"did not respond to {request.path} within {self._limits.seconds:g} seconds".encode()
            self._tell(_Failed(passage.link, 504, text, why=TIMED_OUT), passage, reply)

    async def _pass_whole(
        self,
        request: ChainRequest,
        body: Body,
        links: Sequence[Link],
        passage: _Passage,
        reply: ChainReply,
        deadline: asyncio.Timeout,
    ) -> None:
        headers = _without_target(request.headers)
        for link in links[:-1]:
            passage.link = link
            answer = await link.client.invoke(
                request.method, request.path, headers, body, max_answer_bytes=self._limits.answer_bytes
            )
            if not 200 <= answer.status < 300:
                raise _Failed(link, answer.status, answer.body[:ERROR_BYTES], _end_to_end(answer.headers))
            body, headers = answer.body, _next_headers(headers, answer)
        passage.link = links[-1]
        async with passage.link.client.stream(request.method, request.path, headers, body) as last:
            await self._relay(passage, last, reply, deadline)

    async def _pass_through(
        self,
        request: ChainRequest,
        body: AsyncIterator[bytes],
        links: Sequence[Link],
        passage: _Passage,
        reply: ChainReply,
        deadline: asyncio.Timeout,
    ) -> None:
        headers = _without_target(request.headers)
        async with AsyncExitStack() as stack:
            answer: StreamedAnswer | None = None
            for link in links:
                if answer is not None:
                    await _require_success(passage.link, answer)
                    headers = _next_headers(headers, answer)
                    body = _body_of(passage.link, answer)
                passage.link = link
                answer = await stack.enter_async_context(
                    link.client.stream(request.method, request.path, headers, body)
                )
            assert answer is not None
            await self._relay(passage, answer, reply, deadline)

    async def _relay(
        self, passage: _Passage, answer: StreamedAnswer, reply: ChainReply, deadline: asyncio.Timeout
    ) -> None:
        """Give the last answer on."""
        await _require_success(passage.link, answer)
        headers = _end_to_end(answer.headers)
        if answer.complete:
            reply.whole(answer.status, headers, [piece async for piece in answer])
            return
        if self._limits.stream_seconds is not None:
            deadline.reschedule(asyncio.get_running_loop().time() + self._limits.stream_seconds)
        passage.replying = True
        length = answer.declared_length() if any(name == "content-length" for name, _ in answer.headers) else None
        await reply.stream(answer.status, headers, aiter(answer), length)

    def _tell(self, failed: _Failed, passage: _Passage, reply: ChainReply) -> None:
        name = failed.link.name
        if passage.replying:
            raise ConnectionError(f"{name}: {failed.body.decode(errors='replace')}") from failed
        told = [*failed.headers, (CONTAINER_HEADER, name)]
        if failed.why is not None:
            told.append((FAILURE_HEADER, failed.why))
        reply.whole(failed.status, told, (self._failure_body(name, failed.body),))


async def _require_success(link: Link, answer: StreamedAnswer) -> None:
    """Raise _Failed with the beginning of an answer that is no success."""
    if 200 <= answer.status < 300:
        return
    status, headers = answer.status, _end_to_end(answer.headers)
    body = b""
    async for piece in answer:
        body += piece
        if len(body) >= ERROR_BYTES:
            break
    raise _Failed(link, status, body[:ERROR_BYTES], headers)


async def _body_of(link: Link, answer: StreamedAnswer) -> AsyncIterator[bytes]:
    """Yield an answer's body as another container's request; what breaks it off is laid at the right door."""
    try:
        async for piece in answer:
            yield piece
    except ClientError as exc:
        raise _unanswered(link, exc) from exc


def _unanswered(link: Link, exc: ClientError) -> _Failed:
    if not isinstance(exc, AnswerTooLarge):
        return _Failed(link, 502, f"unable to get a response: {exc}".encode(), why=NO_ANSWER)
    status = exc.status if exc.status >= 300 else 500
    return _Failed(link, status, f"answer too large: {exc}".encode(), why=TOO_LARGE)


def _without_target(headers: Headers) -> Headers:
    return [entry for entry in headers if entry[0] != TARGET_HEADER]


def _next_headers(headers: Headers, answer: Answer | StreamedAnswer) -> Headers:
    """Return the headers of the next request: those of this one, but for what tells of the body."""
    kept = [entry for entry in headers if entry[0] not in _OF_THE_BODY]
    return kept + [entry for entry in answer.headers if entry[0] in _OF_THE_BODY]


_NOT_PASSED_ON = frozenset(
    {
        "connection",
        "content-length",
        "date",
        "keep-alive",
        "proxy-authenticate",
        "server",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        CONTAINER_HEADER,
        FAILURE_HEADER,
    }
)
"""Headers of answers that concern one connection, or say what nobody asks."""


def _end_to_end(headers: Headers) -> list[tuple[str, str]]:
    return [entry for entry in headers if entry[0] not in _NOT_PASSED_ON]
