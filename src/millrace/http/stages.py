"""The stages in the life of a request, each a function from values to values; `app.py` lists them in order."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from random import getrandbits
from typing import Any, NamedTuple

from millrace.errors import AccessDenied, S3Error, UnknownOperation
from millrace.http.bodies import ReceivedBody
from millrace.names import DEFAULT_REGION
from millrace.ports.keys import AccessKey, KeyStore
from millrace.protocol.bindings import Arguments
from millrace.protocol.bodies import DigestBody, MemoryBody, check_digest, gunzip
from millrace.protocol.chunked import ChunkedBody, is_chunked_hash, is_signed_hash
from millrace.protocol.dispatch import Destination, find_destination, form_destination, is_aws_host, is_form
from millrace.protocol.faults import AuthFailure, AuthProblem, BodyTooLong, Speaker
from millrace.protocol.message import Body, BodyResult, Context, Handler, Principal, Reply, Request, Response, Result
from millrace.protocol.models import WireProtocol
from millrace.protocol.operations import Operation, Service, service
from millrace.protocol.routing import Match
from millrace.protocol.sigv2 import SignatureV2, check_time_v2, find_signature_v2, verify_signature_v2
from millrace.protocol.sigv4 import (
    UNSIGNED_PAYLOAD,
    ChunkSignatures,
    Signature,
    check_time,
    find_signature,
    verify_signature,
)
from millrace.protocol.targets import parse_pairs

__all__ = [
    "Addressed",
    "Handlers",
    "Verified",
    "assign_request_id",
    "base_url",
    "check_account",
    "find_handler",
    "find_operation",
    "find_service",
    "make_context",
    "parse",
    "serialize",
    "verify",
]

Handlers = Mapping[str, Mapping[str, Handler]]
"""Operation name to function, by service name as botocore has it."""

_ANONYMOUS_BODY_BYTES = 1024 * 1024
"""Bytes of a body that is held in memory for a caller whom nobody knows."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


class Addressed(NamedTuple):  # made for every request: a frozen dataclass takes three times as long
    """A request whose service is known. `content` is its body if that had to be read to know it."""

    request: Request
    service: Service
    protocol: WireProtocol
    destination: Destination
    signature: Signature | SignatureV2 | None
    query: list[tuple[str, str]]
    headers: dict[str, str]
    content: bytes | None = None

    @property
    def speaker(self) -> Speaker:
        """How errors are told from here on."""
        return Speaker(protocol=self.protocol, service=self.service.name)


class Verified(NamedTuple):  # made for every request: a frozen dataclass takes three times as long
    """Who sent the request, and its body: bytes, or a stream that verifies itself while it is read."""

    principal: Principal | None
    content: bytes | Body


def assign_request_id() -> str:
    """Return a new request id, of the form of a random UUID."""
    digits = f"{getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


async def find_service(request: Request, handlers: Handlers, limit: int) -> Addressed:
    """Find the service that the request is for.

    Raises:
        UnknownOperation: We serve no such service; the message names it.
        AuthFailure: There is a signature that does not parse.
    """
    query = parse_pairs(request.query)
    signature: Signature | SignatureV2 | None = find_signature(request, query)
    if signature is None:
        signature = find_signature_v2(request, query)
    v4 = signature if isinstance(signature, Signature) else None
    destination = find_destination(
        request,
        signed_for=None if v4 is None else v4.service,
        signed_v2=isinstance(signature, SignatureV2),
        region=None if v4 is None else v4.region,
    )
    content = None
    if destination is None:
        content = await request.body.read(limit)
        query = query + parse_pairs(content)
        destination = form_destination(dict(query))
    if destination.service not in handlers:
        raise UnknownOperation(f"Millrace does not serve {destination.service[:100]}{_operation_hint(request)}")
    found = service(destination.service)
    protocol = _spoken(found, request)
    if protocol is WireProtocol.QUERY and content is None:
        content = await request.body.read(limit)
        query = query + parse_pairs(content)
    return Addressed(
        request=request,
        service=found,
        protocol=protocol,
        destination=destination,
        signature=signature,
        query=query,
        headers=_header_map(request),
        content=content,
    )


def _operation_hint(request: Request) -> str:
    target = request.header("x-amz-target")
    return f" ({target[:100]})" if target else f" ({request.method[:20]} {request.path[:100].decode('latin-1')})"


def _spoken(found: Service, request: Request) -> WireProtocol:
    # boto3 before 1.29 and other old clients send forms to services that now speak JSON.
    if found.protocol is WireProtocol.JSON and request.header("x-amz-target") is None and is_form(request):
        return WireProtocol.QUERY
    return found.protocol


def _header_map(request: Request) -> dict[str, str]:
    if not request.repeats_headers:
        return request.first_headers
    headers: dict[str, str] = {}
    for name, value in request.headers:
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


def find_operation(addressed: Addressed) -> tuple[Operation, Mapping[str, str]]:
    """Find the operation, and the labels of its path.

    Raises:
        UnknownOperation, NoSuchRoute: The service has none that fits; the message names what was asked.
    """
    match = _match(addressed)
    return addressed.service.operation(match.operation, addressed.protocol), match.labels


def _match(addressed: Addressed) -> Match:
    request = addressed.request
    if addressed.protocol is WireProtocol.JSON:
        return addressed.service.match_target(request.header("x-amz-target"))
    if addressed.protocol is WireProtocol.QUERY:
        return addressed.service.match_action(dict(addressed.query).get("Action"))
    path = request.path or b"/"
    if addressed.destination.bucket is not None:
        path = b"/" + addressed.destination.bucket.encode() + path
    return addressed.service.match_route(request.method, path, dict(addressed.query), addressed.headers)


def find_handler(operation: Operation, handlers: Handlers) -> Handler:
    """Return the operation's handler; raises UnknownOperation, which names the operation."""
    handler = handlers[operation.service].get(operation.name)
    if handler is None:
        raise UnknownOperation(f"Millrace does not serve the operation {operation.name} of {operation.service}")
    return handler


async def verify(
    addressed: Addressed, operation: Operation, *, keys: KeyStore, now: datetime, skew_seconds: int, limit: int
) -> Verified:
    """Verify the signature and give the body in the form that the operation takes.

    Raises:
        AuthFailure: There is no signature, or it does not hold.
    """
    signature = addressed.signature
    if signature is None:
        if operation.unsigned:
            return Verified(principal=None, content=await _read(addressed, operation, limit))
        if addressed.service.name == "s3" and "authorization" not in addressed.headers:
            # Buckets may let strangers in: the service knows which.
            body = _decoded(addressed, addressed.request.body, None)
            limit = min(limit, _ANONYMOUS_BODY_BYTES)
            return Verified(principal=None, content=await _whole_or_stream(body, operation, limit))
        raise AuthFailure(AuthProblem.MISSING, _MISSING[addressed.protocol])
    if isinstance(signature, SignatureV2):
        return await _verify_v2(addressed, operation, signature, keys, now, skew_seconds, limit)
    key = await _find_key(keys, signature.access_key, signature.token, now)
    check_time(signature, now, skew_seconds)
    principal = _principal(key)
    if addressed.service.name == "s3":
        body = _verify_s3(addressed, signature, key.secret)
        return Verified(principal=principal, content=await _whole_or_stream(body, operation, limit))
    content = await _read(addressed, operation, limit)
    computed = hashlib.sha256(content).hexdigest()
    claimed = signature.payload_hash
    if claimed is not None and claimed != UNSIGNED_PAYLOAD:
        check_digest(computed, claimed)
    verify_signature(signature, addressed.request, secret=key.secret, payload_hash=claimed or computed)
    return Verified(principal=principal, content=_unpacked(addressed, content, limit))


_MISSING = {
    WireProtocol.JSON: "Missing Authentication Token",
    WireProtocol.REST_JSON: "Missing Authentication Token",
    WireProtocol.QUERY: "Request is missing Authentication Token",
    WireProtocol.REST_XML: "Access Denied",
}


def _principal(key: AccessKey) -> Principal:
    return Principal(access_key=key.id, account=key.account, role=key.role, session=key.session)


async def _find_key(keys: KeyStore, access_key_id: str, token: str | None, now: datetime) -> AccessKey:
    key = await keys.find_key(access_key_id)
    if key is None:
        raise AuthFailure(
            AuthProblem.UNKNOWN_KEY,
            f"The security token included in the request is invalid: the access key {access_key_id[:128]!r} does not "
            "exist here.",
            members={"AWSAccessKeyId": access_key_id[:128]},
        )
    # The token is no secret beyond the key's own, which the signature proves.
    if token != key.session_token:
        raise AuthFailure(AuthProblem.BAD_TOKEN, "The security token included in the request is invalid.")
    if key.expires_at is not None and key.expires_at <= now:
        raise AuthFailure(AuthProblem.EXPIRED_TOKEN, "The security token included in the request is expired")
    return key


async def _verify_v2(
    addressed: Addressed,
    operation: Operation,
    signature: SignatureV2,
    keys: KeyStore,
    now: datetime,
    skew_seconds: int,
    limit: int,
) -> Verified:
    if addressed.service.name != "s3":
        raise AuthFailure(AuthProblem.MALFORMED, "only S3 accepts signature version 2; sign with version 4")
    key = await _find_key(keys, signature.access_key, signature.token, now)
    check_time_v2(signature, addressed.request, now, skew_seconds)
    verify_signature_v2(
        signature, addressed.request, addressed.query, secret=key.secret, bucket=addressed.destination.bucket
    )
    body = _decoded(addressed, addressed.request.body, None)
    return Verified(principal=_principal(key), content=await _whole_or_stream(body, operation, limit))


def _verify_s3(addressed: Addressed, signature: Signature, secret: str) -> Body:
    """Verify an S3 signature and return the body, which verifies its own hash or chunks while it is read."""
    request = addressed.request
    payload_hash = signature.payload_hash
    if payload_hash is None:
        if not signature.in_query:
            raise S3Error(
                "InvalidRequest", "Missing required header for this request: x-amz-content-sha256", status=400
            )
        payload_hash = UNSIGNED_PAYLOAD
    signed_chunks = is_chunked_hash(payload_hash) and is_signed_hash(payload_hash)
    plain = is_chunked_hash(payload_hash) or payload_hash == UNSIGNED_PAYLOAD
    if not plain and not _SHA256.fullmatch(payload_hash.lower()):
        is_signed_hash(payload_hash)
    key = verify_signature(signature, request, secret=secret, payload_hash=payload_hash)
    body = request.body if plain else DigestBody(request.body, payload_hash.lower())
    return _decoded(addressed, body, ChunkSignatures(signature, key) if signed_chunks else None)


def _decoded(addressed: Addressed, body: Body, signatures: ChunkSignatures | None) -> Body:
    headers = addressed.headers
    stated = headers.get("x-amz-decoded-content-length")
    encoded = "aws-chunked" in headers.get("content-encoding", "") and stated is not None
    if not encoded and not is_chunked_hash(headers.get("x-amz-content-sha256")):
        return body  # even if it says aws-chunked: some clients have copied that from an object's headers
    if stated is None:
        raise S3Error("MissingContentLength", "You must provide the x-amz-decoded-content-length header", status=411)
    if not (stated.isascii() and stated.isdigit() and len(stated) < 16):
        raise S3Error(
            "InvalidArgument",
            f"x-amz-decoded-content-length must be a number of bytes, got {stated[:50]!r}",
            status=400,
        )
    return ChunkedBody(body, length=int(stated), signatures=signatures)


async def _whole_or_stream(body: Body, operation: Operation, limit: int) -> bytes | Body:
    if operation.streams:
        return body
    return await body.read(max(limit, operation.body_limit))


async def _read(addressed: Addressed, operation: Operation, limit: int) -> bytes:
    if addressed.content is not None:
        return addressed.content
    content = await addressed.request.body.read(max(limit, operation.body_limit))
    if operation.body_limit and len(content) > operation.body_limit:
        raise BodyTooLong(len(content), operation.body_limit)
    return content


def _unpacked(addressed: Addressed, content: bytes, limit: int) -> bytes:
    # CloudWatch's clients compress bodies above 10 KB; a REST payload's encoding is the payload's own affair.
    if addressed.protocol is WireProtocol.JSON and addressed.headers.get("content-encoding") == "gzip":
        return gunzip(content, limit)
    return content


def check_account(operation: Operation, verified: Verified, account: str) -> None:
    """Let keys of other accounts than the default one own buckets and ask who they are, and nothing else.

    Jobs run as the default account, on its machine: whoever may start one may read and write all that it may.

    Raises:
        AccessDenied: The key is of another account; the message names it.
    """
    principal = verified.principal
    if principal is None or principal.account == account or operation.service in _SHARED_SERVICES:
        return
    raise AccessDenied(
        f"{principal.arn} is not authorized to perform {operation.service}:{operation.name}: keys of the account "
        f"{principal.account} are for S3 and STS; the other services are the account {account}'s"
    )


_SHARED_SERVICES = frozenset({"s3", "sts"})


async def parse(
    addressed: Addressed, operation: Operation, labels: Mapping[str, str], verified: Verified
) -> dict[str, Any]:
    """Return the operation's parameters; raises MalformedRequest."""
    content = verified.content
    headers = addressed.headers
    if operation.streams:
        if isinstance(content, bytes):
            content = MemoryBody(content)
        # A stranger is told to go on when the handler takes the body, not before it has decided to.
        if "expect" in headers and verified.principal is not None and isinstance(addressed.request.body, ReceivedBody):
            # The client holds its body back until it is told to go on; it waits a second, then sends anyway.
            await addressed.request.body.prefetch()
        headers = _decoded_headers(headers, content)
    return operation.parse(Arguments(labels=labels, query=addressed.query, headers=headers, content=content))


def _decoded_headers(headers: dict[str, str], body: Body) -> dict[str, str]:
    """Return the headers as they would be without aws-chunked, which describes the transfer, not the object."""
    if not isinstance(body, ChunkedBody):
        return headers
    decoded = dict(headers)
    rest = [part.strip() for part in decoded.pop("content-encoding", "").split(",") if part.strip() != "aws-chunked"]
    if any(rest):
        decoded["content-encoding"] = ",".join(part for part in rest if part)
    decoded.pop("content-length", None)
    if body.length is not None:
        decoded["content-length"] = str(body.length)
    return decoded


def make_context(
    addressed: Addressed, operation: Operation, verified: Verified, request_id: str, account: str
) -> Context:
    """Return what the handler may know about the call."""
    request = addressed.request
    return Context(
        request_id=request_id,
        service=operation.service,
        operation=operation.name,
        region=addressed.destination.region or DEFAULT_REGION,
        account=account,
        principal=verified.principal,
        base_url=base_url(request),
        request=request,
    )


def base_url(request: Request) -> str:
    """Return scheme, host and port as the client used them."""
    host = request.header("host") or "localhost"
    # AWS's own names reach us only by way of the CONNECT proxy, which has taken the TLS off.
    scheme = "https" if is_aws_host(host) else request.scheme
    return f"{scheme}://{host}"


def serialize(operation: Operation, answer: Result | Reply | None, request_id: str) -> Response:
    """Turn a handler's answer into a response."""
    if isinstance(answer, BodyResult):
        if answer.head.headers is None:
            answer.head.headers = operation.serialize(answer, request_id).headers
        return Response(status=200, headers=answer.head.headers, body=answer["Body"])
    if not isinstance(answer, Reply):
        return operation.serialize(answer or {}, request_id)
    response = operation.serialize(answer.result, request_id)
    return replace(
        response,
        status=response.status if answer.status is None else answer.status,
        headers=_overridden(response.headers, answer.headers),
    )


def _overridden(
    headers: tuple[tuple[str, str], ...], others: tuple[tuple[str, str], ...]
) -> tuple[tuple[str, str], ...]:
    names = {name.lower() for name, _ in others}
    return (*(header for header in headers if header[0].lower() not in names), *others)
