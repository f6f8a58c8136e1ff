"""Make, find, list and delete buckets."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import orjson

from millrace.names import DEFAULT_REGION
from millrace.ports.objects import BucketExists, BucketInfo, ObjectStore
from millrace.protocol.message import Context, Handler, Params, Result
from millrace.services.s3.access import Access
from millrace.services.s3.acl import encode_acl, is_public
from millrace.services.s3.bucket_names import is_bucket_name
from millrace.services.s3.bucket_rules import NewBuckets, Ownership, initial_document
from millrace.services.s3.faults import fault
from millrace.services.s3.object_meta import tags_of

__all__ = ["BucketHandlers"]

_MAX_BUCKET_TAGS = 50


class BucketHandlers:
    """The operations on buckets as such."""

    def __init__(self, objects: ObjectStore, access: Access) -> None:
        self._objects = objects
        self._access = access

    def table(self) -> Mapping[str, Handler]:
        """Return the handlers by operation."""
        return {
            "CreateBucket": self.create_bucket,
            "DeleteBucket": self.delete_bucket,
            "GetBucketLocation": self.get_bucket_location,
            "HeadBucket": self.head_bucket,
            "ListBuckets": self.list_buckets,
        }

    async def create_bucket(self, ctx: Context, params: Params) -> Result:
        """Make a bucket in the region that the request is for."""
        name = params["Bucket"]
        if not is_bucket_name(name):
            raise fault("InvalidBucketName", BucketName=name)
        if params.get("ObjectLockEnabledForBucket"):
            raise fault("NotImplemented", "Object Lock is not implemented: no versions of objects are kept.")
        configuration = params.get("CreateBucketConfiguration") or {}
        region = _bucket_region(ctx.region, configuration.get("LocationConstraint"))
        owner = _caller(ctx)
        documents = await self._documents(ctx, params, configuration)
        try:
            await self._objects.create_bucket(name, region=region, owner=owner)
        except BucketExists:
            there = await self._objects.get_bucket(name)
            if there.owner != owner:
                raise fault("BucketAlreadyExists", BucketName=name) from None
            # "If you re-create an existing bucket that you already own in us-east-1, Amazon S3 returns 200 OK"
            if not there.region == region == DEFAULT_REGION:
                raise fault("BucketAlreadyOwnedByYou", BucketName=name) from None
            # "... and resets the bucket access control lists (ACLs)"
            await self._objects.put_bucket_document(name, "acl", documents.get("acl"))
        else:
            for kind, text in documents.items():
                await self._objects.put_bucket_document(name, kind, text)
        return {"Location": f"/{name}", "BucketArn": f"arn:aws:s3:::{name}"}

    async def _documents(self, ctx: Context, params: Params, configuration: Mapping[str, Any]) -> dict[str, str]:
        """Return the configurations that the new bucket has from the start."""
        documents = {}
        if configuration.get("Tags"):
            tags_of({"TagSet": configuration["Tags"]}, limit=_MAX_BUCKET_TAGS)
            documents["tagging"] = orjson.dumps({"TagSet": configuration["Tags"]}).decode()
        initial = initial_document("ownership-controls", self._access.new_buckets)
        asked = params.get("ObjectOwnership")
        if asked is not None:
            documents["ownership-controls"] = orjson.dumps({"Rules": [{"ObjectOwnership": asked}]}).decode()
        ownership = Ownership(asked) if asked else Ownership.WRITER if initial is None else Ownership.ENFORCED
        acl = await self._access.new_bucket_acl(ctx, params, ownership)
        if acl is not None and ownership is not Ownership.ENFORCED:
            if is_public(acl) and self._access.new_buckets is NewBuckets.PRIVATE:
                raise fault("AccessDenied", "Access Denied: public ACLs are blocked in a new bucket")
            documents["acl"] = encode_acl(acl)
        return documents

    async def delete_bucket(self, ctx: Context, params: Params) -> None:
        """Delete an empty bucket."""
        await self._objects.delete_bucket(params["Bucket"])

    async def get_bucket_location(self, ctx: Context, params: Params) -> Result:
        """Tell a bucket's region; nothing stands for us-east-1."""
        bucket = await self._objects.get_bucket(params["Bucket"])
        return {"LocationConstraint": None if bucket.region == DEFAULT_REGION else bucket.region}

    async def head_bucket(self, ctx: Context, params: Params) -> Result:
        """Tell that a bucket is there, and where."""
        bucket = await self._objects.get_bucket(params["Bucket"])
        return {"BucketRegion": bucket.region, "BucketArn": f"arn:aws:s3:::{bucket.name}"}

    async def list_buckets(self, ctx: Context, params: Params) -> Result:
        """List buckets by name, all of them unless the client asks for pages."""
        owner = _caller(ctx)
        prefix, region = params.get("Prefix") or "", params.get("BucketRegion")
        after = _decode_token(params.get("ContinuationToken"))
        found = [
            bucket
            for bucket in await self._objects.list_buckets()
            if bucket.owner == owner
            and bucket.name.startswith(prefix)
            and bucket.name > after
            and region in (None, bucket.region)
        ]
        limit = params.get("MaxBuckets") or len(found)
        return {
            "Buckets": [_listed(bucket) for bucket in found[:limit]],
            "Owner": await self._access.owner_members(owner),
            "Prefix": params.get("Prefix"),
            "ContinuationToken": _encode_token(found[limit - 1].name) if len(found) > limit else None,
        }


def _caller(ctx: Context) -> str:
    assert ctx.principal is not None, "anonymous callers were refused before"
    return ctx.principal.account


def _listed(bucket: BucketInfo) -> dict[str, Any]:
    return {
        "Name": bucket.name,
        "CreationDate": bucket.created_at,
        "BucketRegion": bucket.region,
        "BucketArn": f"arn:aws:s3:::{bucket.name}",
    }


def _bucket_region(endpoint: str, constraint: str | None) -> str:
    """Return the region of a new bucket.

    Args:
        endpoint: The region that the request is signed for: we have one address for all regions.
        constraint: The region that the request's body asks for.
    """
    if constraint is None:
        if endpoint != DEFAULT_REGION:
            raise fault("IllegalLocationConstraintException")
        return DEFAULT_REGION
    if constraint == DEFAULT_REGION:
        raise fault("InvalidLocationConstraint", LocationConstraint=constraint)
    region = "eu-west-1" if constraint == "EU" else constraint
    if endpoint not in (DEFAULT_REGION, region):
        raise fault(
            "IllegalLocationConstraintException",
            f"The {constraint} location constraint is incompatible for the region specific endpoint this request was "
            f"sent to: {endpoint}.",
        )
    return region


def _encode_token(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode()


def _decode_token(token: str | None) -> str:
    try:
        return base64.urlsafe_b64decode(token or "").decode()
    except (binascii.Error, ValueError):
        raise fault("InvalidArgument", f"The continuation token provided is incorrect: {token!r}") from None
