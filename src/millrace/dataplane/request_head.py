"""Word the heads of requests to containers. Pure."""

import re
from collections.abc import Sequence

from millrace.ports.runtime import Address

__all__ = ["Headers", "request_head"]

Headers = Sequence[tuple[str, str]]

SERVING_HOST = "model.aws.local:8080"
"""What the service calls a container's server that has port 8080 of a network of its own."""

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f]")


def request_head(method: str, path: str, address: Address, headers: Headers = ()) -> bytes:
    """Return the head of a request up to and with its last header line; framing headers are the caller's.

    Raises:
        ValueError: A header would break out of its line.
    """
    if address.handed is not None:
        host = SERVING_HOST
    else:
        host = "localhost" if address.path is not None else str(address)
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "User-Agent: millrace"]
    for name, value in headers:
        if _CONTROL.search(value):
            raise ValueError(f"header {name} must not contain control characters, got {value!r}")
        lines.append(f"{name}: {value}")
    return ("\r\n".join(lines) + "\r\n").encode()
