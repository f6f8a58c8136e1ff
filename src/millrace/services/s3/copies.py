"""Copy objects, whole or in parts, on the server's side."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from millrace.names import ObjectRef
from millrace.ports.objects import ObjectInfo, ObjectMeta, ObjectStore
from millrace.protocol.message import Context, Handler, Params, Result
from millrace.services.s3.access import Access
from millrace.services.s3.checksum_params import CHECKSUMS, DEFAULT_ALGORITHM, checksum_members
from millrace.services.s3.conditions import Verdict, decide, told_time
from millrace.services.s3.faults import fault
from millrace.services.s3.object_checks import check_version, object_ref, target_conditions
from millrace.services.s3.object_meta import encryption_members, object_meta, refuse_unkept
from millrace.services.s3.ranges import Unsatisfiable, parse_position, parse_range

__all__ = ["CopyHandlers", "parse_copy_source"]

_ENCRYPTION = ("ServerSideEncryption", "SSEKMSKeyId", "SSEKMSEncryptionContext", "BucketKeyEnabled")


class CopyHandlers:
    """CopyObject and UploadPartCopy."""

    def __init__(self, objects: ObjectStore, access: Access) -> None:
        self._objects = objects
        self._access = access

    def table(self) -> Mapping[str, Handler]:
        """Return the handlers by operation."""
        return {"CopyObject": self.copy_object, "UploadPartCopy": self.upload_part_copy}

    async def copy_object(self, ctx: Context, params: Params) -> Result:
        """Copy an object; its metadata and tags come along unless the client replaces them."""
        target = object_ref(params)
        source = await self._source(ctx, params)
        replaces_meta = params.get("MetadataDirective") == "REPLACE"
        changes = [name for name in ("StorageClass", "WebsiteRedirectLocation", *_ENCRYPTION) if params.get(name)]
        if source.ref == target and not replaces_meta and not changes:
            raise fault(
                "InvalidRequest",
                "This copy request is illegal because it is trying to copy an object to itself without changing the "
                "object's metadata, storage class, website redirect location or encryption attributes.",
            )
        if_none_match, if_match = target_conditions(params)
        meta = _copied_meta(source, params, replaces_meta=replaces_meta)
        if meta.tags and params.get("TaggingDirective") != "REPLACE":
            await self._access.require_source_tags(ctx, source.ref)
        owner, acl = await self._access.new_object(ctx, params, meta.tags)
        meta = replace(meta, owner=owner, acl=acl)
        algorithm = (params.get("ChecksumAlgorithm") or "").lower()
        if algorithm in CHECKSUMS and algorithm not in source.meta.checksums:
            # Another checksum takes a reading of all bytes anyway: store them anew.
            info = await self._objects.put(
                target,
                self._objects.read(source.ref),
                replace(meta, checksums={}, checksum_type="FULL_OBJECT"),
                if_none_match=if_none_match,
                if_match=if_match,
                checksum_algorithms=[algorithm],
            )
        else:
            info = await self._objects.copy(source.ref, target, meta, if_none_match=if_none_match, if_match=if_match)
        copied = {
            "ETag": f'"{info.etag}"',
            "LastModified": told_time(info.modified_at),
            **checksum_members(info.meta),
        }
        return {"CopyObjectResult": copied, **encryption_members(info.meta)}

    async def upload_part_copy(self, ctx: Context, params: Params) -> Result:
        """Copy an object or a range of it as a part of a multipart upload."""
        refuse_unkept(params)
        target = object_ref(params)
        source = await self._source(ctx, params)
        upload = await self._objects.get_upload(target, params["UploadId"])
        chunks = self._range(source, params.get("CopySourceRange"))
        algorithms = [upload.checksum_algorithm or DEFAULT_ALGORITHM]
        part = await self._objects.put_part(
            target, upload.upload_id, params["PartNumber"], chunks, checksum_algorithms=algorithms
        )
        copied = {
            "ETag": f'"{part.etag}"',
            "LastModified": told_time(part.modified_at),
            **checksum_members(ObjectMeta(checksums=part.checksums), with_type=False),
        }
        return {"CopyPartResult": copied, **encryption_members(upload.meta)}

    def _range(self, source: ObjectInfo, text: str | None) -> AsyncIterator[bytes]:
        if text is None:
            return self._objects.read(source.ref)
        try:
            chosen = parse_range(text, source.size)
        except Unsatisfiable:
            chosen = None
        # "The range must be within the source": unlike a GetObject, one that reaches over the end is refused.
        last = text.rpartition("-")[2]
        if chosen is None or not last.isdigit() or parse_position(last) >= source.size or text.startswith("bytes=-"):
            raise fault(
                "InvalidArgument",
                f"The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the "
                f"zero-based offsets of the first and last bytes to copy, within the source of {source.size} bytes; "
                f"got {text!r}",
                ArgumentName="x-amz-copy-source-range",
                ArgumentValue=text,
            )
        return self._objects.read(source.ref, start=chosen.start, length=chosen.length)

    async def _source(self, ctx: Context, params: Params) -> ObjectInfo:
        ref = parse_copy_source(params["CopySource"])
        await self._access.require_source(ctx, ref, params)
        info = await self._objects.get(ref)
        decision = decide(params, info.etag, info.modified_at, prefix="CopySource")
        if decision.verdict is not Verdict.PROCEED:  # "Amazon S3 returns the 412 Precondition Failed response code"
            raise fault("PreconditionFailed", Condition=f"x-amz-copy-source-{decision.condition.lower()}")
        return info


def parse_copy_source(text: str) -> ObjectRef:
    """Return the object that an x-amz-copy-source header names: bucket/key, percent-encoded, maybe with a version."""
    path, _, version = text.partition("?versionId=")
    check_version({"VersionId": version})
    try:
        bucket, _, key = unquote(path, errors="strict").removeprefix("/").partition("/")
    except UnicodeDecodeError:
        bucket = key = ""
    if not bucket or not key:
        raise fault(
            "InvalidArgument",
            f"Copy Source must mention the source bucket and key: sourcebucket/sourcekey, got {text!r}",
            ArgumentName="x-amz-copy-source",
            ArgumentValue=text,
        )
    return ObjectRef(bucket, key)


def _copied_meta(source: ObjectInfo, params: Params, *, replaces_meta: bool) -> ObjectMeta:
    given = object_meta(params)
    encryption: dict[str, Any] = {name: value for name, value in given.headers.items() if name.startswith("x-amz-")}
    if replaces_meta:
        kept: Mapping[str, str] = given.headers
        user = given.user
    else:
        # "The object metadata is copied"; storage class and encryption are the request's, never the source's.
        kept = {name: value for name, value in source.meta.headers.items() if not name.startswith("x-amz-")}
        kept = {**kept, **encryption}
        user = source.meta.user
    return replace(
        source.meta,
        headers=kept,
        user=user,
        tags=given.tags if params.get("TaggingDirective") == "REPLACE" else source.meta.tags,
        origin="",
    )
