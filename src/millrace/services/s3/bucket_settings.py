"""Keep the configurations of buckets: what was put is told back.

Tags, CORS, lifecycle and the like are kept so that templates and tools which set them work. They change nothing else:
objects have one version, live until they are deleted, and are readable by whoever has a key. What would promise more
(replication, Object Lock, ACLs for others) cannot be put, so that nobody relies on it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from millrace.names import ObjectRef
from millrace.ports.objects import ObjectStore
from millrace.protocol.message import Context, Handler, Params, Result
from millrace.services.s3.buckets import owner_members
from millrace.services.s3.faults import fault
from millrace.services.s3.object_meta import refuse_unkept, tags_of

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
    """The operations on configurations of buckets, and on ACLs."""

    def __init__(self, objects: ObjectStore, *, account: str) -> None:
        self._objects = objects
        self._account = account

    def table(self) -> Mapping[str, Handler]:
        """Return the handlers by operation."""
        handlers: dict[str, Handler] = {
            "GetBucketAcl": self.get_bucket_acl,
            "GetBucketPolicyStatus": self.get_bucket_policy_status,
            "GetObjectAcl": self.get_object_acl,
            "PutBucketAcl": self.put_bucket_acl,
            "PutObjectAcl": self.put_object_acl,
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
            if text is None:
                if setting.missing is not None:
                    raise fault(setting.missing, BucketName=params["Bucket"])
                return setting.default or {}
            document = _decode(text)
            return document if setting.wrapped_in is None else {setting.wrapped_in: document}

        return get

    def _putter(self, setting: Setting) -> Handler:
        async def put(ctx: Context, params: Params) -> None:
            document = params.get(setting.payload)
            if document is None:
                raise fault("MalformedXML")
            if setting.kind == "tagging":
                tags_of(document, limit=_MAX_BUCKET_TAGS)
            if setting.kind == "policy":
                document = _policy_text(document)
            await self._objects.put_bucket_document(params["Bucket"], setting.kind, _encode(document))

        return put

    def _deleter(self, setting: Setting) -> Handler:
        async def delete(ctx: Context, params: Params) -> None:
            await self._objects.put_bucket_document(params["Bucket"], setting.kind, None)

        return delete

    def _denier(self, code: str) -> Handler:
        async def deny(ctx: Context, params: Params) -> Result:
            await self._objects.get_bucket(params["Bucket"])
            raise fault(code, BucketName=params["Bucket"])

        return deny

    async def get_bucket_policy_status(self, ctx: Context, params: Params) -> Result:
        """Tell that a bucket is not public: every request needs a key."""
        if await self._objects.get_bucket_document(params["Bucket"], "policy") is None:
            raise fault("NoSuchBucketPolicy", BucketName=params["Bucket"])
        return {"PolicyStatus": {"IsPublic": False}}

    async def get_bucket_acl(self, ctx: Context, params: Params) -> Result:
        """Tell that the account owns the bucket, and nobody else has a right."""
        await self._objects.get_bucket(params["Bucket"])
        return self._owners_acl()

    async def get_object_acl(self, ctx: Context, params: Params) -> Result:
        """Tell that the account owns the object, and nobody else has a right."""
        await self._objects.get(_ref(params))
        return self._owners_acl()

    async def put_bucket_acl(self, ctx: Context, params: Params) -> None:
        """Accept what leaves the rights as they are; refuse the rest, as S3 does where ACLs are off."""
        await self._objects.get_bucket(params["Bucket"])
        self._check_acl(params)

    async def put_object_acl(self, ctx: Context, params: Params) -> None:
        """Accept what leaves the rights as they are; refuse the rest, as S3 does where ACLs are off."""
        await self._objects.get(_ref(params))
        self._check_acl(params)

    def _check_acl(self, params: Params) -> None:
        refuse_unkept(params)
        for grant in (params.get("AccessControlPolicy") or {}).get("Grants") or ():
            if (grant.get("Grantee") or {}).get("ID") != owner_members(self._account)["ID"]:
                raise fault("AccessControlListNotSupported")

    def _owners_acl(self) -> Result:
        owner = owner_members(self._account)
        grant = {"Grantee": {**owner, "Type": "CanonicalUser"}, "Permission": "FULL_CONTROL"}
        return {"Owner": owner, "Grants": [grant]}


def _ref(params: Params) -> ObjectRef:
    return ObjectRef(params["Bucket"], params["Key"])


def _policy_text(text: str | bytes) -> str:
    text = text.decode() if isinstance(text, bytes) else text
    try:
        valid = isinstance(json.loads(text), dict)
    except ValueError:
        valid = False
    if not valid:
        raise fault("MalformedPolicy")
    return text


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
