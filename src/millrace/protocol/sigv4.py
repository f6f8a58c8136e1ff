"""Signature version 4: find it in a request, compute it again, compare.

A signature covers method, path, query, some headers and the payload's hash. Everything here works on the request as
it was sent: a framework that decodes a path or sorts headers makes signatures fail.

Source:
    api-surface.md section 4; "Signature Calculations for the Authorization Header: Transferring Payload in Multiple
    Chunks" of the S3 API reference for the chunked forms.
"""

import hashlib
import hmac
import re
from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from millrace.protocol.faults import AuthFailure, AuthProblem
from millrace.protocol.message import Request
from millrace.protocol.timestamps import parse_timestamp

__all__ = [
    "ALGORITHM",
    "EMPTY_SHA256",
    "UNSIGNED_PAYLOAD",
    "ChunkSignatures",
    "Signature",
    "canonical_request",
    "check_time",
    "find_signature",
    "signing_key",
    "string_to_sign",
    "verify_signature",
]

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
MAX_EXPIRES_SECONDS = 7 * 24 * 3600
"""Life of a presigned URL at most; the services' own limit."""

_REMEMBERED_CHARACTERS = 1024
"""Longer Authorization headers, credential scopes and paths are worked out each time rather than kept.

What is kept is kept before the signature is known to hold, so its size must not be the client's choice.
"""

_SPACES = re.compile(r" {2,}")
_TIMESTAMP = re.compile(r"\d{8}T\d{6}Z")

# Clients set these after they have signed, or have to (a hash that the query string cannot hold).
_UNSIGNED_ALLOWED = frozenset({"x-amz-content-sha256", "x-amz-security-token"})


class Signature(NamedTuple):  # made for every request: a frozen dataclass takes three times as long
    """What a request says about its signature. `expires_seconds` is None unless it stands in the query string."""

    access_key: str
    date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    value: str
    timestamp: str
    payload_hash: str | None
    token: str | None
    expires_seconds: int | None = None

    @property
    def scope(self) -> str:
        return f"{self.date}/{self.region}/{self.service}/aws4_request"

    @property
    def in_query(self) -> bool:
        return self.expires_seconds is not None

    @property
    def signed_at(self) -> datetime:
        return _moment(self.timestamp)


def find_signature(request: Request, query: list[tuple[str, str]]) -> Signature | None:
    """Return the request's version 4 signature, if it has one in its header or query string.

    Raises:
        AuthFailure: There is one, but it does not parse.
    """
    header = request.header("authorization")
    if header is not None and header.startswith("AWS4-"):
        return _from_header(request, header)
    if b"X-Amz-Algorithm=" in request.query:
        return _from_query(request, dict(query))
    return None


def _malformed(text: str) -> AuthFailure:
    return AuthFailure(AuthProblem.MALFORMED, text)


def _malformed_query(text: str) -> AuthFailure:
    return AuthFailure(AuthProblem.MALFORMED_QUERY, text)


def _from_header(request: Request, header: str) -> Signature:
    stated, _, value = header.rpartition("Signature=")
    if not stated or "," in value or len(stated) > _REMEMBERED_CHARACTERS:
        credential, signed_headers, value = _stated(header)
    else:
        # All but the signature itself is the same in every request of a client on one day.
        credential, signed_headers = _remembered(stated)
        if not value:
            raise _incomplete("Signature", header)
    access_key, date, region, service = credential
    return Signature(
        access_key=access_key,
        date=date,
        region=region,
        service=service,
        signed_headers=signed_headers,
        value=value,
        timestamp=_timestamp(request),
        payload_hash=request.header("x-amz-content-sha256"),
        token=request.header("x-amz-security-token"),
    )


@lru_cache(maxsize=256)
def _remembered(stated: str) -> tuple[tuple[str, str, str, str], tuple[str, ...]]:
    """Parse an Authorization header without its last field's value, the signature."""
    credential, signed_headers, _ = _stated(f"{stated}Signature=-")
    return credential, signed_headers


def _stated(header: str) -> tuple[tuple[str, str, str, str], tuple[str, ...], str]:
    """Return the credential's parts, the names of the signed headers and the signature."""
    algorithm, _, rest = header.partition(" ")
    if algorithm != ALGORITHM:
        raise _malformed(f"Authorization: the algorithm must be {ALGORITHM}, got {algorithm!r}")
    fields = dict(_field(part) for part in rest.split(","))
    for name in ("Credential", "SignedHeaders", "Signature"):
        if not fields.get(name):
            raise _incomplete(name, header)
    signed_headers = tuple(fields["SignedHeaders"].lower().split(";"))
    return _credential(fields["Credential"]), signed_headers, fields["Signature"]


def _incomplete(name: str, header: str) -> AuthFailure:
    return _malformed(f"Authorization header requires '{name}' parameter. Authorization={header[:200]}")


def _field(part: str) -> tuple[str, str]:
    name, _, value = part.strip().partition("=")
    return name, value


def _credential(text: str) -> tuple[str, str, str, str]:
    parts = text.rsplit("/", 4)
    if len(parts) != 5 or parts[4] != "aws4_request" or not all(parts):
        raise _malformed(f"Credential must be KEY/date/region/service/aws4_request, got {text[:200]!r}")
    return parts[0], parts[1], parts[2], parts[3]


def _timestamp(request: Request) -> str:
    stated = request.header("x-amz-date")
    if stated is not None:
        return _checked_timestamp(stated)
    stated = request.header("date")
    if stated is None:
        raise _malformed("a signed request must have an X-Amz-Date or Date header")
    try:
        return parse_timestamp(stated).strftime("%Y%m%dT%H%M%SZ")
    except ValueError as exc:
        raise _malformed(f"Date header: {exc}") from None


def _checked_timestamp(text: str) -> str:
    if _TIMESTAMP.fullmatch(text):
        try:
            _moment(text)
        except ValueError:
            pass
        else:
            return text
    raise _malformed(f"X-Amz-Date must be in the ISO8601 format YYYYMMDD'T'HHMMSS'Z', got {text[:50]!r}")


def _from_query(request: Request, query: dict[str, str]) -> Signature:
    for name in ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-SignedHeaders", "X-Amz-Signature"):
        if not query.get(name):
            raise _malformed_query(f"the query string must contain {name}")
    if query["X-Amz-Algorithm"] != ALGORITHM:
        raise _malformed_query(f"X-Amz-Algorithm must be {ALGORITHM}, got {query['X-Amz-Algorithm'][:50]!r}")
    access_key, date, region, service = _credential(query["X-Amz-Credential"])
    return Signature(
        access_key=access_key,
        date=date,
        region=region,
        service=service,
        signed_headers=tuple(query["X-Amz-SignedHeaders"].lower().split(";")),
        value=query["X-Amz-Signature"],
        timestamp=_checked_timestamp(query["X-Amz-Date"]),
        payload_hash=query.get("X-Amz-Content-Sha256") or request.header("x-amz-content-sha256"),
        token=query.get("X-Amz-Security-Token") or request.header("x-amz-security-token"),
        expires_seconds=_expires(query.get("X-Amz-Expires", "900")),
    )


@lru_cache(maxsize=256)
def _moment(text: str) -> datetime:
    # fromisoformat is compiled; strptime was a tenth of the time of a request.
    return datetime.fromisoformat(text)


def _expires(text: str) -> int:
    # Digits are counted before they are turned into a number, which takes long for many and fails for thousands.
    digits = text.lstrip("0") if text.isascii() and text.isdigit() else ""
    if not digits or len(digits) > len(str(MAX_EXPIRES_SECONDS)) or int(digits) > MAX_EXPIRES_SECONDS:
        raise _malformed_query(f"X-Amz-Expires must be between 1 and {MAX_EXPIRES_SECONDS} seconds, got {text[:50]!r}")
    return int(digits)


def check_time(signature: Signature, now: datetime, skew_seconds: int) -> None:
    """Raise AuthFailure if the signature was made too long ago, or will be."""
    skew = timedelta(seconds=skew_seconds)
    signed_at = signature.signed_at
    if signature.date != signature.timestamp[:8]:
        raise _malformed(f"the credential's date {signature.date[:20]!r} must be that of {signature.timestamp}")
    if signed_at - now > skew:
        raise AuthFailure(
            AuthProblem.SKEWED,
            f"Signature not yet current: {signature.timestamp} is still later than {_basic(now + skew)} "
            f"({_basic(now)} + {skew_seconds} seconds)",
            members=_time_members(signature, now, skew_seconds),
        )
    if signature.expires_seconds is not None:
        if now - signed_at > timedelta(seconds=signature.expires_seconds):
            raise AuthFailure(
                AuthProblem.EXPIRED_URL,
                "Request has expired",
                members={
                    "X-Amz-Expires": signature.expires_seconds,
                    "Expires": (signed_at + timedelta(seconds=signature.expires_seconds)).isoformat(),
                    "ServerTime": now.isoformat(),
                },
            )
    elif now - signed_at > skew:
        raise AuthFailure(
            AuthProblem.SKEWED,
            f"Signature expired: {signature.timestamp} is now earlier than {_basic(now - skew)} "
            f"({_basic(now)} - {skew_seconds} seconds)",
            members=_time_members(signature, now, skew_seconds),
        )


def _basic(moment: datetime) -> str:
    return moment.strftime("%Y%m%dT%H%M%SZ")


def _time_members(signature: Signature, now: datetime, skew_seconds: int) -> dict[str, object]:
    return {
        "RequestTime": signature.timestamp,
        "ServerTime": now.isoformat(),
        "MaxAllowedSkewMilliseconds": skew_seconds * 1000,
    }


def signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    """Return the key of one day, region and service."""
    is_short = len(date) + len(region) + len(service) <= _REMEMBERED_CHARACTERS
    derive = _signing_key if is_short else _signing_key.__wrapped__
    return derive(secret, date, region, service)


@lru_cache(maxsize=256)
def _signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    key = hmac.digest(b"AWS4" + secret.encode(), date.encode("utf-8", "surrogateescape"), "sha256")
    for part in (region, service, "aws4_request"):
        key = hmac.digest(key, part.encode("utf-8", "surrogateescape"), "sha256")
    return key


def verify_signature(signature: Signature, request: Request, *, secret: str, payload_hash: str) -> bytes:
    """Compute the signature again and compare; return the signing key, which signs the chunks of a chunked body.

    Raises:
        AuthFailure: Another signature comes out, or what must be signed is not.
    """
    _require_signed(signature, request)
    canonical = canonical_request(signature, request, payload_hash)
    text = string_to_sign(signature, canonical)
    key = signing_key(secret, signature.date, signature.region, signature.service)
    computed = hmac.digest(key, text.encode(), "sha256").hex()
    value = signature.value
    if not value.isascii() or not hmac.compare_digest(computed, value):
        raise AuthFailure(
            AuthProblem.MISMATCH,
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
            "Access Key and signing method. Consult the service documentation for details.",
            members={
                "AWSAccessKeyId": signature.access_key,
                "StringToSign": text,
                "SignatureProvided": signature.value,
                "CanonicalRequest": canonical.decode("utf-8", "replace"),
            },
        )
    return key


def _require_signed(signature: Signature, request: Request) -> None:
    signed = signature.signed_headers  # half a dozen: quicker to search as they are than as a set
    if "host" not in signed and ":authority" not in signed:
        raise _malformed("SignedHeaders must contain host")
    if signature.service != "s3":
        return
    # Else whoever holds a presigned URL could add x-amz-copy-source and read another object.
    for name, _ in request.headers:
        if name.startswith("x-amz-") and name not in signed and name not in _UNSIGNED_ALLOWED:
            raise AuthFailure(
                AuthProblem.MISSING,
                "There were headers present in the request which were not signed",
                members={"HeadersNotSigned": name},
            )


def string_to_sign(signature: Signature, canonical: bytes) -> str:
    """Return the text that is signed."""
    return f"{ALGORITHM}\n{signature.timestamp}\n{signature.scope}\n{hashlib.sha256(canonical).hexdigest()}"


def canonical_request(signature: Signature, request: Request, payload_hash: str) -> bytes:
    """Return the request in the form whose hash is signed."""
    values = request.first_headers if not request.repeats_headers else _joined_headers(request)
    lines = "".join([f"{name}:{_trimmed(values.get(name, ''))}\n" for name in signature.signed_headers])
    remembered = _s3_path if signature.service == "s3" else _normal_path
    is_short = len(request.path) <= _REMEMBERED_CHARACTERS
    path = remembered(request.path) if is_short else remembered.__wrapped__(request.path)
    query = _canonical_query(request.query) if request.query else ""
    names = ";".join(signature.signed_headers)
    # Headers came in as Latin-1; so they go out as the bytes that were sent. Path and query are escaped to ASCII.
    return f"{request.method}\n{path}\n{query}\n{lines}\n{names}\n{payload_hash}".encode("latin-1", "replace")


def _joined_headers(request: Request) -> dict[str, str]:
    values: dict[str, str] = {}
    for name, value in request.headers:
        values[name] = f"{values[name]},{_trimmed(value)}" if name in values else _trimmed(value)
    return values


def _trimmed(value: str) -> str:
    value = value.strip()
    return _SPACES.sub(" ", value) if "  " in value else value


@lru_cache(maxsize=1024)
def _s3_path(path: bytes) -> str:
    return quote(unquote_to_bytes(path), safe="/-_.~") or "/"


@lru_cache(maxsize=1024)
def _normal_path(path: bytes) -> str:
    """Return the path without empty, `.` and `..` segments, its escapes escaped again."""
    segments: list[bytes] = []
    for segment in path.split(b"/"):
        if segment == b"..":
            if segments:
                segments.pop()
        elif segment and segment != b".":
            segments.append(segment)
    tail = b"/" if path.endswith(b"/") and segments else b""
    return quote(b"/" + b"/".join(segments) + tail, safe="/-_.~")


def _canonical_query(raw: bytes) -> str:
    pairs = []
    for part in raw.split(b"&"):
        name, _, value = part.partition(b"=")
        if name and name != b"X-Amz-Signature":
            pairs.append((_recode(name), _recode(value)))
    pairs.sort()
    return "&".join(f"{name}={value}" for name, value in pairs)


def _recode(raw: bytes) -> str:
    return quote(unquote_to_bytes(raw.replace(b"+", b" ")), safe="-_.~")


class ChunkSignatures:
    """The chain of signatures over the chunks of one body: each covers the one before."""

    def __init__(self, signature: Signature, key: bytes) -> None:
        self._key = key
        self._where = f"{signature.timestamp}\n{signature.scope}"
        self._previous = signature.value

    def check_chunk(self, claimed: str, sha256: str) -> None:
        """Raise AuthFailure unless this is the signature of a chunk with that hash."""
        self._check(claimed, f"{ALGORITHM}-PAYLOAD\n{self._where}\n{self._previous}\n{EMPTY_SHA256}\n{sha256}")

    def check_trailer(self, claimed: str, sha256: str) -> None:
        """Raise AuthFailure unless this is the signature of the trailing headers with that hash."""
        self._check(claimed, f"{ALGORITHM}-TRAILER\n{self._where}\n{self._previous}\n{sha256}")

    def _check(self, claimed: str, text: str) -> None:
        computed = hmac.digest(self._key, text.encode(), "sha256").hex()
        if not hmac.compare_digest(computed.encode(), claimed.encode("utf-8", "replace")):
            raise AuthFailure(
                AuthProblem.MISMATCH,
                "The chunk signature we calculated does not match the signature you provided.",
                members={"StringToSign": text, "SignatureProvided": claimed},
            )
        self._previous = computed
