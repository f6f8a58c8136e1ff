"""The bounds on what a model server holds and waits for."""

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Bytes, counts and seconds of the HTTP server and its workers."""

    body_bytes: int = 100 * 1024 * 1024
    """Largest request body; a larger one gets 413."""
    header_bytes: int = 64 * 1024
    """Largest request line with headers; a larger one gets 431."""
    inline_bytes: int = 64 * 1024
    """Larger bodies are evaluated by a worker; handing over costs more than it gains for smaller ones."""
    inline_seconds: float = 0.005
    """Once one inline evaluation took longer, all are given to workers, so that the server stays responsive."""
    pipelined_requests: int = 16
    """Requests read ahead on one connection before it is left to wait."""
    receive_bytes: int = 64 * 1024
    """Read from a socket at once; what is left of a large body is read by the worker that evaluates it."""
    body_stall_seconds: float = 60.0
    """How long a client may send nothing in the middle of a body that a worker reads before it gets 408."""
    answer_stall_seconds: float = 1.0
    """How long a client may take nothing of an answer that a worker writes before the server writes it in its place."""
    drain_seconds: float = 25.0
    """How long requests in flight may take after SIGTERM; SIGKILL follows it after 30."""
    backlog: int = 1024
