"""EndpointRouter: carries an invocation to an instance of an endpoint."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = [
    "AnswerTooLarge",
    "EndpointNotReady",
    "EndpointRouter",
    "Invocation",
    "InvocationAnswer",
    "NoSuchEndpoint",
    "NoSuchVariant",
]


class NoSuchEndpoint(Exception):
    """There is no endpoint of that name in the region."""


class NoSuchVariant(Exception):
    """The endpoint has no variant of that name; `known` are the names it has."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(name)
        self.name = name
        self.known = known


class AnswerTooLarge(Exception):
    """The container's answer is larger than an invocation may bring back; the text tells the limit."""


class EndpointNotReady(Exception):
    """No instance can take the invocation now; the text says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Invocation:
    """One request to an endpoint; headers are those that the container may see, by their canonical names."""

    region: str
    endpoint: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    variant: str | None = None
    timeout_seconds: float = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class InvocationAnswer:
    """What the container answered, and which variant it was. Header names are lower-case."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes
    variant: str


class EndpointRouter(Protocol):
    """Spreads invocations over variants by weight and over instances by load."""

    async def invoke(self, invocation: Invocation) -> InvocationAnswer:
        """Carry one invocation to a container and back.

        Raises:
            NoSuchEndpoint, NoSuchVariant, EndpointNotReady: There is nobody to ask.
            TimeoutError: The container did not answer in time.
            AnswerTooLarge: The container answered more than is carried.
            ConnectionError: The container dropped the connection, or is gone.
        """
        ...
