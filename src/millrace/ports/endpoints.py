"""EndpointRouter: carries an invocation to an instance of an endpoint."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = [
    "INVOCATION_SECONDS",
    "STREAM_SECONDS",
    "AnswerTooLarge",
    "EndpointNotReady",
    "EndpointRouter",
    "Invocation",
    "InvocationAnswer",
    "InvocationStream",
    "NoSuchContainer",
    "NoSuchEndpoint",
    "NoSuchVariant",
    "NoWeights",
]

INVOCATION_SECONDS = 60.0
"""How long a container may take to answer, of a streamed answer until its head is there."""

STREAM_SECONDS = 480.0
"""How long a streamed answer may take from there on."""


class NoSuchEndpoint(Exception):
    """There is no endpoint of that name in the region."""


class NoSuchVariant(Exception):
    """The endpoint has no variant of that name; `known` are the names it has."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(name)
        self.name = name
        self.known = known


class NoSuchContainer(Exception):
    """The invocation names a container that it can't, or none where it must; the text says why."""


class NoWeights(Exception):
    """All variants have weight 0, and the invocation names none."""


class AnswerTooLarge(Exception):
    """The container's answer is larger than an invocation may bring back; the text tells the limit."""


class EndpointNotReady(Exception):
    """No instance can take the invocation now; the text says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Invocation:
    """One request to an endpoint; headers are those that the container may see, by their canonical names.

    `inference_id`, `custom_attributes` and `content_type` are told once more where data capture notes them.
    """

    region: str
    endpoint: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    variant: str | None = None
    container: str | None = None
    """Which of the containers of a model in direct mode is asked; it is among the headers too."""
    session: str | None = None
    """The stateful session that it belongs to: the instance that opened it gets it."""
    content_type: str | None = None
    inference_id: str | None = None
    custom_attributes: str | None = None
    timeout_seconds: float = INVOCATION_SECONDS
    """Until the whole answer is there; of a streamed one, until its head is."""
    stream_timeout_seconds: float = STREAM_SECONDS
    """From the head of a streamed answer to its end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InvocationAnswer:
    """What the container answered, and which variant it was. Header names are lower-case."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes
    variant: str


class InvocationStream(Protocol):
    """An answer that is still arriving; whoever gets it must close it, read to its end or not."""

    status: int
    headers: Sequence[tuple[str, str]]
    """Names are lower-case."""
    variant: str

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives, no faster than it is asked for.

        Raises:
            TimeoutError: The answer was not complete in time.
            ConnectionError: The container dropped the connection before the end.
        """
        ...

    def close(self) -> None:
        """End the request to the container if it is still under way; once."""
        ...


class EndpointRouter(Protocol):
    """Spreads invocations over variants by weight and over instances by load."""

    async def invoke(self, invocation: Invocation) -> InvocationAnswer:
        """Carry one invocation to a container and back.

        Raises:
            NoSuchEndpoint, NoSuchVariant, NoSuchContainer, NoWeights, EndpointNotReady: There is nobody to ask.
            TimeoutError: The container did not answer in time.
            AnswerTooLarge: The container answered more than is carried.
            ConnectionError: The container dropped the connection, or is gone.
        """
        ...

    async def stream(self, invocation: Invocation) -> InvocationStream:
        """Carry one invocation to a container; return once the head of its answer is there. Raises as `invoke`."""
        ...
