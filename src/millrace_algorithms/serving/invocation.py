"""One call of a model: what is asked and what is answered."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Answer", "Invocation", "Model"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Invocation:
    """The body of one request with the headers that matter."""

    chunks: Iterable[bytes]
    """The body in pieces; may be iterated once."""
    content_type: str | None = None
    accept: str | None = None

    def body(self) -> bytes:
        """Return the whole body in one piece."""
        pieces = list(self.chunks)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What the caller gets."""

    body: bytes
    content_type: str = "text/plain"
    status: int = 200


class Model(Protocol):
    """A loaded model. Calls may come in several processes forked from the one that loaded it."""

    def invoke(self, invocation: Invocation) -> Answer:
        """Answer one call; raises RequestError for what the caller can put right."""
        ...
