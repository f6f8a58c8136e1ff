"""Say what a model server that misbehaves sends, and what a client may make of it. Pure."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

__all__ = ["REFUSED", "End", "Fault", "FaultyReply", "faulty_reply", "random_faults"]


class Fault(Enum):
    """What is wrong with the answer to one request."""

    NOTHING = auto()
    # The answer is good, if unusual.
    CHUNKED = auto()
    """It is sent chunked, each chunk by itself, with an extension and a trailer."""
    PIECES = auto()
    """It comes a few bytes at a time."""
    UNTIL_CLOSE = auto()
    """Its end is that of the connection."""
    CONTINUE = auto()
    """100 Continue stands before it."""
    LAST = auto()
    """`Connection: close`, and the connection is closed."""
    CLOSED_BEHIND = auto()
    """The connection is closed behind it, unannounced."""
    SECOND = auto()
    """Another answer, that nobody asked for, stands behind it."""
    # There is no complete answer.
    DROPPED_UNREAD = auto()
    """The connection is closed when the head of the request is there, before its body is read."""
    DROPPED = auto()
    """The connection is closed when the request is there."""
    RESET = auto()
    """It is reset then."""
    HALF_HEAD = auto()
    HALF_BODY = auto()
    LENGTH_TOO_LONG = auto()
    """Content-Length is more than comes before the connection is closed."""
    DAMAGED_CHUNK = auto()
    """The size of a chunk is no number."""
    NO_HTTP = auto()
    SILENCE = auto()
    """No byte is ever sent."""
    # The answer says no.
    TOO_MANY = auto()
    """429."""
    TOO_MANY_FOR_NOW = auto()
    """429 with Retry-After."""
    UNAVAILABLE = auto()
    """503."""
    BROKEN = auto()
    """500, and the connection is closed."""
    # The answer is complete and says yes, but is not what the records ask for.
    LENGTH_TOO_SHORT = auto()
    """Content-Length is less than what comes."""
    FEW_ROWS = auto()
    MANY_ROWS = auto()
    HUGE = auto()
    """It is far longer than the client takes."""


class End(Enum):
    """What becomes of the connection."""

    KEPT = auto()
    CLOSED = auto()
    RESET = auto()


@dataclass(frozen=True, kw_only=True, slots=True)
class FaultyReply:
    """What is sent: `pieces`, each by itself. `answer` is the body that a client reads of it, None if there is none."""

    pieces: Sequence[bytes]
    end: End = End.KEPT
    status: int = 200
    answer: bytes | None = None


REFUSED = FaultyReply(pieces=(b"HTTP/1.1 400 Bad\r\nContent-Length: 3\r\n\r\nbad",), status=400, answer=b"bad")
"""The answer to records that the model cannot take."""

_STATUSES = {
    Fault.TOO_MANY: (429, "", End.KEPT),
    Fault.TOO_MANY_FOR_NOW: (429, "Retry-After: 7\r\n", End.KEPT),
    Fault.UNAVAILABLE: (503, "", End.KEPT),
    Fault.BROKEN: (500, "Connection: close\r\n", End.CLOSED),
}
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\n"


def faulty_reply(fault: Fault, rows: Sequence[bytes], *, huge_bytes: int) -> FaultyReply:
    """Return what is sent in the place of the rows; a huge answer has `huge_bytes`."""
    body = b"\n".join(rows)
    if fault in _STATUSES:
        status, header, end = _STATUSES[fault]
        head = f"HTTP/1.1 {status} No\r\n{header}Content-Length: 2\r\n\r\n".encode()
        return FaultyReply(pieces=(head + b"no",), end=end, status=status, answer=b"no")
    if fault is Fault.FEW_ROWS:
        body = b"\n".join(rows[:-1])
    elif fault is Fault.MANY_ROWS:
        body = b"\n".join([*rows, b"more"])
    elif fault is Fault.HUGE:
        body = b"h" * huge_bytes
    whole = _HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    match fault:
        case Fault.CHUNKED:
            pieces = [_HEAD + b"Transfer-Encoding: chunked\r\n\r\n"]
            pieces += [
                b"%x;a=b\r\n%b\r\n" % (len(body[at : at + 5]), body[at : at + 5]) for at in range(0, len(body), 5)
            ]
            return FaultyReply(pieces=(*pieces, b"0\r\nEnded: yes\r\n\r\n"), answer=body)
        case Fault.PIECES:
            return FaultyReply(pieces=[whole[at : at + 17] for at in range(0, len(whole), 17)], answer=body)
        case Fault.UNTIL_CLOSE:
            return FaultyReply(pieces=(_HEAD + b"\r\n" + body,), end=End.CLOSED, answer=body)
        case Fault.CONTINUE:
            return FaultyReply(pieces=(b"HTTP/1.1 100 Continue\r\n\r\n", whole), answer=body)
        case Fault.LAST:
            last = whole.replace(_HEAD, _HEAD + b"Connection: close\r\n", 1)
            return FaultyReply(pieces=(last,), end=End.CLOSED, answer=body)
        case Fault.CLOSED_BEHIND:
            return FaultyReply(pieces=(whole,), end=End.CLOSED, answer=body)
        case Fault.SECOND:
            return FaultyReply(pieces=(whole + whole,), answer=body)
        case Fault.DROPPED | Fault.DROPPED_UNREAD:
            return FaultyReply(pieces=(), end=End.CLOSED)
        case Fault.RESET:
            return FaultyReply(pieces=(), end=End.RESET)
        case Fault.HALF_HEAD:
            return FaultyReply(pieces=(whole[:20],), end=End.CLOSED)
        case Fault.HALF_BODY:
            return FaultyReply(pieces=(whole[: len(whole) - len(body) // 2 - 1],), end=End.CLOSED)
        case Fault.LENGTH_TOO_LONG:
            longer = _HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body) + 9, body)
            return FaultyReply(pieces=(longer,), end=End.CLOSED)
        case Fault.DAMAGED_CHUNK:
            damaged = b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nxyz\r\n"
            return FaultyReply(pieces=(_HEAD + damaged,), end=End.CLOSED)
        case Fault.NO_HTTP:
            return FaultyReply(pieces=(b"\x16\x03\x01 what?\r\n\r\n",), end=End.CLOSED)
        case Fault.SILENCE:
            return FaultyReply(pieces=())
        case Fault.LENGTH_TOO_SHORT:
            cut = body[: len(body) // 2]
            shorter = _HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(cut), body)
            return FaultyReply(pieces=(shorter,), answer=cut)
    return FaultyReply(pieces=(whole,), answer=body)


def random_faults(seed: int, count: int, *, rate: float = 0.3, among: Sequence[Fault] = tuple(Fault)) -> list[Fault]:
    """Return the faults of the first `count` requests: the same for the same seed."""
    chance = random.Random(seed)
    return [chance.choice(among) if chance.random() < rate else Fault.NOTHING for _ in range(count)]
