"""Put the answers of one object together as its output. Pure."""

from collections.abc import Sequence

from millrace.dataplane.connection import AnswerBody

__all__ = ["assemble"]


def assemble(answers: Sequence[AnswerBody], *, line_after_each: bool) -> list[bytes | memoryview]:
    """Return the bytes of consecutive answers as few buffers, large ones uncopied.

    Source:
        batch-transform.md 5.1: "newline at the end of every transformed record" follows each answer, even one that
        ends in a newline already.
    """
    terminator = b"\n" if line_after_each else b""
    buffers: list[bytes | memoryview] = []
    small: list[bytes] = []
    for answer in answers:
        if isinstance(answer, bytes):
            small.append(answer)
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
        if terminator:
            buffers.append(terminator)
    if small:
        buffers.append(_joined(small, terminator))
    return buffers


def _joined(answers: list[bytes], terminator: bytes) -> bytes:
    if len(answers) == 1:
        return answers[0] + terminator if terminator else answers[0]
    return terminator.join(answers) + terminator
