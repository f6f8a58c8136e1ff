"""Say why an exchange with a container gave no complete answer."""

__all__ = ["AnswerTooLarge", "ClientError", "ConnectionFailed", "InvocationTimeout"]


class ClientError(Exception):
    """The exchange gave no complete answer."""


class ConnectionFailed(ClientError):
    """The connection could not be made, or ended before the answer was complete.

    `stale` tells that a reused connection was closed before one byte of the answer came: the server had most likely
    given it up while it was idle, and the request may be sent again. `absent` tells that nobody listens there.
    """

    def __init__(self, message: str, *, stale: bool = False, absent: bool = False) -> None:
        super().__init__(message)
        self.stale = stale
        self.absent = absent


class InvocationTimeout(ClientError):
    """No complete answer within the time allowed."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no complete answer within {seconds:g} seconds")
        self.seconds = seconds


class AnswerTooLarge(ClientError):
    """The answer's body is longer than the caller takes; `status` is the answer's.

    `size` is the length that the container declared; None if it declared none and sent more than the limit.
    """

    def __init__(self, limit: int, *, status: int, size: int | None = None) -> None:
        got = "more" if size is None else f"{size}"
        super().__init__(f"the body of an answer must be at most {limit} bytes, got {got}")
        self.limit = limit
        self.status = status
        self.size = size
