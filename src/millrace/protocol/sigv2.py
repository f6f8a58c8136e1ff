"""Signature version 2 of S3, in presigned URLs and the Authorization header.

boto3 and AWS CLI v1 still presign so against a custom endpoint.

Source:
    "Signing and Authenticating REST Requests (AWS Signature Version 2)", S3 API reference.
"""

import base64
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from millrace.protocol.faults import AuthFailure, AuthProblem
from millrace.protocol.message import Request
from millrace.protocol.timestamps import parse_timestamp

__all__ = ["SignatureV2", "check_time_v2", "find_signature_v2", "verify_signature_v2"]

# Query parameters that name a sub-resource or change the answer: they are signed.
_SIGNED_PARAMETERS: Final = frozenset(
    {
        "accelerate",
        "acl",
        "analytics",
        "cors",
        "defaultObjectAcl",
        "delete",
        "inventory",
        "lifecycle",
        "location",
        "logging",
        "metrics",
        "notification",
        "object-lock",
        "partNumber",
        "policy",
        "replication",
        "requestPayment",
        "response-cache-control",
        "response-content-disposition",
        "response-content-encoding",
        "response-content-language",
        "response-content-type",
        "response-expires",
        "restore",
        "select",
        "select-type",
        "storageClass",
        "tagging",
        "torrent",
        "uploadId",
        "uploads",
        "versionId",
        "versioning",
        "versions",
        "website",
    }
)

# Query parameters that make it another operation, but which version 2 does not sign: whoever holds a presigned URL
# could add them. Not list-type, which changes only the form of a listing, and which boto3 presigns so.
_UNSIGNED_SUB_RESOURCES: Final = frozenset(
    {
        "abac",
        "annotation",
        "attributes",
        "encryption",
        "intelligent-tiering",
        "legal-hold",
        "metadataAnnotationTable",
        "metadataConfiguration",
        "metadataInventoryTable",
        "metadataJournalTable",
        "metadataTable",
        "ownershipControls",
        "policyStatus",
        "publicAccessBlock",
        "renameObject",
        "retention",
        "session",
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class SignatureV2:
    """What a request says about its signature; `expires` is None unless it stands in the query string."""

    access_key: str
    value: str
    token: str | None
    expires: int | None = None


def find_signature_v2(request: Request, query: list[tuple[str, str]]) -> SignatureV2 | None:
    """Return the request's version 2 signature, if it has one; raises AuthFailure if that does not parse."""
    header = request.header("authorization")
    if header is not None and header.startswith("AWS "):
        access_key, _, value = header[4:].strip().rpartition(":")
        return SignatureV2(access_key=access_key, value=value, token=request.header("x-amz-security-token"))
    if b"AWSAccessKeyId=" not in request.query:
        return None
    fields = dict(query)
    expires = fields.get("Expires", "")
    if not fields.get("Signature") or not (expires.isascii() and expires.isdigit() and len(expires) < 12):
        raise AuthFailure(
            AuthProblem.MISSING,
            "Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters",
        )
    return SignatureV2(
        access_key=fields["AWSAccessKeyId"],
        value=fields["Signature"],
        token=fields.get("x-amz-security-token") or request.header("x-amz-security-token"),
        expires=int(expires),
    )


def check_time_v2(signature: SignatureV2, request: Request, now: datetime, skew_seconds: int) -> None:
    """Raise AuthFailure if the URL has expired, or the header's date is too far from now."""
    if signature.expires is not None:
        if now.timestamp() > signature.expires:
            expired_at = datetime.fromtimestamp(min(signature.expires, 253402300799), UTC)
            raise AuthFailure(
                AuthProblem.EXPIRED_URL,
                "Request has expired",
                members={"Expires": expired_at.isoformat(), "ServerTime": now.isoformat()},
            )
        return
    stated = request.header("x-amz-date") or request.header("date") or ""
    try:
        signed_at = parse_timestamp(stated)
    except ValueError:
        raise AuthFailure(
            AuthProblem.MISSING, "AWS authentication requires a valid Date or x-amz-date header"
        ) from None
    if abs(now - signed_at) > timedelta(seconds=skew_seconds):
        raise AuthFailure(
            AuthProblem.SKEWED, "The difference between the request time and the current time is too large."
        )


def verify_signature_v2(
    signature: SignatureV2, request: Request, query: list[tuple[str, str]], *, secret: str, bucket: str | None
) -> None:
    """Compute the signature again and compare; `bucket` is that of a virtual host.

    Raises:
        AuthFailure: Another signature comes out, or a presigned URL has a sub-resource that version 2 does not sign.
    """
    if signature.expires is not None:
        for name, _ in query:
            if name in _UNSIGNED_SUB_RESOURCES:
                raise AuthFailure(
                    AuthProblem.MISSING,
                    f"Requests with the query parameter {name} require AWS Signature Version 4, which signs it; this "
                    "URL is presigned with version 2",
                )
    path = (f"/{bucket}" if bucket else "") + request.path.decode("latin-1")
    text = _string_to_sign(signature, request, query, path)
    given = signature.value.encode("utf-8", "replace")
    matched = hmac.compare_digest(_computed(secret, text), given)
    if not matched and path.count("/") == 1:
        # botocore signs the path of a bucket with a slash at its end and sends it without.
        matched = hmac.compare_digest(_computed(secret, _string_to_sign(signature, request, query, path + "/")), given)
    if not matched:
        raise AuthFailure(
            AuthProblem.MISMATCH,
            "The request signature we calculated does not match the signature you provided. Check your key and "
            "signing method.",
            members={
                "AWSAccessKeyId": signature.access_key,
                "StringToSign": text,
                "SignatureProvided": signature.value,
            },
        )


def _computed(secret: str, text: str) -> bytes:
    return base64.b64encode(hmac.digest(secret.encode(), text.encode("latin-1", "replace"), "sha1"))


def _string_to_sign(signature: SignatureV2, request: Request, query: list[tuple[str, str]], path: str) -> str:
    fields = {name.lower(): value for name, value in query} if signature.expires is not None else {}
    headers: dict[str, list[str]] = {}
    for name, value in [*request.headers, *fields.items()]:
        # botocore moves these headers into a presigned URL; whoever uses it may send them again.
        if name.startswith("x-amz-") and not (name in headers and name in fields):
            headers.setdefault(name, []).append(" ".join(value.split()))
    if signature.expires is not None:
        date = str(signature.expires)
    else:
        date = "" if "x-amz-date" in headers else request.header("date") or ""
    content_md5 = fields.get("content-md5") or request.header("content-md5") or ""
    content_type = fields.get("content-type") or request.header("content-type") or ""
    amz = "".join(f"{name}:{','.join(values)}\n" for name, values in sorted(headers.items()))
    return f"{request.method}\n{content_md5}\n{content_type}\n{date}\n{amz}{path}{_sub_resource(query, request.query)}"


def _sub_resource(query: list[tuple[str, str]], raw: bytes) -> str:
    bare = set(_bare_names(raw.split(b"&")))
    signed = sorted((name, value) for name, value in query if name in _SIGNED_PARAMETERS)
    text = "&".join(name if name in bare else f"{name}={value}" for name, value in signed)
    return f"?{text}" if text else ""


def _bare_names(parts: Iterable[bytes]) -> Iterable[str]:
    return (part.decode("latin-1") for part in parts if b"=" not in part)
