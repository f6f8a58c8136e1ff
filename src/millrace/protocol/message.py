"""Requests, replies and what a handler is told: the types that http, protocol and services share."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

__all__ = [
    "Body",
    "BodyResult",
    "Context",
    "FileRegion",
    "Handler",
    "Head",
    "Params",
    "Principal",
    "Reply",
    "Request",
    "Response",
    "Result",
    "WireEntries",
]

Params = Mapping[str, Any]
"""Input of an operation: wire names, but true `datetime`, `bytes`, `int`; a streaming body is a `Body`."""


class WireEntries(list[dict[str, Any]]):
    """A list in a Result whose entries are told in the wire's own terms, so that nobody has to look at each member.

    Only members that the model has, none of them None; strings, numbers and times as `told_micros` gives them. Nothing
    is added once it was told: whoever keeps it for the next answer keeps `json`, what it looks like, with it.
    """

    __slots__ = ("json",)

    def __init__(self, entries: Iterable[dict[str, Any]] = ()) -> None:
        super().__init__(entries)
        self.json: bytes | None = None


Result = Mapping[str, Any]
"""Output of an operation, in wire names; members that are None are left out."""


class BodyResult(dict[str, Any]):
    """A Result with a Body, all of whose other members are headers and the same in many answers.

    `head` is theirs together: whoever writes the first answer keeps in it what the headers look like.
    """

    __slots__ = ("head",)

    def __init__(self, head: "Head", body: "FileRegion") -> None:
        super().__init__(head.members, Body=body)
        self.head = head


class Head:
    """Members that are headers, and what they look like once they were written."""

    __slots__ = ("headers", "members")

    def __init__(self, members: Mapping[str, Any]) -> None:
        self.members = members
        self.headers: tuple[tuple[str, str], ...] | None = None


class Body(Protocol):
    """A request body that is read once, as it arrives."""

    @property
    def length(self) -> int | None:
        """Bytes of the decoded body if the client said so, else None."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the body's bytes; raises an ApiError where a checksum or signature does not hold."""
        ...

    async def read(self, limit: int) -> bytes:
        """Return the whole body; raises ValidationError if it is longer than `limit` bytes."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """An HTTP request as it was sent: nothing is decoded or normalised.

    `path` and `query` are the raw bytes of the request target; header names are lower-case.
    """

    method: str
    path: bytes
    query: bytes
    headers: tuple[tuple[str, str], ...]
    body: Body
    scheme: str = "http"
    client: str = ""
    """Address of the other end of the connection: the client, or a proxy before us."""
    first_headers: dict[str, str] = field(init=False, repr=False, compare=False)
    """The first value of each header; a request is asked for a dozen of them on its way."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "first_headers", dict(reversed(self.headers)))

    @property
    def repeats_headers(self) -> bool:
        """Whether some header stands in the request more than once."""
        return len(self.first_headers) < len(self.headers)

    def header(self, name: str) -> str | None:
        """Return the first value of a header, by its lower-case name."""
        return self.first_headers.get(name)


@dataclass(frozen=True, slots=True)
class FileRegion:
    """Bytes `start` to `start + length` of a file, sent without being read into memory at once.

    The file is opened when sending starts, from `fd` if one is given: an object replaced meanwhile is still sent
    whole. The sender closes `fd`.
    """

    path: Path
    start: int
    length: int
    fd: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Response:
    """An HTTP answer: bytes, a file's region, or a stream of bytes."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | FileRegion | AsyncIterator[bytes] = b""


@dataclass(frozen=True, kw_only=True, slots=True)
class Principal:
    """Who signed the request: an assumed role's session of this account."""

    access_key: str
    account: str
    role: str
    session: str = "millrace"

    @property
    def arn(self) -> str:
        """The ARN that GetCallerIdentity tells."""
        return f"arn:aws:sts::{self.account}:assumed-role/{self.role}/{self.session}"

    @property
    def role_arn(self) -> str:
        """The ARN of the role itself."""
        return f"arn:aws:iam::{self.account}:role/{self.role}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """What a handler may know about a call beyond its parameters."""

    request_id: str
    service: str
    operation: str
    region: str
    account: str
    principal: Principal | None
    base_url: str
    """Scheme, host and port as the client used them; URLs handed to the client start with it."""
    request: Request


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """A handler's answer where a bare Result does not say enough: another status, headers outside the model."""

    result: Result = field(default_factory=dict)
    status: int | None = None
    headers: tuple[tuple[str, str], ...] = ()


Handler = Callable[[Context, Params], Awaitable[Result | Reply | None]]
"""An operation's implementation; None stands for an empty answer. Errors are raised as ApiError."""
