"""What each operation needs: the action that a policy calls it, and the right of an ACL that allows it to others."""

from collections.abc import Mapping
from dataclasses import dataclass

from millrace.services.s3.acl import Permission

__all__ = ["NEEDS", "READ_SOURCE", "READ_SOURCE_TAGS", "SET_ACL", "SET_TAGS", "Need"]


@dataclass(frozen=True, slots=True)
class Need:
    """What an operation needs.

    `right` is None where no ACL can give it: only the owner and whom a policy lets. `of_object` asks the object's owner
    and ACL instead of the bucket's; `names_key` says that a policy's resource is the object.
    """

    action: str
    right: Permission | None = None
    of_object: bool = False
    names_key: bool = False


def _list(action: str) -> Need:
    return Need(action, Permission.READ)


def _write(action: str) -> Need:
    return Need(action, Permission.WRITE, names_key=True)


def _object(action: str, right: Permission | None = None) -> Need:
    return Need(action, right, of_object=True, names_key=True)


READ_SOURCE = _object("s3:GetObject", Permission.READ)
"""What the source of a copy needs."""

READ_SOURCE_TAGS = _object("s3:GetObjectTagging")
"""What the source of a copy needs whose tags come along."""

SET_ACL = _write("s3:PutObjectAcl")
SET_TAGS = _write("s3:PutObjectTagging")
"""What storing an object needs beside s3:PutObject where the request gives it an ACL or tags.

An ACL that lets others write to the bucket lets them store objects with both: what they store is theirs.

Source:
    "Required permissions for Amazon S3 API operations": PutObject, CopyObject and CreateMultipartUpload need
    s3:PutObjectAcl "if you want to put the object ACL", s3:PutObjectTagging "if you want to put the object tags".
"""

_CONFIGURATIONS: Mapping[str, str] = {
    "BucketAccelerateConfiguration": "AccelerateConfiguration",
    "BucketCors": "BucketCORS",
    "BucketEncryption": "EncryptionConfiguration",
    "BucketLifecycle": "LifecycleConfiguration",
    "BucketLifecycleConfiguration": "LifecycleConfiguration",
    "BucketLogging": "BucketLogging",
    "BucketNotificationConfiguration": "BucketNotification",
    "BucketOwnershipControls": "BucketOwnershipControls",
    "BucketRequestPayment": "BucketRequestPayment",
    "BucketTagging": "BucketTagging",
    "BucketVersioning": "BucketVersioning",
    "BucketWebsite": "BucketWebsite",
    "PublicAccessBlock": "BucketPublicAccessBlock",
}
"""Configurations: the end of their operations' names, and of their actions'."""


def _configuration_needs() -> dict[str, Need]:
    needs = {}
    for operation, action in _CONFIGURATIONS.items():
        needs[f"Get{operation}"] = Need(f"s3:Get{action}")
        # A removal is a change, but for the website, whose removal has an action of its own.
        needs[f"Put{operation}"] = needs[f"Delete{operation}"] = Need(f"s3:Put{action}")
    needs["DeleteBucketWebsite"] = Need("s3:DeleteBucketWebsite")
    return needs


NEEDS: Mapping[str, Need] = {
    **_configuration_needs(),
    "AbortMultipartUpload": _write("s3:AbortMultipartUpload"),
    "CompleteMultipartUpload": _write("s3:PutObject"),
    "CopyObject": _write("s3:PutObject"),
    "CreateMultipartUpload": _write("s3:PutObject"),
    "DeleteBucket": Need("s3:DeleteBucket"),
    "DeleteBucketPolicy": Need("s3:DeleteBucketPolicy"),
    "DeleteObject": _write("s3:DeleteObject"),
    "DeleteObjectTagging": _object("s3:DeleteObjectTagging"),
    "DeleteObjects": _write("s3:DeleteObject"),
    "GetBucketAcl": Need("s3:GetBucketAcl", Permission.READ_ACP),
    "GetBucketLocation": Need("s3:GetBucketLocation"),
    "GetBucketPolicy": Need("s3:GetBucketPolicy"),
    "GetBucketPolicyStatus": Need("s3:GetBucketPolicyStatus"),
    "GetBucketReplication": Need("s3:GetReplicationConfiguration"),
    "GetObject": READ_SOURCE,
    "GetObjectAcl": _object("s3:GetObjectAcl", Permission.READ_ACP),
    "GetObjectAttributes": _object("s3:GetObjectAttributes", Permission.READ),
    "GetObjectLockConfiguration": Need("s3:GetBucketObjectLockConfiguration"),
    "GetObjectTagging": _object("s3:GetObjectTagging"),
    "HeadBucket": _list("s3:ListBucket"),
    "HeadObject": READ_SOURCE,
    "ListMultipartUploads": _list("s3:ListBucketMultipartUploads"),
    "ListObjectVersions": _list("s3:ListBucketVersions"),
    "ListObjects": _list("s3:ListBucket"),
    "ListObjectsV2": _list("s3:ListBucket"),
    "ListParts": _write("s3:ListMultipartUploadParts"),
    "PutBucketAcl": Need("s3:PutBucketAcl", Permission.WRITE_ACP),
    "PutBucketPolicy": Need("s3:PutBucketPolicy"),
    "PutObject": _write("s3:PutObject"),
    "PutObjectAcl": _object("s3:PutObjectAcl", Permission.WRITE_ACP),
    "PutObjectTagging": _object("s3:PutObjectTagging"),
    "UploadPart": _write("s3:PutObject"),
    "UploadPartCopy": _write("s3:PutObject"),
}
"""Every operation on a bucket that is served, but for CreateBucket, which any signed caller may ask for."""
