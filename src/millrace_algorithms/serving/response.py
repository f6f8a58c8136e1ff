"""Print the head of an HTTP answer."""

from http import HTTPStatus

from millrace_algorithms.serving.invocation import Answer

__all__ = ["head_of"]

_REASONS = {status.value: status.phrase for status in HTTPStatus}


def head_of(answer: Answer, *, keep_alive: bool) -> bytes:
    """Return status line and headers, the empty line included."""
    close = "" if keep_alive else "Connection: close\r\n"
    return (
        f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, '')}\r\n"
        f"Content-Type: {answer.content_type}\r\nContent-Length: {len(answer.body)}\r\n{close}\r\n"
    ).encode("latin-1")
