"""Put the answers of one object together as its output. Pure."""

from collections.abc import Sequence

__all__ = ["assemble"]

Answer = bytes | list[bytes]
"""An answer's body: bytes, or the pieces it arrived in if it is large."""


def assemble(answers: Sequence[Answer], *, line_after_each: bool) -> list[bytes]:
    """Return the bytes of consecutive answers as few buffers, large ones uncopied.

    Source:
        batch-transform.md 5.1: "newline at the end of every transformed record" follows each answer, even one that
        ends in a newline already.
    """
    terminator = b"\n" if line_after_each else b""
    buffers: list[bytes] = []
    small: list[bytes] = []
    for answer in answers:
        if isinstance(answer, bytes):
            small.append(answer)
            continue
        if small:
            buffers.append(_joined(small, terminator))
            small = []
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
