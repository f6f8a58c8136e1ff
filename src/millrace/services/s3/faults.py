"""S3's errors by code, and the object store's own errors in these terms."""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from millrace.errors import S3Error
from millrace.names import ObjectRef
from millrace.ports.objects import (
    BadDigest,
    BucketExists,
    BucketNotEmpty,
    InvalidPart,
    NoSuchBucket,
    NoSuchKey,
    NoSuchUpload,
    ObjectStoreError,
    ObjectUnreadable,
    PartTooSmall,
    PreconditionFailed,
)

__all__ = ["fault", "store_errors"]

_FAULTS: Mapping[str, tuple[int, str]] = {
    "AccessControlListNotSupported": (400, "The bucket does not allow ACLs"),
    "AccessDenied": (403, "Access Denied"),
    "AccessForbidden": (
        403,
        "CORSResponse: This CORS request is not allowed. This is usually because the evalution of Origin, request "
        "method / Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted by the "
        "resource's CORS spec.",
    ),
    "BadDigest": (400, "The digest you specified did not match the calculated one."),
    "BadRequest": (400, "Bad Request"),
    "BucketAlreadyExists": (
        409,
        "The requested bucket name is not available. The bucket namespace is shared by all users of the system. "
        "Please select a different name and try again.",
    ),
    "BucketAlreadyOwnedByYou": (
        409,
        "Your previous request to create the named bucket succeeded and you already own it.",
    ),
    "BucketNotEmpty": (409, "The bucket you tried to delete is not empty"),
    "EntityTooLarge": (400, "Your proposed upload exceeds the maximum allowed size"),
    "EntityTooSmall": (400, "Your proposed upload is smaller than the minimum allowed size"),
    "IllegalLocationConstraintException": (
        400,
        "The unspecified location constraint is incompatible for the region specific endpoint this request was sent "
        "to.",
    ),
    "InvalidArgument": (400, "Invalid Argument"),
    "InvalidBucketName": (400, "The specified bucket is not valid."),
    "InvalidDigest": (400, "The Content-MD5 you specified was invalid."),
    "InvalidLocationConstraint": (400, "The specified location-constraint is not valid"),
    "InvalidPart": (
        400,
        "One or more of the specified parts could not be found.  The part may not have been uploaded, or the "
        "specified entity tag may not match the part's entity tag.",
    ),
    "InvalidPartNumber": (416, "The requested partnumber is not satisfiable"),
    "InvalidPartOrder": (
        400,
        "The list of parts was not in ascending order. The parts list must be specified in order by part number.",
    ),
    "InvalidPolicyDocument": (400, "Invalid Policy"),
    "InvalidRange": (416, "The requested range is not satisfiable"),
    "InvalidRequest": (400, "Invalid Request"),
    "InvalidStorageClass": (400, "The storage class you specified is not valid"),
    "InvalidTag": (400, "The tag provided was not a valid tag."),
    "KeyTooLongError": (400, "Your key is too long"),
    "InvalidBucketAclWithObjectOwnership": (
        400,
        "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting",
    ),
    "MalformedACLError": (
        400,
        "The XML you provided was not well-formed or did not validate against our published schema",
    ),
    "MalformedPolicy": (400, "Policies must be valid JSON and the first byte must be '{'"),
    "MalformedXML": (
        400,
        "The XML you provided was not well-formed or did not validate against our published schema",
    ),
    "MetadataTooLarge": (400, "Your metadata headers exceed the maximum allowed metadata size"),
    "MissingSecurityHeader": (400, "Your request was missing a required header"),
    "NoSuchBucket": (404, "The specified bucket does not exist"),
    "NoSuchBucketPolicy": (404, "The bucket policy does not exist"),
    "NoSuchCORSConfiguration": (404, "The CORS configuration does not exist"),
    "NoSuchKey": (404, "The specified key does not exist."),
    "NoSuchLifecycleConfiguration": (404, "The lifecycle configuration does not exist"),
    "NoSuchPublicAccessBlockConfiguration": (404, "The public access block configuration was not found"),
    "NoSuchTagSet": (404, "The TagSet does not exist"),
    "NoSuchUpload": (
        404,
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or "
        "completed.",
    ),
    "NoSuchVersion": (404, "The specified version does not exist."),
    "NoSuchWebsiteConfiguration": (404, "The specified bucket does not have a website configuration"),
    "NotImplemented": (501, "A header you provided implies functionality that is not implemented"),
    "ObjectLockConfigurationNotFoundError": (404, "Object Lock configuration does not exist for this bucket"),
    "OwnershipControlsNotFoundError": (404, "The bucket ownership controls were not found"),
    "PreconditionFailed": (412, "At least one of the pre-conditions you specified did not hold"),
    "ServiceUnavailable": (
        503,
        "There is no room for the object on the disk of the server. Nothing was stored, what was there is unchanged.",
    ),
    "UnresolvableGrantByEmailAddress": (
        400,
        "The e-mail address you provided does not match any account on record.",
    ),
    "ReplicationConfigurationNotFoundError": (404, "The replication configuration was not found"),
    "ServerSideEncryptionConfigurationNotFoundError": (
        404,
        "The server side encryption configuration was not found",
    ),
}


_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def fault(code: str, message: str | None = None, **members: Any) -> S3Error:
    """Return the error of a code: S3's status, S3's message unless another is given, and further members."""
    status, text = _FAULTS[code]
    return S3Error(code, message or text, status=status, members=members)


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn the object store's errors into S3's."""
    try:
        yield
    except ObjectStoreError as error:
        raise _translated(error) from error
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise fault("ServiceUnavailable") from error
        raise


def _translated(error: ObjectStoreError) -> S3Error | ObjectStoreError:
    subject = error.subject
    match error:
        case NoSuchBucket():
            return fault("NoSuchBucket", BucketName=str(subject))
        case NoSuchKey():
            return fault("NoSuchKey", Key=subject.key if isinstance(subject, ObjectRef) else str(subject))
        case ObjectUnreadable():
            return fault("AccessDenied", f"Access Denied: {error.detail}")
        case NoSuchUpload():
            return fault("NoSuchUpload", UploadId=str(subject))
        case BucketExists():
            return fault("BucketAlreadyOwnedByYou", BucketName=str(subject))
        case BucketNotEmpty():
            return fault("BucketNotEmpty", BucketName=str(subject))
        case PreconditionFailed():
            return fault(
                "PreconditionFailed", f"At least one of the pre-conditions you specified did not hold: {error.detail}"
            )
        case BadDigest():
            return fault("BadDigest", f"The digest you specified did not match the calculated one: {error.detail}")
        case PartTooSmall():
            return fault(
                "EntityTooSmall", f"Your proposed upload is smaller than the minimum allowed size: {error.detail}"
            )
        case InvalidPart():
            return fault("InvalidPart", f"One or more of the specified parts could not be found: {error.detail}")
        case _:
            return error
