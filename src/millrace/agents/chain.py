"""What passes through the containers of a model, one after the other, and what is told of those that fail. Pure.

The body of each container's answer, and its type, become the next one's request; the last answer is the result. An
answer that is no success ends the passage at once. It is told with the name of the container that gave it, and so is a
container that gives none.

Requests of known length are small enough to be in memory: their answers are held too, between two containers, so that
each container is told a length (`chain_lane.py`). Requests without one may be longer than memory: they and all that
follows from them pass through as they arrive (`chain_stream.py`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

from millrace.agents.chain_room import Room
from millrace.dataplane.chain_failures import FAILURE_HEADER, Absence
from millrace.dataplane.client_errors import AnswerTooLarge
from millrace.dataplane.connection import Buffers
from millrace.dataplane.request_head import Headers, request_head
from millrace.dataplane.retry import too_large
from millrace.ports.runtime import Address

__all__ = [
    "CONTAINER_HEADER",
    "ERROR_BYTES",
    "INVOCATIONS",
    "OF_THE_BODY",
    "Chain",
    "ChainLimits",
    "ChainReply",
    "Failure",
    "Link",
    "Passage",
    "answer_head",
    "failure_of_answer",
    "failure_of_error",
    "failure_of_time",
    "named_failure",
    "of_the_body",
    "plain_failure",
]

INVOCATIONS = "/invocations"

CONTAINER_HEADER = "x-millrace-container"
"""In an answer that is no success: whose it is."""

TARGET_HEADER = "x-amzn-sagemaker-target-container-hostname"
"""In a request: the one container that is asked, and no other."""

ERROR_BYTES = 8 * 1024
"""Bytes of an answer that is no success which are passed on; the container's log has the rest."""

GIVE_UP_EARLIER_SECONDS = 0.25
GIVE_UP_EARLIER_SHARE = 0.1

KNOWN_HEADS = 256
"""Heads of requests, and of answers, that are remembered; a job has one or two."""

OF_THE_BODY = ("content-type", "content-encoding")
"""Headers that go with a body from one container's answer to the next one's request."""

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
        FAILURE_HEADER.decode(),
    }
)
"""Headers of answers that concern one connection, or say what nobody asks."""

_PHRASES = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """One container of a chain."""

    name: str
    address: Address


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainLimits:
    """What bounds a passage."""

    answer_bytes: int
    """Longest answer that is held between two containers; not of those that pass through as they arrive."""
    held_bytes: int
    """Bytes of such answers of all requests under way; one is always let through."""
    seconds: float
    """How long the client waits until the last answer is complete."""
    stream_seconds: float | None = None
    """If given, `seconds` only last until the last answer begins, and from then on these."""

    @property
    def give_up_seconds(self) -> float:
        """How long we wait: a little less than the client, to be able to tell it which container was slow."""
        return self.seconds - min(GIVE_UP_EARLIER_SECONDS, self.seconds * GIVE_UP_EARLIER_SHARE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """How a passage ended that did not come to its end: what the client is answered, and whose fault it is."""

    container: str
    status: int
    body: bytes
    headers: Headers = ()
    why: Absence | None = None
    """Why the container gave no answer of its own, if it gave none."""
    detail: bytes = b""
    """What is to be said behind that, for readers who word it themselves."""


class ChainReply(Protocol):
    """Takes the answer to one request. A head ends where the framing header's line begins."""

    def send_whole(self, head: bytes, body: Buffers) -> None:
        """Send all of it."""
        ...

    def begin(self, head: bytes, length: int | None) -> None:
        """Send the head of one whose body follows in pieces; None is a length that is not known."""
        ...

    def send_piece(self, piece: bytes) -> None:
        """Send a piece of the body."""
        ...

    async def room(self) -> None:
        """Wait until the client has taken enough of what was sent."""
        ...

    def finish(self) -> None:
        """End an answer in pieces."""
        ...

    def break_off(self) -> None:
        """Drop the connection: the answer has begun and can't be completed."""
        ...


FailureBody = Callable[[Failure], bytes]
"""Makes the body that is told of a failure."""


def named_failure(failure: Failure) -> bytes:
    """Put the container's name before its words: for the data plane, whose own words come before both."""
    words = failure.body if failure.why is None else failure.detail
    return b": ".join(part for part in (failure.container.encode(), words) if part)


def plain_failure(failure: Failure) -> bytes:
    """Leave the words alone: for readers who look at the header."""
    return failure.body


def failure_of_answer(link: Link, status: int, headers: Headers, body: bytes) -> Failure:
    """Return what an answer is that is no success; names of headers are lower-case."""
    return Failure(container=link.name, status=status, body=body[:ERROR_BYTES], headers=_end_to_end(headers))


def failure_of_error(link: Link, error: Exception) -> Failure:
    """Return what it is that a container gave no answer, or one that is too long."""
    detail = f"{error}".encode()
    if not isinstance(error, AnswerTooLarge):
        text = b"unable to get a response: " + detail
        return Failure(container=link.name, status=502, body=text, why=Absence.NO_ANSWER, detail=detail)
    text = b"answer too large: " + detail
    if error.status >= 300:
        return Failure(container=link.name, status=error.status, body=text)
    detail = too_large(error.limit, error.size).encode()
    return Failure(container=link.name, status=500, body=text, why=Absence.TOO_LARGE, detail=detail)


def failure_of_time(link: Link, seconds: float) -> Failure:
    """Return what it is that the time was over while a container was at work."""
    text = f"did not respond to {INVOCATIONS} within {seconds:g} seconds".encode()
    return Failure(container=link.name, status=504, body=text, why=Absence.TIMED_OUT)


def answer_head(status: int, headers: Headers) -> bytes:
    """Return the head of an answer up to its framing header."""
    lines = [f"HTTP/1.1 {status} {_PHRASES.get(status, 'Status')}"]
    lines += [f"{name}: {value}" for name, value in _end_to_end(headers)]
    return ("\r\n".join(lines) + "\r\n").encode("latin-1")


def of_the_body(headers: Sequence[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    """Return those of an answer's headers that the next container is told."""
    return tuple(
        (lower, value.decode("latin-1"))
        for name, value in headers
        if (lower := name.decode("latin-1").lower()) in OF_THE_BODY
    )


def _end_to_end(headers: Headers) -> list[tuple[str, str]]:
    return [entry for entry in headers if entry[0] not in _NOT_PASSED_ON]


class Passage:
    """What is the same for all requests with one head: whom they pass, and what each of them is told."""

    __slots__ = ("_first", "_headers", "_later", "links")

    def __init__(self, links: Sequence[Link], headers: Headers) -> None:
        self.links = links
        self._headers = headers
        self._first = self._head(0, headers)
        self._later: dict[tuple[int, tuple[tuple[str, str], ...]], bytes] = {}

    def headers(self, body_headers: Headers | None) -> Headers:
        """Return what a container is told; of the body that which came with it, None for the request's own."""
        if body_headers is None:
            return self._headers
        return [*(entry for entry in self._headers if entry[0] not in OF_THE_BODY), *body_headers]

    def head(self, place: int, body_headers: tuple[tuple[str, str], ...]) -> bytes:
        """Return the head for the container at a place, up to the value of Content-Length."""
        if not place:
            return self._first
        head = self._later.get((place, body_headers))
        if head is None:
            head = self._head(place, self.headers(body_headers))
            if len(self._later) >= KNOWN_HEADS:
                self._later.clear()
            self._later[place, body_headers] = head
        return head

    def _head(self, place: int, headers: Headers) -> bytes:
        return request_head("POST", INVOCATIONS, self.links[place].address, headers) + b"Content-Length: "


class Chain:
    """The containers of one model on one instance, in order."""

    def __init__(self, links: Sequence[Link], *, limits: ChainLimits, failure_body: FailureBody) -> None:
        self.links = links
        self.limits = limits
        self.room = Room(limits.held_bytes)
        self._failure_body = failure_body
        self._answer_heads: dict[tuple[int, tuple[tuple[bytes, bytes], ...]], bytes] = {}

    def passage(self, headers: Headers) -> Passage | Failure:
        """Return the way of an invocation: through all containers, or to the one that it names."""
        target = next((value for name, value in headers if name == TARGET_HEADER), None)
        if target is None:
            return Passage(self.links, headers)
        for link in self.links:
            if link.name == target:
                return Passage([link], [entry for entry in headers if entry[0] != TARGET_HEADER])
        names = ", ".join(link.name for link in self.links)
        text = f"there is no container {target!r}; the model has {names}"
        return Failure(container=target, status=400, body=text.encode())

    def answer_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
        """Return the head of the last answer as it is passed on, up to its framing header."""
        key = (status, tuple(headers))
        head = self._answer_heads.get(key)
        if head is None:
            decoded = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers]
            head = answer_head(status, decoded)
            if len(self._answer_heads) >= KNOWN_HEADS:
                self._answer_heads.clear()
            self._answer_heads[key] = head
        return head

    def tell(self, failure: Failure, reply: ChainReply) -> None:
        """Answer with a failure."""
        lines = answer_head(failure.status, failure.headers)
        lines += f"{CONTAINER_HEADER}: {failure.container}\r\n".encode("latin-1", "replace")
        if failure.why is not None:
            lines += b"%s: %s\r\n" % (FAILURE_HEADER, failure.why.encode())
        reply.send_whole(lines, self._failure_body(failure))
