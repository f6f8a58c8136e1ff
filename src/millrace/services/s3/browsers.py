"""What only web browsers send: preflights of CORS, and uploads by form."""

import base64
import hmac
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import orjson

from millrace.clock import Clock
from millrace.ports.keys import AccessKey, KeyStore
from millrace.ports.objects import NoSuchBucket, ObjectStore
from millrace.protocol.faults import AuthFailure, AuthProblem
from millrace.protocol.form_data import FileField, Form, read_form
from millrace.protocol.message import Context, Handler, Principal, Reply, Request, Response
from millrace.protocol.sigv4 import ALGORITHM, signing_key
from millrace.protocol.wire_values import BadValue
from millrace.protocol.xml import DECLARATION, Node, escape, parse_document
from millrace.services.s3.checksum_params import CHECKSUMS
from millrace.services.s3.cors import allowing_headers, find_rule
from millrace.services.s3.faults import fault
from millrace.services.s3.post_policy import PostPolicy, check_policy, check_signing_date, parse_post_policy

__all__ = ["Browsers"]

_MEMBERS: Mapping[str, str] = {
    "acl": "ACL",
    "cache-control": "CacheControl",
    "content-disposition": "ContentDisposition",
    "content-encoding": "ContentEncoding",
    "content-language": "ContentLanguage",
    "content-type": "ContentType",
    "content-md5": "ContentMD5",
    "x-amz-server-side-encryption": "ServerSideEncryption",
    "x-amz-server-side-encryption-aws-kms-key-id": "SSEKMSKeyId",
    "x-amz-server-side-encryption-customer-algorithm": "SSECustomerAlgorithm",
    "x-amz-storage-class": "StorageClass",
    "x-amz-website-redirect-location": "WebsiteRedirectLocation",
    **{f"x-amz-checksum-{algorithm}": member for algorithm, (member, _) in CHECKSUMS.items()},
}
"""Fields of a form that PutObject has as headers."""

_FACTS: Mapping[str, str] = {"x-amz-acl": "acl", **{name: name for name in _MEMBERS if name.startswith("x-amz-")}}
"""Headers that conditions of buckets' policies know, by the fields that stand for them."""

_META = "x-amz-meta-"


class Browsers:
    """Preflights, the headers that let pages read answers, and forms.

    Args:
        objects: Has buckets' CORS configurations.
        keys: Who may sign forms.
        put_object: S3's own PutObject, which decides about rights and stores.
        clock: Tells whether a form's policy is current.
        skew_seconds: By how much a signature may be made in the future.
    """

    def __init__(
        self, objects: ObjectStore, *, keys: KeyStore, put_object: Handler, clock: Clock, skew_seconds: int
    ) -> None:
        self._objects = objects
        self._keys = keys
        self._put_object = put_object
        self._clock = clock
        self._skew_seconds = skew_seconds

    async def preflight(self, request: Request, bucket: str) -> Response:
        """Answer whether a page may send a request to a bucket; raises AccessForbidden if not."""
        origin = request.header("origin")
        method = request.header("access-control-request-method")
        if not origin:
            raise fault("BadRequest", "Insufficient information. Origin request header needed.")
        if not method:
            raise fault("BadRequest", "Invalid Access-Control-Request-Method: null")
        headers = _names(request.header("access-control-request-headers"))
        rules = await self._rules(bucket)
        if rules is None:
            raise fault("AccessForbidden", "CORSResponse: CORS is not enabled for this bucket.")
        rule = find_rule(rules, origin=origin, method=method, headers=headers)
        if rule is None:
            raise fault("AccessForbidden")
        return Response(status=200, headers=allowing_headers(rule, origin=origin, headers=headers))

    async def cross_origin_headers(self, request: Request, bucket: str) -> tuple[tuple[str, str], ...]:
        """Return what lets the page that sent a request read its answer."""
        origin = request.header("origin")
        rules = await self._rules(bucket) if origin else None
        if not origin or not rules:
            return ()
        method = request.header("access-control-request-method") or request.method
        rule = find_rule(rules, origin=origin, method=method, headers=())
        return () if rule is None else allowing_headers(rule, origin=origin, headers=())

    async def _rules(self, bucket: str) -> Any:
        try:
            state = await self._objects.get_bucket_state(bucket)
        except NoSuchBucket:
            return None
        text = state.documents.get("cors")
        return None if text is None else orjson.loads(text)["CORSRules"]

    async def post_form(self, context: Context, bucket: str, boundary: bytes) -> Response:
        """Store the file of a form, if the policy that it carries or the bucket lets it."""
        form = await read_form(context.request.body, boundary)
        fields = {name: value.replace("${filename}", form.file.name) for name, value in form.fields.items()}
        if not fields.get("key"):
            raise fault("InvalidArgument", "Bucket POST must contain a field named 'key'.", ArgumentName="key")
        principal, policy = await self._signer(fields, bucket)
        params = _put_params(fields, bucket, form, policy)
        request = replace(context.request, headers=_told_headers(context.request, fields))
        answer = await self._put_object(replace(context, principal=principal, request=request), params)
        result = answer.result if isinstance(answer, Reply) else answer or {}
        location = f"{context.base_url}/{bucket}/{quote(fields['key'], safe='/-_.~')}"
        return _form_response(fields, bucket, location, str(result["ETag"]))

    async def _signer(self, fields: Mapping[str, str], bucket: str) -> tuple[Principal | None, PostPolicy | None]:
        """Return who signed the form and what was signed; a form without a policy is anonymous."""
        encoded = fields.get("policy")
        if encoded is None:
            if "signature" in fields or "x-amz-signature" in fields:
                raise fault(
                    "InvalidArgument", "Bucket POST must contain a field named 'policy'.", ArgumentName="policy"
                )
            return None, None
        key = await self._verified(fields, encoded)
        policy = parse_post_policy(encoded)
        check_policy(policy, fields, bucket=bucket, now=self._clock.now())
        return Principal(access_key=key.id, account=key.account, role=key.role, session=key.session), policy

    async def _verified(self, fields: Mapping[str, str], encoded: str) -> AccessKey:
        v4 = "x-amz-signature" in fields
        needed = ("x-amz-algorithm", "x-amz-credential", "x-amz-date") if v4 else ("awsaccesskeyid", "signature")
        for name in needed:
            if not fields.get(name):
                raise fault("InvalidArgument", f"Bucket POST must contain a field named '{name}'.", ArgumentName=name)
        credential = fields["x-amz-credential"].rsplit("/", 4) if v4 else [fields["awsaccesskeyid"]]
        if v4 and (len(credential) != 5 or credential[3:] != ["s3", "aws4_request"]):
            raise fault(
                "InvalidArgument",
                f"x-amz-credential must be KEY/date/region/s3/aws4_request, got {fields['x-amz-credential'][:200]!r}",
                ArgumentName="x-amz-credential",
            )
        if v4 and fields["x-amz-algorithm"] != ALGORITHM:
            raise fault(
                "InvalidArgument",
                f"x-amz-algorithm must be {ALGORITHM}, got {fields['x-amz-algorithm'][:50]!r}",
                ArgumentName="x-amz-algorithm",
            )
        if v4:
            check_signing_date(
                credential[1], fields["x-amz-date"], now=self._clock.now(), skew_seconds=self._skew_seconds
            )
        key = await self._keys.find_key(credential[0])
        if key is None:
            raise AuthFailure(
                AuthProblem.UNKNOWN_KEY, "The AWS Access Key Id you provided does not exist in our records."
            )
        if fields.get("x-amz-security-token") != key.session_token:
            raise AuthFailure(AuthProblem.BAD_TOKEN, "The provided token is malformed or otherwise invalid.")
        if key.expires_at is not None and key.expires_at <= self._clock.now():
            raise AuthFailure(AuthProblem.EXPIRED_TOKEN, "The provided token has expired.")
        if v4:
            secret = signing_key(key.secret, *credential[1:4])
            computed = hmac.digest(secret, encoded.encode(), "sha256").hex()
            given = fields["x-amz-signature"]
        else:
            computed = base64.b64encode(hmac.digest(key.secret.encode(), encoded.encode(), "sha1")).decode()
            given = fields["signature"]
        if not hmac.compare_digest(computed.encode(), given.encode()):
            raise AuthFailure(
                AuthProblem.MISMATCH,
                "The request signature we calculated does not match the signature you provided. Check your key and "
                "signing method.",
                members={"StringToSign": encoded, "SignatureProvided": given},
            )
        return key


class _Measured:
    """The file of a form, refused as soon as it is known to be larger or smaller than its policy says."""

    def __init__(self, file: FileField, policy: PostPolicy) -> None:
        self.length = file.length
        self.trailers = file.trailers
        self._file = file
        self._least = policy.least_bytes or 0
        self._most = policy.most_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._file:
            size += len(chunk)
            if self._most is not None and size > self._most:
                raise fault("EntityTooLarge", ProposedSize=str(size), MaxSizeAllowed=str(self._most))
            yield chunk
        if size < self._least:
            raise fault("EntityTooSmall", ProposedSize=str(size), MinSizeAllowed=str(self._least))

    async def read(self, limit: int) -> bytes:
        return await self._file.read(limit)


def _put_params(fields: Mapping[str, str], bucket: str, form: Form, policy: PostPolicy | None) -> dict[str, Any]:
    body = form.file if policy is None else _Measured(form.file, policy)
    params: dict[str, Any] = {"Bucket": bucket, "Key": fields["key"], "Body": body}
    params |= {member: fields[name] for name, member in _MEMBERS.items() if name in fields}
    metadata = {name.removeprefix(_META): value for name, value in fields.items() if name.startswith(_META)}
    if metadata:
        params["Metadata"] = metadata
    if "tagging" in fields:
        params["Tagging"] = _tagging(fields["tagging"])
    return params


def _told_headers(request: Request, fields: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return the headers that policies are asked about: what the form says of the object, nothing that headers say.

    A header that stores nothing must not satisfy a condition, a field that does must not evade one.
    """
    own = [(name, value) for name, value in request.headers if not name.startswith("x-amz-")]
    return (*own, *((header, fields[name]) for header, name in _FACTS.items() if name in fields))


def _tagging(text: str) -> str:
    """Return the tags of a form, which has them as XML, as PutObject's header has them."""
    try:
        tag_set = parse_document(text.encode()).find("TagSet")
    except BadValue:
        tag_set = None
    if tag_set is None:
        raise fault("MalformedXML")
    return urlencode([(_text_of(tag, "Key"), _text_of(tag, "Value")) for tag in tag_set.children])


def _text_of(node: Node, tag: str) -> str:
    child = node.find(tag)
    return "" if child is None else child.text


def _form_response(fields: Mapping[str, str], bucket: str, location: str, etag: str) -> Response:
    headers = (("ETag", etag), ("Location", location))
    target = fields.get("success_action_redirect") or fields.get("redirect")
    if target and urlsplit(target).scheme in ("http", "https"):
        query = urlencode({"bucket": bucket, "key": fields["key"], "etag": etag})
        joined = f"{target}{'&' if urlsplit(target).query else '?'}{query}"
        return Response(status=303, headers=(("ETag", etag), ("Location", quote(joined, safe="/:?&=%#~+,;@!$'()*"))))
    match fields.get("success_action_status"):
        case "200":
            return Response(status=200, headers=headers)
        case "201":
            body = (
                f"{DECLARATION}<PostResponse><Location>{escape(location)}</Location><Bucket>{bucket}</Bucket>"
                f"<Key>{escape(fields['key'])}</Key><ETag>{escape(etag)}</ETag></PostResponse>"
            )
            return Response(status=201, headers=(*headers, ("content-type", "application/xml")), body=body.encode())
        case _:
            return Response(status=204, headers=headers)


def _names(header: str | None) -> list[str]:
    return [name.strip().lower() for name in (header or "").split(",") if name.strip()]
