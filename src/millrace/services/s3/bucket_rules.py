"""Who owns a bucket and what its owner has ruled: ownership of objects, blocked public access, ACL and policy."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

import orjson

from millrace.errors import S3Error
from millrace.names import canonical_user_id
from millrace.ports.objects import BucketState
from millrace.services.s3.acl import Acl, canned_acl, decode_acl
from millrace.services.s3.bucket_policy import Policy, stored_policy

__all__ = ["REMOVED", "BucketRules", "NewBuckets", "Ownership", "PublicAccessBlock", "bucket_rules", "initial_document"]

REMOVED = "null"
"""Stands for a configuration that its owner has removed, where a new bucket has one from the start."""


class NewBuckets(StrEnum):
    """What a bucket is like whose owner has ruled nothing."""

    PRIVATE = "private"
    """As S3 makes them since April 2023: ACLs are off, public access is blocked."""

    OPEN = "open"
    """As S3 made them before: ACLs count, nothing is blocked."""


class Ownership(StrEnum):
    """Who owns what other accounts store in a bucket, and whether ACLs count."""

    ENFORCED = "BucketOwnerEnforced"
    PREFERRED = "BucketOwnerPreferred"
    WRITER = "ObjectWriter"


@dataclass(frozen=True, kw_only=True, slots=True)
class PublicAccessBlock:
    """What of public access is blocked."""

    refuse_acls: bool = False
    ignore_acls: bool = False
    refuse_policy: bool = False
    restrict: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class BucketRules:
    """All that decides who may do what in a bucket, but for the ACLs of objects."""

    name: str
    owner: str
    ownership: Ownership
    block: PublicAccessBlock
    acl: Acl
    policy: Policy | None

    @property
    def owner_id(self) -> str:
        """The owner's canonical id."""
        return canonical_user_id(self.owner)

    @property
    def acls_count(self) -> bool:
        """Whether ACLs decide anything."""
        return self.ownership is not Ownership.ENFORCED


_INITIAL: Mapping[str, Any] = {
    "ownership-controls": {"Rules": [{"ObjectOwnership": Ownership.ENFORCED.value}]},
    "public-access-block": {
        "BlockPublicAcls": True,
        "IgnorePublicAcls": True,
        "BlockPublicPolicy": True,
        "RestrictPublicBuckets": True,
    },
}


def initial_document(kind: str, new_buckets: NewBuckets) -> Any | None:
    """Return a configuration that a bucket has without anybody having put it."""
    return _INITIAL.get(kind) if new_buckets is NewBuckets.PRIVATE else None


def bucket_rules(state: BucketState, new_buckets: NewBuckets) -> BucketRules:
    """Return the rules of a bucket."""
    info, documents = state.info, state.documents
    owner_id = canonical_user_id(info.owner)
    acl = documents.get("acl")
    return BucketRules(
        name=info.name,
        owner=info.owner,
        ownership=_ownership(_document("ownership-controls", documents, new_buckets)),
        block=_public_access_block(_document("public-access-block", documents, new_buckets) or {}),
        acl=canned_acl("private", owner=owner_id, bucket_owner=owner_id) if acl is None else decode_acl(acl),
        policy=_policy(documents.get("policy"), info.name),
    )


def _document(kind: str, documents: Mapping[str, str], new_buckets: NewBuckets) -> Any | None:
    text = documents.get(kind)
    return initial_document(kind, new_buckets) if text is None else orjson.loads(text)


def _ownership(document: Mapping[str, Any] | None) -> Ownership:
    rules = (document or {}).get("Rules") or []
    return Ownership(rules[0]["ObjectOwnership"]) if rules else Ownership.WRITER


def _public_access_block(document: Mapping[str, Any]) -> PublicAccessBlock:
    return PublicAccessBlock(
        refuse_acls=bool(document.get("BlockPublicAcls")),
        ignore_acls=bool(document.get("IgnorePublicAcls")),
        refuse_policy=bool(document.get("BlockPublicPolicy")),
        restrict=bool(document.get("RestrictPublicBuckets")),
    )


@lru_cache(maxsize=256)
def _policy(text: str | None, bucket: str) -> Policy | None:
    if text is None:
        return None
    try:
        return stored_policy(orjson.loads(text), bucket)
    except S3Error:
        # Kept by a release that evaluated no policies and so did not look at them: it lets nobody in.
        return Policy(())
