"""Pass a request without a length through a chain as it arrives, and whatever else is not an invocation in memory.

Every container may work on a part of the request at the same time, and none is read faster than the next one takes it.
The connections are closed behind it: a server with one thread would otherwise wait for more on them, and take no other.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from millrace.agents.chain import (
    ERROR_BYTES,
    INVOCATIONS,
    OF_THE_BODY,
    Chain,
    ChainReply,
    Failure,
    Link,
    Passage,
    answer_head,
    failure_of_answer,
    failure_of_error,
    failure_of_time,
)
from millrace.dataplane.answers import StreamedAnswer
from millrace.dataplane.client import Body, Client, ClientError, Headers

__all__ = ["ask_first", "pass_through"]


class _Failed(Exception):
    """A container gave an answer that ends the passage, or none."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.container}: {failure.status}")
        self.failure = failure


async def pass_through(chain: Chain, passage: Passage, body: AsyncIterator[bytes], reply: ChainReply) -> None:
    """Pass an invocation through all containers and give the reply what comes out, be it a failure."""
    await _carry(chain, passage, "POST", INVOCATIONS, body, reply)


async def ask_first(chain: Chain, method: str, path: str, headers: Headers, body: Body, reply: ChainReply) -> None:
    """Have the first container answer what is no invocation: its settings are those of the chain."""
    await _carry(chain, Passage(chain.links[:1], [*headers, ("Connection", "close")]), method, path, body, reply)


async def _carry(chain: Chain, passage: Passage, method: str, path: str, body: Body, reply: ChainReply) -> None:
    begun = False
    asked = passage.links[0]
    try:
        async with asyncio.timeout(chain.limits.give_up_seconds) as deadline, AsyncExitStack() as stack:
            answer: StreamedAnswer | None = None
            for link in passage.links:
                if answer is not None:
                    await _require_success(asked, answer)
                    body = _body_of(asked, answer)
                asked = link
                client = await stack.enter_async_context(Client(link.address, max_idle=0))
                headers = passage.headers(None if answer is None else _of_the_body(answer))
                answer = await stack.enter_async_context(client.stream(method, path, headers, body))
            assert answer is not None
            if method == "POST":
                await _require_success(asked, answer)
            begun = True
            seconds = chain.limits.stream_seconds
            if seconds is not None:
                deadline.reschedule(asyncio.get_running_loop().time() + seconds)
            await _give_on(answer, reply)
        reply.finish()
        return
    except _Failed as failed:
        failure = failed.failure
    except ClientError as exc:
        failure = failure_of_error(asked, exc)
    except TimeoutError:
        failure = failure_of_time(asked, chain.limits.seconds)
    if begun:
        reply.break_off()
    else:
        chain.tell(failure, reply)


async def _give_on(answer: StreamedAnswer, reply: ChainReply) -> None:
    """Pass the last answer on, no faster than the client takes it."""
    has_length = any(name == "content-length" for name, _ in answer.headers)
    reply.begin(answer_head(answer.status, answer.headers), answer.declared_length() if has_length else None)
    async for piece in answer:
        reply.send_piece(piece)
        await reply.room()


async def _require_success(link: Link, answer: StreamedAnswer) -> None:
    """Raise _Failed with the beginning of an answer that is no success."""
    if 200 <= answer.status < 300:
        return
    status, headers = answer.status, answer.headers
    body = b""
    async for piece in answer:
        body += piece
        if len(body) >= ERROR_BYTES:
            break
    raise _Failed(failure_of_answer(link, status, headers, body))


async def _body_of(link: Link, answer: StreamedAnswer) -> AsyncIterator[bytes]:
    """Yield an answer's body as another container's request; what breaks it off is laid at the right door."""
    try:
        async for piece in answer:
            yield piece
    except ClientError as exc:
        raise _Failed(failure_of_error(link, exc)) from exc


def _of_the_body(answer: StreamedAnswer) -> Headers:
    return [entry for entry in answer.headers if entry[0] in OF_THE_BODY]
