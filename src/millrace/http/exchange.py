"""What is known of a request once it is answered, for those who count and log requests."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

__all__ = ["OWN_SERVICE", "UNKNOWN", "Exchange", "OnExchange"]

OWN_SERVICE = "millrace"
"""The service of requests below /_millrace/."""

UNKNOWN = "unknown"
"""Service and operation of requests that were refused before these were known."""


class Exchange(NamedTuple):  # made for every request: a frozen dataclass takes three times as long to make
    """One request and its answer.

    `service` and `operation` are of the tables that this server serves, or UNKNOWN: a client cannot make up new ones.
    `labels` are the parameters in the path, such as EndpointName. The query is left out: it may be a presigned one.
    """

    request_id: str
    method: str
    path: bytes
    service: str
    operation: str
    labels: Mapping[str, str]
    status: int
    headers: tuple[tuple[str, str], ...]
    """Of the answer."""
    seconds: float
    """From the request's headers to the last byte of the answer, or to the client's going away."""


OnExchange = Callable[[Exchange], None]
