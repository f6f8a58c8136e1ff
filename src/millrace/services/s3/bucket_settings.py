"""Keep the configurations of buckets: what was put is told back.

Policy, ownership of objects and the block of public access decide who may do what (`access`), CORS what browsers may
(`cors`). Lifecycle, versioning and the like are kept so that templates and tools which set them work, and change
nothing: objects have one version and live until they are deleted. What would promise more (replication, Object Lock)
cannot be put, so that nobody relies on it.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from millrace.ports.objects import ObjectStore
from millrace.protocol.message import Context, Handler, Params, Reply, Result
from millrace.services.s3.access import Access
from millrace.services.s3.acl import is_public
from millrace.services.s3.bucket_policy import parse_policy
from millrace.services.s3.bucket_rules import REMOVED, BucketRules, Ownership, initial_document
from millrace.services.s3.cors import check_cors
from millrace.services.s3.faults import fault
from millrace.services.s3.object_meta import tags_of

__all__ = ["BucketSettingHandlers"]

_MAX_BUCKET_TAGS = 50
_TIME = "$time"
"""Marks a time in a stored document, where JSON has none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One configuration of a bucket.

    Its Get answers with the members of the stored document, or with the document as one member `wrapped_in`. Where
    nothing was put it answers `default`, or the error `missing`.
    """

    kind: str
    get: str
    put: str
    delete: str | None = None
    payload: str
    wrapped_in: str | None = None
    missing: str | None = None
    default: Mapping[str, Any] | None = None


_SETTINGS = (
    Setting(
        kind="tagging",
        get="GetBucketTagging",
        put="PutBucketTagging",
        delete="DeleteBucketTagging",
        payload="Tagging",
        missing="NoSuchTagSet",
    ),
    Setting(
        kind="cors",
        get="GetBucketCors",
        put="PutBucketCors",
        delete="DeleteBucketCors",
        payload="CORSConfiguration",
        missing="NoSuchCORSConfiguration",
    ),
    Setting(
        kind="policy",
        get="GetBucketPolicy",
        put="PutBucketPolicy",
        delete="DeleteBucketPolicy",
        payload="Policy",
        wrapped_in="Policy",
        missing="NoSuchBucketPolicy",
    ),
    Setting(
        kind="encryption",
        get="GetBucketEncryption",
        put="PutBucketEncryption",
        delete="DeleteBucketEncryption",
        payload="ServerSideEncryptionConfiguration",
        wrapped_in="ServerSideEncryptionConfiguration",
        missing="ServerSideEncryptionConfigurationNotFoundError",
    ),
    Setting(
        kind="lifecycle",
        get="GetBucketLifecycleConfiguration",
        put="PutBucketLifecycleConfiguration",
        delete="DeleteBucketLifecycle",
        payload="LifecycleConfiguration",
        missing="NoSuchLifecycleConfiguration",
    ),
    Setting(
        kind="versioning",
        get="GetBucketVersioning",
        put="PutBucketVersioning",
        payload="VersioningConfiguration",
        default={},
    ),
    Setting(
        kind="public-access-block",
        get="GetPublicAccessBlock",
        put="PutPublicAccessBlock",
        delete="DeletePublicAccessBlock",
        payload="PublicAccessBlockConfiguration",
        wrapped_in="PublicAccessBlockConfiguration",
        missing="NoSuchPublicAccessBlockConfiguration",
    ),
    Setting(
        kind="ownership-controls",
        get="GetBucketOwnershipControls",
        put="PutBucketOwnershipControls",
        delete="DeleteBucketOwnershipControls",
        payload="OwnershipControls",
        wrapped_in="OwnershipControls",
        missing="OwnershipControlsNotFoundError",
    ),
    Setting(
        kind="notification",
        get="GetBucketNotificationConfiguration",
        put="PutBucketNotificationConfiguration",
        payload="NotificationConfiguration",
        default={},
    ),
    Setting(
        kind="website",
        get="GetBucketWebsite",
        put="PutBucketWebsite",
        delete="DeleteBucketWebsite",
        payload="WebsiteConfiguration",
        missing="NoSuchWebsiteConfiguration",
    ),
    Setting(kind="logging", get="GetBucketLogging", put="PutBucketLogging", payload="BucketLoggingStatus", default={}),
    Setting(
        kind="request-payment",
        get="GetBucketRequestPayment",
        put="PutBucketRequestPayment",
        payload="RequestPaymentConfiguration",
        default={"Payer": "BucketOwner"},
    ),
    Setting(
        kind="accelerate",
        get="GetBucketAccelerateConfiguration",
        put="PutBucketAccelerateConfiguration",
        payload="AccelerateConfiguration",
        default={},
    ),
)

_NEVER_SET: Mapping[str, str] = {
    "GetBucketReplication": "ReplicationConfigurationNotFoundError",
    "GetObjectLockConfiguration": "ObjectLockConfigurationNotFoundError",
}
"""Configurations that cannot be put, by the operation that tells so."""


class BucketSettingHandlers:
    """The operations on configurations of buckets."""

    def __init__(self, objects: ObjectStore, access: Access) -> None:
        self._objects = objects
        self._access = access

    def table(self) -> Mapping[str, Handler]:
        """Return the handlers by operation."""
        handlers: dict[str, Handler] = {
            "GetBucketPolicyStatus": self.get_bucket_policy_status,
        }
        for setting in _SETTINGS:
            handlers[setting.get] = self._getter(setting)
            handlers[setting.put] = self._putter(setting)
            if setting.delete is not None:
                handlers[setting.delete] = self._deleter(setting)
        for operation, code in _NEVER_SET.items():
            handlers[operation] = self._denier(code)
        return handlers

    def _getter(self, setting: Setting) -> Handler:
        async def get(ctx: Context, params: Params) -> Result:
            text = await self._objects.get_bucket_document(params["Bucket"], setting.kind)
            initial: Any = initial_document(setting.kind, self._access.new_buckets)
            if text == REMOVED or (text is None and initial is None):
                if setting.missing is not None:
                    raise fault(setting.missing, BucketName=params["Bucket"])
                return setting.default or {}
            document: Any = initial if text is None else _decode(text)
            return document if setting.wrapped_in is None else {setting.wrapped_in: document}

        return get

    def _putter(self, setting: Setting) -> Handler:
        async def put(ctx: Context, params: Params) -> Reply:
            document = params.get(setting.payload)
            if document is None:
                raise fault("MalformedXML")
            if setting.kind == "tagging":
                tags_of(document, limit=_MAX_BUCKET_TAGS)
            check = _CHECKS.get(setting.kind)
            if check is not None:
                check(await self._access.rules(params["Bucket"]), document)
            if setting.kind == "policy":
                document = _text(document)
            await self._objects.put_bucket_document(params["Bucket"], setting.kind, _encode(document))
            return Reply(status=204 if setting.kind == "policy" else None)  # which the model does not say

        return put

    def _deleter(self, setting: Setting) -> Handler:
        async def delete(ctx: Context, params: Params) -> None:
            # What a new bucket has from the start is gone only if that is written down.
            has_initial = initial_document(setting.kind, self._access.new_buckets) is not None
            await self._objects.put_bucket_document(params["Bucket"], setting.kind, REMOVED if has_initial else None)

        return delete

    def _denier(self, code: str) -> Handler:
        async def deny(ctx: Context, params: Params) -> Result:
            await self._objects.get_bucket(params["Bucket"])
            raise fault(code, BucketName=params["Bucket"])

        return deny

    async def get_bucket_policy_status(self, ctx: Context, params: Params) -> Result:
        """Tell whether policy or ACL let in anybody."""
        rules = await self._access.rules(params["Bucket"])
        by_policy = rules.policy is not None and rules.policy.is_public and not rules.block.restrict
        by_acl = rules.acls_count and is_public(rules.acl) and not rules.block.ignore_acls
        return {"PolicyStatus": {"IsPublic": by_policy or by_acl}}


def _check_policy(rules: BucketRules, document: str | bytes) -> None:
    policy = parse_policy(_text(document), rules.name)
    if rules.block.refuse_policy and policy.is_public:
        raise fault("AccessDenied", "Access Denied: public policies are blocked by the bucket's public access block")


def _check_ownership(rules: BucketRules, document: Mapping[str, Any]) -> None:
    """Refuse to turn ACLs off where one still gives others a right, as S3 does."""
    named = [rule.get("ObjectOwnership") for rule in document.get("Rules") or ()]
    if len(named) != 1 or named[0] not in set(Ownership):
        raise fault("MalformedXML")
    if named[0] == Ownership.ENFORCED and any(grant.grantee != rules.owner_id for grant in rules.acl):
        raise fault("InvalidBucketAclWithObjectOwnership")


def _check_cors(rules: BucketRules, document: Mapping[str, Any]) -> None:
    check_cors(document)


_CHECKS: Mapping[str, Callable[[BucketRules, Any], None]] = {
    "cors": _check_cors,
    "ownership-controls": _check_ownership,
    "policy": _check_policy,
}


def _text(document: str | bytes) -> str:
    try:
        return document.decode() if isinstance(document, bytes) else document
    except UnicodeDecodeError:
        raise fault("MalformedPolicy") from None


def _encode(document: Any) -> str:
    return orjson.dumps(document, default=_encode_time, option=orjson.OPT_PASSTHROUGH_DATETIME).decode()


def _encode_time(value: object) -> Any:
    if isinstance(value, datetime):
        return {_TIME: value.isoformat()}
    raise TypeError(f"expected a value of a bucket configuration, got {value!r}")


def _decode(text: str) -> Any:
    return json.loads(
        text, object_hook=lambda found: datetime.fromisoformat(found[_TIME]) if found.keys() == {_TIME} else found
    )
