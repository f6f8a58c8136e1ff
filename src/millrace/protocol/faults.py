"""Errors as each protocol's clients read them."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from millrace.errors import AccessDenied, ApiError, S3Error, UnknownOperation, ValidationError
from millrace.protocol import json
from millrace.protocol.json import JsonWriters
from millrace.protocol.message import Response
from millrace.protocol.models import WireProtocol, error_shapes, service_model
from millrace.protocol.wire_values import BadValue
from millrace.protocol.xml import DECLARATION, escape

__all__ = [
    "AuthFailure",
    "AuthProblem",
    "BodyTooLong",
    "IncompleteBody",
    "InternalError",
    "MalformedRequest",
    "NoSuchRoute",
    "Speaker",
    "WireFault",
    "fault_response",
    "malformed",
    "wire_fault",
]


class AuthProblem(StrEnum):
    """What can be wrong with a signature."""

    MISSING = "missing"
    UNKNOWN_KEY = "unknown key"
    MISMATCH = "mismatch"
    SKEWED = "skewed"
    EXPIRED_URL = "expired url"
    EXPIRED_TOKEN = "expired token"
    BAD_TOKEN = "bad token"
    MALFORMED = "malformed"
    MALFORMED_QUERY = "malformed query"
    BAD_HASH = "bad hash"


class AuthFailure(ApiError):
    """The signature does not hold; the protocol decides what that is called."""

    code = "InvalidSignatureException"
    status = 403

    def __init__(self, problem: AuthProblem, message: str, *, members: dict[str, object] | None = None) -> None:
        super().__init__(message, members=members)
        self.problem = problem


class MalformedRequest(ApiError):
    """The body, path or query does not parse."""

    code = "SerializationException"


class IncompleteBody(ApiError):
    """The client sent fewer or more bytes than it announced, or went away."""

    code = "IncompleteBody"


class BodyTooLong(ApiError):
    """The body is longer than the operation's model allows: a validation error, but with the status that says so.

    Source:
        endpoints-triggers.md 7.2: HTTP 413 with ValidationError.
    """

    code = "ValidationError"
    status = 413

    def __init__(self, length: int, limit: int) -> None:
        super().__init__(
            f"1 validation error detected: Value of {length} bytes at 'body' failed to satisfy constraint: Member must "
            f"have length less than or equal to {limit}"
        )


class NoSuchRoute(ApiError):
    """The path exists with other methods only, or not at all."""

    code = "UnknownOperationException"
    status = 404


class InternalError(ApiError):
    """Something of ours failed; the log has the traceback under the request id."""

    code = "InternalFailure"
    status = 500
    fault = "server"


class Speaker(NamedTuple):  # made for every request: a frozen dataclass takes three times as long
    """Who an error is told in the name of: the service, if it is known, and its protocol."""

    protocol: WireProtocol
    service: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class WireFault:
    """An error in the words of one protocol."""

    code: str
    message: str
    status: int
    members: dict[str, Any]


_AUTH_CODES: dict[AuthProblem, dict[WireProtocol, tuple[str, int]]] = {
    problem: {
        WireProtocol.REST_XML: s3,
        WireProtocol.JSON: (json_code, 400),
        WireProtocol.REST_JSON: (json_code, 403),
        WireProtocol.QUERY: (query_code, 403),
    }
    for problem, s3, json_code, query_code in [
        (
            AuthProblem.MISSING,
            ("AccessDenied", 403),
            "MissingAuthenticationTokenException",
            "MissingAuthenticationToken",
        ),
        (
            AuthProblem.UNKNOWN_KEY,
            ("InvalidAccessKeyId", 403),
            "UnrecognizedClientException",
            "InvalidClientTokenId",
        ),
        (AuthProblem.MISMATCH, ("SignatureDoesNotMatch", 403), "InvalidSignatureException", "SignatureDoesNotMatch"),
        (AuthProblem.SKEWED, ("RequestTimeTooSkewed", 403), "InvalidSignatureException", "SignatureDoesNotMatch"),
        (AuthProblem.EXPIRED_URL, ("AccessDenied", 403), "InvalidSignatureException", "SignatureDoesNotMatch"),
        (AuthProblem.EXPIRED_TOKEN, ("ExpiredToken", 400), "ExpiredTokenException", "ExpiredToken"),
        (AuthProblem.BAD_TOKEN, ("InvalidToken", 400), "UnrecognizedClientException", "InvalidClientTokenId"),
        (
            AuthProblem.MALFORMED,
            ("AuthorizationHeaderMalformed", 400),
            "IncompleteSignatureException",
            "IncompleteSignature",
        ),
        (
            AuthProblem.MALFORMED_QUERY,
            ("AuthorizationQueryParametersError", 400),
            "IncompleteSignatureException",
            "IncompleteSignature",
        ),
        (
            AuthProblem.BAD_HASH,
            ("XAmzContentSHA256Mismatch", 400),
            "InvalidSignatureException",
            "SignatureDoesNotMatch",
        ),
    ]
}

_CALLED: dict[type[ApiError], dict[WireProtocol, tuple[str, int]]] = {
    ValidationError: {
        WireProtocol.REST_XML: ("InvalidRequest", 400),
        WireProtocol.QUERY: ("ValidationError", 400),
    },
    MalformedRequest: {
        WireProtocol.REST_XML: ("MalformedXML", 400),
        WireProtocol.QUERY: ("MalformedInput", 400),
    },
    AccessDenied: {
        WireProtocol.REST_XML: ("AccessDenied", 403),
        WireProtocol.QUERY: ("AccessDenied", 403),
        WireProtocol.REST_JSON: ("AccessDeniedException", 403),
    },
    UnknownOperation: {
        WireProtocol.REST_XML: ("NotImplemented", 501),
        WireProtocol.QUERY: ("InvalidAction", 400),
        WireProtocol.REST_JSON: ("UnknownOperationException", 404),
    },
    NoSuchRoute: {
        WireProtocol.REST_XML: ("MethodNotAllowed", 405),
        WireProtocol.QUERY: ("InvalidAction", 400),
        WireProtocol.JSON: ("UnknownOperationException", 400),
    },
    InternalError: {WireProtocol.REST_XML: ("InternalError", 500)},
}


def wire_fault(error: ApiError, speaker: Speaker) -> WireFault:
    """Return the error as its reader knows it: code, message, status and further members."""
    if isinstance(error, AuthFailure):
        code, status = _AUTH_CODES[error.problem][speaker.protocol]
    else:
        code, status = _CALLED.get(type(error), {}).get(speaker.protocol, (error.wire_code, error.wire_status))
    if type(error) is ValidationError and speaker.service == "sagemaker-runtime":
        code = "ValidationError"  # the one name that the runtime's model declares
    shape = _shape(code, speaker)
    if shape is not None and not isinstance(error, S3Error | BodyTooLong) and "error" in shape.metadata:
        status = shape.metadata["error"].get("httpStatusCode", status)
    return WireFault(code=code, message=error.message, status=status, members=error.members)


def _shape(code: str, speaker: Speaker) -> Any:
    return None if speaker.service is None else error_shapes(speaker.service).get(code)


def fault_response(fault: WireFault, speaker: Speaker, *, request_id: str, resource: str = "") -> Response:
    """Write an error in the form of the protocol."""
    if speaker.protocol is WireProtocol.JSON:
        return _json_response(fault, speaker)
    if speaker.protocol is WireProtocol.REST_JSON:
        return _rest_json_response(fault, speaker)
    if speaker.protocol is WireProtocol.QUERY:
        return _query_response(fault, speaker, request_id)
    return _s3_response(fault, request_id, resource)


def _json_body(fault: WireFault, speaker: Speaker, *, typed: bool) -> bytes:
    shape = _shape(fault.code, speaker)
    members = {} if shape is None else shape.members
    document: dict[str, Any] = {"__type": fault.code} if typed else {}
    # A shape spells it message or Message; clients read either, typed ones only what the shape has.
    document["Message" if "Message" in members and "message" not in members else "message"] = fault.message
    if shape is not None:
        document.update(JsonWriters().writer(shape)(fault.members))
    return json.encode(document)


def _json_response(fault: WireFault, speaker: Speaker) -> Response:
    version = "1.1"
    headers: list[tuple[str, str]] = []
    if speaker.service is not None:
        metadata = service_model(speaker.service).metadata
        version = metadata.get("jsonVersion", version)
        if "awsQueryCompatible" in metadata:
            # Old codes of services that once spoke query; without the header client.exceptions breaks.
            shape = _shape(fault.code, speaker)
            code = fault.code if shape is None else shape.error_code
            headers.append(("x-amzn-query-error", f"{code};{'Sender' if fault.status < 500 else 'Receiver'}"))
    headers.append(("content-type", f"application/x-amz-json-{version}"))
    body = _json_body(_modelled_name(fault, speaker), speaker, typed=True)
    return Response(status=fault.status, headers=tuple(headers), body=body)


def _modelled_name(fault: WireFault, speaker: Speaker) -> WireFault:
    """Return the fault under its shape's name: `__type` is that, not the old query code."""
    shape = _shape(fault.code, speaker)
    if shape is None or shape.name == fault.code:
        return fault
    return WireFault(code=shape.name, message=fault.message, status=fault.status, members=fault.members)


def _rest_json_response(fault: WireFault, speaker: Speaker) -> Response:
    return Response(
        status=fault.status,
        headers=(("x-amzn-errortype", fault.code), ("content-type", "application/json")),
        body=_json_body(fault, speaker, typed=False),
    )


def _query_response(fault: WireFault, speaker: Speaker, request_id: str) -> Response:
    namespace = ""
    if speaker.service is not None:
        namespace = f' xmlns="{escape(service_model(speaker.service).metadata.get("xmlNamespace", ""))}"'
    body = (
        f"<ErrorResponse{namespace}><Error><Type>{'Sender' if fault.status < 500 else 'Receiver'}</Type>"
        f"<Code>{escape(fault.code)}</Code><Message>{escape(fault.message)}</Message></Error>"
        f"<RequestId>{request_id}</RequestId></ErrorResponse>"
    )
    return Response(status=fault.status, headers=(("content-type", "text/xml"),), body=body.encode())


def _s3_response(fault: WireFault, request_id: str, resource: str) -> Response:
    if fault.status == 304:
        return Response(status=304)
    members = "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in fault.members.items())
    body = (
        f"{DECLARATION}<Error><Code>{escape(fault.code)}</Code><Message>{escape(fault.message)}</Message>{members}"
        f"<Resource>{escape(resource)}</Resource><RequestId>{request_id}</RequestId></Error>"
    )
    return Response(
        status=fault.status, headers=(("content-type", "application/xml"),), body=body.encode(errors="replace")
    )


def malformed(bad: BadValue) -> MalformedRequest:
    """Return the error for a value that does not parse."""
    return MalformedRequest(str(bad))
