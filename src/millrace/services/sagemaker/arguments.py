"""Turn parts of requests into our own values; errors name the member, the rule and the value."""

from collections.abc import Mapping
from typing import Any

from millrace.errors import ValidationError
from millrace.jobs.channel import Channel, ChannelSource
from millrace.names import ObjectPrefix, ObjectRef
from millrace.ports.objects import NoSuchBucket, ObjectStore, ObjectStoreError

__all__ = ["no_objects_error", "object_prefix", "refuse_members", "require_bucket", "require_objects"]


def object_prefix(uri: str, member: str) -> ObjectPrefix:
    """Parse an S3 URI (`https://` forms are refused, for no such host is ours)."""
    try:
        return ObjectPrefix.parse(uri)
    except ValueError:
        raise ValidationError(f"{member}: expected s3://bucket/prefix, got {uri!r}") from None


async def require_bucket(objects: ObjectStore, prefix: ObjectPrefix, member: str) -> None:
    """Refuse a URI whose bucket does not exist."""
    try:
        await objects.get_bucket(prefix.bucket)
    except NoSuchBucket:
        raise ValidationError(f"{member}: the bucket {prefix.bucket!r} does not exist") from None


def no_objects_error(uri: str, region: str, role: str, bucket: str) -> ValidationError:
    """Return the service's own error for an input without objects."""
    return ValidationError(
        f'No S3 objects found under S3 URL "{uri}" given in input data source. Please ensure that the bucket exists '
        f"in the selected region ({region}), that objects exist under that S3 prefix, and that the role "
        f'"{role}" has "s3:ListBucket" permissions on bucket "{bucket}".'
    )


async def require_objects(objects: ObjectStore, channel: Channel, *, region: str, role: str) -> None:
    """Refuse a channel that has nothing to read.

    Source:
        containers.md 2.5.2: the create call itself fails.
    """
    if not await _has_objects(objects, channel):
        raise no_objects_error(str(channel.source), region, role, channel.source.bucket)


async def _has_objects(objects: ObjectStore, channel: Channel) -> bool:
    source = channel.source
    try:
        if channel.source_type is ChannelSource.MANIFEST:
            await objects.get(ObjectRef(source.bucket, source.prefix))
            return True
        after = ""
        while True:
            page = await objects.list_objects(source.bucket, prefix=source.prefix, after=after, limit=100)
            if any(not info.ref.key.endswith("/") for info in page.objects):
                return True
            if page.next_after is None:
                return False
            after = page.next_after
    except ObjectStoreError:
        return False


def environment(params: Mapping[str, Any], member: str = "environment") -> dict[str, str]:
    """Return the variables of a request; no process can be given one whose value holds a NUL."""
    variables = dict(params.get("Environment") or {})
    for name, value in variables.items():
        if "\0" in value:
            place = value.index("\0")  # not the value: it may be a secret
            raise ValidationError(
                f"{member}.{name}: the value of a variable must not contain a NUL, got one at position {place}"
            )
    return variables


def refuse_members(params: Mapping[str, Any], members: Mapping[str, str]) -> None:
    """Refuse members that we don't serve, rather than ignore what the client asked for."""
    for member, why in members.items():
        if params.get(member):
            raise ValidationError(f"{member} is not supported by Millrace yet: {why}")
