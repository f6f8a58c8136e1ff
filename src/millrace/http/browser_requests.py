"""Requests that web browsers send to S3 and no service model has: preflights of CORS, and forms with files."""

from collections.abc import Callable
from typing import Protocol

from millrace.http.stages import Addressed
from millrace.protocol.form_data import find_boundary
from millrace.protocol.message import Context, Request, Response
from millrace.protocol.models import WireProtocol

__all__ = ["BrowserService", "answer_browser", "bucket_of", "cross_origin_headers"]


class BrowserService(Protocol):
    """Answers browsers; errors are raised as ApiError."""

    async def preflight(self, request: Request, bucket: str) -> Response:
        """Answer whether a page may send a request."""
        ...

    async def cross_origin_headers(self, request: Request, bucket: str) -> tuple[tuple[str, str], ...]:
        """Return what lets the page that sent a request read its answer."""
        ...

    async def post_form(self, context: Context, bucket: str, boundary: bytes) -> Response:
        """Store the file of a form."""
        ...


async def answer_browser(
    addressed: Addressed, browsers: BrowserService, context: Callable[[Addressed, str], Context]
) -> Response | None:
    """Answer a preflight or a form; None if the request is neither."""
    request = addressed.request
    if addressed.service.protocol is not WireProtocol.REST_XML or request.method not in ("OPTIONS", "POST"):
        return None
    if request.method == "OPTIONS":
        return await browsers.preflight(request, bucket_of(addressed))
    boundary = find_boundary(addressed.headers.get("content-type"))
    if boundary is None or _key_of(addressed) or addressed.query:
        return None
    return await browsers.post_form(context(addressed, "PutObject"), bucket_of(addressed), boundary)


async def cross_origin_headers(addressed: Addressed, browsers: BrowserService) -> tuple[tuple[str, str], ...]:
    """Return the headers for the page that sent the request: none for a request that is no page's."""
    if "origin" not in addressed.headers or addressed.service.protocol is not WireProtocol.REST_XML:
        return ()
    return await browsers.cross_origin_headers(addressed.request, bucket_of(addressed))


def bucket_of(addressed: Addressed) -> str:
    """Return the bucket that a request names; empty if none."""
    if addressed.destination.bucket is not None:
        return addressed.destination.bucket
    return addressed.request.path.lstrip(b"/").partition(b"/")[0].decode("latin-1")


def _key_of(addressed: Addressed) -> bytes:
    path = addressed.request.path.lstrip(b"/")
    return path if addressed.destination.bucket is not None else path.partition(b"/")[2]
