"""The metrics page: who may read it, and its bytes."""

import hmac
from collections.abc import Awaitable, Callable
from ipaddress import ip_address

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from millrace.errors import StoreUnavailable
from millrace.protocol.message import Request, Response
from millrace.relayed import RELAY_ADDRESS

__all__ = ["MetricsPage"]

_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
_TEXT = (("content-type", "text/plain; charset=utf-8"),)


class MetricsPage:
    """Answers GET /_millrace/metrics.

    With a token, whoever presents it may read. Without one only programs of this machine may, and only directly: a
    request that a proxy on this machine handed on comes from anywhere, and one that an agent carried from a container.
    """

    def __init__(self, registry: CollectorRegistry, read_state: Callable[[], Awaitable[None]], *, token: str) -> None:
        self._registry = registry
        self._read_state = read_state
        self._token = token.encode()

    async def __call__(self, request: Request) -> Response:
        """Return the page, or why not."""
        if request.method not in ("GET", "HEAD"):
            return Response(status=405, headers=(*_TEXT, ("allow", "GET, HEAD")), body=b"metrics are read by GET\n")
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        try:
            await self._read_state()
        except StoreUnavailable:
            return Response(status=503, headers=_TEXT, body=b"the state store does not answer\n")
        encode, media_type = choose_encoder(request.header("accept") or "")
        return Response(status=200, headers=(("content-type", media_type),), body=encode(self._registry))

    def _refusal(self, request: Request) -> Response | None:
        if self._token:
            scheme, _, token = (request.header("authorization") or "").partition(" ")
            if scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), self._token):
                return None
            headers = (*_TEXT, ("www-authenticate", 'Bearer realm="millrace"'))
            return Response(status=401, headers=headers, body=b"metrics take the token of MILLRACE_METRICS_TOKEN\n")
        if _is_of_this_machine(request):
            return None
        text = b"without MILLRACE_METRICS_TOKEN metrics are for programs of this machine only\n"
        return Response(status=403, headers=_TEXT, body=text)


def _is_of_this_machine(request: Request) -> bool:
    if any(request.header(name) is not None for name in _FORWARDED):
        return False
    try:
        address = ip_address(request.client)
        return address.is_loopback and address != ip_address(RELAY_ADDRESS)
    except ValueError:
        return False
