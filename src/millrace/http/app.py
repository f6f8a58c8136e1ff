"""The ASGI application: a request's life from bytes to bytes, as one list of stages."""

import base64
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

from millrace.clock import Clock
from millrace.errors import ApiError, S3Error
from millrace.http.bodies import Receive, ReceivedBody, Send
from millrace.http.browser_requests import BrowserService, answer_browser, cross_origin_headers
from millrace.http.connection import SEND_FILE
from millrace.http.exchange import OWN_SERVICE, UNKNOWN, Exchange, OnExchange
from millrace.http.sending import send_response
from millrace.http.stages import (
    Addressed,
    Handlers,
    assign_request_id,
    base_url,
    check_account,
    find_handler,
    find_operation,
    find_service,
    make_context,
    parse,
    serialize,
    verify,
)
from millrace.names import DEFAULT_REGION
from millrace.ports.keys import KeyStore
from millrace.protocol.dispatch import guess_protocol
from millrace.protocol.faults import InternalError, Speaker, fault_response, wire_fault
from millrace.protocol.message import Context, Request, Response
from millrace.protocol.models import WireProtocol
from millrace.settings import Settings

__all__ = ["OWN_PREFIX", "ASGIApp", "PlainHandler", "app"]

log = logging.getLogger(__name__)

ASGIApp = Callable[[Any, Receive, Send], Awaitable[None]]
PlainHandler = Callable[[Request], Awaitable[Response]]

OWN_PREFIX = b"/_millrace/"
"""Paths below this are the server's own; no bucket can have the name."""

SCRAPE_PATH = b"/metrics"
SCRAPE_TARGET = b"/_millrace/metrics"
"""Where what Prometheus asks for by default is found; see `_is_scrape`."""

_IPV4_MAPPED = "::ffff:"

_NO_LABELS: Mapping[str, str] = {}
_NOTHING: Mapping[str, Any] = {}


def app(
    handlers: Handlers,
    *,
    keys: KeyStore,
    settings: Settings,
    clock: Clock,
    extra: Mapping[str, PlainHandler] | None = None,
    browsers: BrowserService | None = None,
    on_exchange: Sequence[OnExchange] = (),
) -> ASGIApp:
    """Return the application.

    Args:
        handlers: Operation name to handler, by botocore's service name ("sagemaker", "s3").
        keys: Who may sign.
        settings: Its account, clock skew and limit of bodies in memory are used.
        clock: Tells whether signatures are current.
        extra: Handlers of raw paths below /_millrace/, unsigned; one that ends in a slash takes all below it.
        browsers: Answers what only browsers send to S3.
        on_exchange: Told of each request when its answer is sent; must be quick.
    """
    own = {path.encode(): handler for path, handler in (extra or {}).items()}
    return _App(handlers, keys, settings, clock, own, browsers, on_exchange)


class _App:
    def __init__(
        self,
        handlers: Handlers,
        keys: KeyStore,
        settings: Settings,
        clock: Clock,
        extra: Mapping[bytes, PlainHandler],
        browsers: BrowserService | None,
        on_exchange: Sequence[OnExchange],
    ) -> None:
        self._handlers = handlers
        self._keys = keys
        self._settings = settings
        self._clock = clock
        self._extra = extra
        self._browsers = browsers
        self._on_exchange = on_exchange

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            raise ValueError(f"scope type must be http or lifespan, got {scope['type']!r}")
        started = perf_counter()
        body = ReceivedBody(receive, _announced_length(scope["headers"]))
        request = Request(
            method=scope["method"],
            path=scope["raw_path"],
            query=scope["query_string"],
            headers=tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]),
            body=body,
            scheme=scope.get("scheme", "http"),
            client=_peer(scope.get("client")),
        )
        request_id = assign_request_id()
        response, service, operation, labels = await self._answer(request, request_id)
        if body.untouched and request.header("expect") is not None:
            # The client won't send its body now, and nobody could tell that from its next request.
            response = replace(response, headers=(*response.headers, ("connection", "close")))
        try:
            send_file = scope.get("extensions", _NOTHING).get(SEND_FILE)
            await send_response(response, method=request.method, body=body, send=send, send_file=send_file)
        finally:
            seconds = perf_counter() - started
            exchange = Exchange(
                *(request_id, request.method, request.path, service, operation, labels),
                *(response.status, response.headers, seconds),
            )
            for tell in self._on_exchange:
                tell(exchange)

    async def _answer(self, request: Request, request_id: str) -> tuple[Response, str, str, Mapping[str, str]]:
        """Return the answer, and of which service and operation it is, with the labels of the path."""
        speaker = Speaker(protocol=WireProtocol.REST_JSON)
        service = called = UNKNOWN
        labels = _NO_LABELS
        addressed: Addressed | None = None
        try:
            if request.path.startswith(OWN_PREFIX) or _is_scrape(request):
                service = OWN_SERVICE
                return await self._own(request), service, called, labels
            speaker = Speaker(protocol=guess_protocol(request))
            limit = self._settings.max_body_bytes
            addressed = await find_service(request, self._handlers, limit)
            speaker = addressed.speaker
            if self._browsers is not None:
                answered = await answer_browser(addressed, self._browsers, self._browser_context(request_id))
                if answered is not None:
                    response = await self._finish(answered, addressed, speaker, request_id)
                    return response, addressed.service.name, called, labels
            operation, named = find_operation(addressed)
            if operation.name in self._handlers[operation.service]:
                service, called = operation.service, operation.name
            verified = await verify(
                addressed,
                operation,
                keys=self._keys,
                now=self._clock.now(),
                skew_seconds=self._settings.clock_skew_seconds,
                limit=limit,
            )
            check_account(operation, verified, self._settings.account)
            handler = find_handler(operation, self._handlers)
            if verified.principal is not None:
                labels = named  # told to others only now: nobody unknown fills their memory with names
            params = await parse(addressed, operation, named, verified)
            operation.validate(params)
            context = make_context(addressed, operation, verified, request_id, self._settings.account)
            answer = await handler(context, params)
            response = serialize(operation, answer, request_id)
        except ApiError as error:
            response = _refuse(error, speaker, request, request_id)
        except Exception:
            # The last stop: whatever a handler raises becomes a 500, its traceback goes to the log.
            log.exception("request failed", extra={"request_id": request_id, "path": request.path, "speaker": speaker})
            response = _refuse(_internal(request_id), speaker, request, request_id)
        return await self._finish(response, addressed, speaker, request_id), service, called, labels

    async def _finish(
        self, response: Response, addressed: Addressed | None, speaker: Speaker, request_id: str
    ) -> Response:
        """Add the headers that every answer has."""
        headers = (*response.headers, *_identify(speaker, request_id))
        if addressed is not None and self._browsers is not None and addressed.request.method != "OPTIONS":
            headers += await cross_origin_headers(addressed, self._browsers)
        return Response(status=response.status, headers=headers, body=response.body)

    def _browser_context(self, request_id: str) -> Callable[[Addressed, str], Context]:
        return lambda addressed, operation: Context(
            request_id=request_id,
            service=addressed.service.name,
            operation=operation,
            region=addressed.destination.region or DEFAULT_REGION,
            account=self._settings.account,
            principal=None,
            base_url=base_url(addressed.request),
            request=addressed.request,
        )

    async def _own(self, request: Request) -> Response:
        path = SCRAPE_TARGET if request.path == SCRAPE_PATH else request.path
        handler = self._extra.get(path)
        if handler is None:
            folders = [folder for folder in self._extra if folder.endswith(b"/") and path.startswith(folder)]
            if not folders:
                return Response(status=404, headers=(("content-type", "text/plain"),), body=b"not found\n")
            handler = self._extra[max(folders, key=len)]
        return await handler(request)


def _peer(client: tuple[str, int] | None) -> str:
    """Return the address of the other end, that of an IPv4 client of an IPv6 socket as IPv4 writes it."""
    address = "" if client is None else client[0]
    return address.removeprefix(_IPV4_MAPPED) if address.startswith(_IPV4_MAPPED) and "." in address else address


def _is_scrape(request: Request) -> bool:
    """Whether this is a scraper asking for /metrics, rather than a client of the bucket of that name.

    A scraper says which form of metrics it takes, and does not sign: clients of S3 sign in the Authorization header,
    whose scheme starts with AWS, or in the query, and a browser that looks at a public bucket asks for other types.
    """
    if request.path != SCRAPE_PATH or request.method != "GET" or request.query:
        return False
    accepted = request.header("accept") or ""
    asks = "application/openmetrics-text" in accepted or "version=0.0.4" in accepted
    return asks and not (request.header("authorization") or "").startswith("AWS")


def _announced_length(headers: list[tuple[bytes, bytes]]) -> int | None:
    """Return the body's length if it is known before it arrives: 0 without any header that announces one."""
    length: int | None = 0
    for name, value in headers:
        if name == b"transfer-encoding":
            return None
        if name == b"content-length":
            length = int(value)
    return length


def _internal(request_id: str) -> InternalError:
    return InternalError(f"We encountered an internal error. The server's log has it under request id {request_id}.")


def _refuse(error: ApiError, speaker: Speaker, request: Request, request_id: str) -> Response:
    fault = wire_fault(error, speaker)
    resource = request.path.decode("latin-1")
    try:
        response = fault_response(fault, speaker, request_id=request_id, resource=resource)
    except Exception:
        # Members that do not serialize are left out rather than hide the error itself.
        log.exception("error could not be written", extra={"request_id": request_id, "code": fault.code})
        response = fault_response(replace(fault, members={}), speaker, request_id=request_id, resource=resource)
    if fault.status >= 500 and not isinstance(error, InternalError | S3Error):
        log.warning("request refused", extra={"request_id": request_id, "code": fault.code, "reason": fault.message})
    # 405 and 411 are complete without more; a refused HEAD has a status only.
    return replace(response, body=b"") if request.method == "HEAD" else response


def _identify(speaker: Speaker, request_id: str) -> tuple[tuple[str, str], ...]:
    if speaker.service == "s3":
        host_id = base64.b64encode(request_id.encode()).decode()
        return (("x-amz-request-id", request_id), ("x-amz-id-2", host_id))
    return (("x-amzn-requestid", request_id),)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
