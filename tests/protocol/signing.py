"""Requests signed by botocore, as our side receives them."""

from typing import Any
from urllib.parse import urlsplit

from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from millrace.protocol.bodies import MemoryBody
from millrace.protocol.message import Request

__all__ = ["KEY", "SECRET", "received", "signed"]

KEY = "AKIDEXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


def signed(
    signer: type[Any],
    *args: Any,
    method: str = "GET",
    url: str = "http://127.0.0.1:4600/",
    headers: dict[str, str] | None = None,
    body: bytes = b"",
    token: str | None = None,
    **options: Any,
) -> Request:
    """Let one of botocore's signers sign a request, and return it as it arrives."""
    request = AWSRequest(method, url, headers=headers or {}, data=body)
    request.context.update(options.pop("context", {}))
    signer(Credentials(KEY, SECRET, token), *args, **options).add_auth(request)
    return received(request, body)


def received(request: Any, body: bytes) -> Request:
    """Return a prepared request of botocore's as ours."""
    prepared = request.prepare()
    parts = urlsplit(prepared.url)
    headers = {
        name.lower(): value.decode() if isinstance(value, bytes) else str(value)
        for name, value in prepared.headers.items()
    }
    headers.setdefault("host", parts.netloc)
    return Request(
        method=prepared.method,
        path=parts.path.encode(),
        query=parts.query.encode(),
        headers=tuple(headers.items()),
        body=MemoryBody(body),
    )
