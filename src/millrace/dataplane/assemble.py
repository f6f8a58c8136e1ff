"""Put the answers of one object together as its output. Pure."""

from collections.abc import Sequence
from enum import Enum, auto

from millrace.dataplane.answer_text import AnswerBody

__all__ = ["LineEnd", "assemble", "joined_parts"]


class LineEnd(Enum):
    """What follows an answer.

    Source:
        batch-transform.md 5.1: "newline at the end of every transformed record" follows each answer, even one that
        ends in a newline already.
    """

    NOTHING = auto()
    ALWAYS = auto()
    """A line feed."""
    WHERE_MISSING = auto()
    """A line feed, unless the answer ends in one: lines are to match those of the input."""


def assemble(answers: Sequence[AnswerBody], line_end: LineEnd) -> list[bytes | memoryview]:
    """Return the bytes of consecutive answers as few buffers, large ones uncopied."""
    terminator = b"" if line_end is LineEnd.NOTHING else b"\n"
    trims = line_end is LineEnd.WHERE_MISSING
    buffers: list[bytes | memoryview] = []
    small: list[bytes] = []
    for answer in answers:
        if isinstance(answer, bytes):
            small.append(answer.removesuffix(b"\n") if trims else answer)
            continue
        if not answer:  # no pieces at all: the payload has no result
            continue
        if small:
            buffers.append(_joined(small, terminator))
            small = []
        if isinstance(answer, memoryview):
            buffers.append(answer)
        else:
            buffers.extend(answer)
        if terminator and not (trims and _ends_line(answer)):
            buffers.append(terminator)
    if small:
        buffers.append(_joined(small, terminator))
    return buffers


def joined_parts(answers: Sequence[bytes], line_end: LineEnd) -> bytes:
    """Return the answers to the parts of a payload as one answer to all of it: what follows that is not in it."""
    match line_end:
        case LineEnd.NOTHING:
            return b"".join(answers)
        case LineEnd.ALWAYS:
            return b"".join([*(one if one.endswith(b"\n") else one + b"\n" for one in answers[:-1]), answers[-1]])
        case LineEnd.WHERE_MISSING:  # the last one may be an empty line, which must not be taken for a line's end
            return b"".join([one.removesuffix(b"\n") + b"\n" for one in answers])


def _ends_line(answer: memoryview | Sequence[bytes | memoryview]) -> bool:
    pieces = (answer,) if isinstance(answer, memoryview) else reversed(answer)
    return next((piece[-1] == 0x0A for piece in pieces if len(piece)), False)


def _joined(answers: list[bytes], terminator: bytes) -> bytes:
    if len(answers) == 1:
        return answers[0] + terminator if terminator else answers[0]
    return terminator.join(answers) + terminator
