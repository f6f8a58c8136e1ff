"""Put, get, head, delete and describe objects, and their tags."""

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from millrace.errors import ApiError
from millrace.names import ObjectRef
from millrace.ports.objects import ObjectInfo, ObjectStore
from millrace.protocol.message import BodyResult, Context, FileRegion, Handler, Params, Reply, Result
from millrace.services.s3.access import Access
from millrace.services.s3.checksum_params import CHECKSUMS, body_digests, checksum_members
from millrace.services.s3.conditions import Decision, Verdict, decide, told_time
from millrace.services.s3.faults import fault, store_errors
from millrace.services.s3.kept_heads import KeptHeads
from millrace.services.s3.listings import page_limit
from millrace.services.s3.object_checks import check_version, object_ref, target_conditions
from millrace.services.s3.object_meta import described, encryption_members, object_meta, tag_set, tags_of
from millrace.services.s3.permissions import NEEDS
from millrace.services.s3.ranges import ByteRange, Unsatisfiable, parse_range

__all__ = ["ObjectHandlers"]

_MAX_DELETES = 1000
_PLAIN = frozenset({"Bucket", "Key", "ChecksumMode", "ExpectedBucketOwner", "RequestPayer"})
"""Parameters of GetObject that do not change which bytes are sent, or whether."""
_OVERRIDES = ("CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage", "ContentType", "Expires")


class ObjectHandlers:
    """The operations on single objects."""

    def __init__(self, objects: ObjectStore, access: Access) -> None:
        self._objects = objects
        self._access = access
        self._heads = {with_checksums: KeptHeads() for with_checksums in (False, True)}

    def table(self) -> Mapping[str, Handler]:
        """Return the handlers by operation."""
        return {
            "DeleteObject": self.delete_object,
            "DeleteObjectTagging": self.delete_object_tagging,
            "DeleteObjects": self.delete_objects,
            "GetObject": self.get_object,
            "GetObjectAttributes": self.get_object_attributes,
            "GetObjectTagging": self.get_object_tagging,
            "HeadObject": self.head_object,
            "PutObject": self.put_object,
            "PutObjectTagging": self.put_object_tagging,
        }

    async def put_object(self, ctx: Context, params: Params) -> Result:
        """Store an object."""
        ref = object_ref(params)
        meta = object_meta(params)
        if params.get("WriteOffsetBytes") is not None:
            raise fault("NotImplemented", "Appending to an object is for directory buckets; this bucket is none.")
        if_none_match, if_match = target_conditions(params)
        owner, acl = await self._access.new_object(ctx, params, meta.tags)
        digests = body_digests(ctx, params)
        info = await self._objects.put(
            ref,
            digests.chunks,
            replace(meta, checksums=digests.checksums, owner=owner, acl=acl),
            if_none_match=if_none_match,
            if_match=if_match,
            expect_md5=digests.md5,
            checksum_algorithms=digests.algorithms,
        )
        return {"ETag": f'"{info.etag}"', **checksum_members(info.meta), **encryption_members(info.meta)}

    async def get_object(self, ctx: Context, params: Params) -> Result | Reply:
        """Send an object, or a range of it; as a region of its file where it is one."""
        ref = object_ref(params)
        check_version(params)
        local = await self._objects.open_local(ref)
        if local is None:
            info = await self._objects.get(ref)
            chosen = _choose(params, info)
            if isinstance(chosen, Reply):
                return chosen
            return _part_reply(params, info, chosen, self._objects.read(ref, start=chosen.start, length=chosen.length))
        info, path, descriptor = local
        try:
            if params.keys() <= _PLAIN:  # most requests: the whole object, whatever it is
                region = FileRegion(path, 0, info.size, descriptor)
                heads = self._heads[params.get("ChecksumMode") == "ENABLED"]
                whole = ByteRange(0, info.size, info.size)
                return BodyResult(heads.of(info, lambda: _part_result(params, info, whole)), region)
            chosen = _choose(params, info)
            if isinstance(chosen, Reply):
                os.close(descriptor)
                return chosen
            return _part_reply(params, info, chosen, FileRegion(path, chosen.start, chosen.length, descriptor))
        except BaseException:
            os.close(descriptor)  # nobody will send the region, so nobody else closes it
            raise

    async def head_object(self, ctx: Context, params: Params) -> Result | Reply:
        """Tell about an object what GetObject would."""
        check_version(params)
        info = await self._objects.get(object_ref(params))
        chosen = _choose(params, info)
        return chosen if isinstance(chosen, Reply) else _part_reply(params, info, chosen, None)

    async def delete_object(self, ctx: Context, params: Params) -> None:
        """Delete an object; S3 does not mind if there is none."""
        check_version(params)
        ref = object_ref(params)
        condition = params.get("IfMatch")
        if condition is None:
            await self._objects.delete(ref)
            return
        await self._objects.delete(ref, if_match=condition.strip().strip('"'))

    async def delete_objects(self, ctx: Context, params: Params) -> Result:
        """Delete up to a thousand objects; what fails is told key by key."""
        document = params["Delete"]
        named = document.get("Objects") or []
        if not 1 <= len(named) <= _MAX_DELETES:
            raise fault("MalformedXML")
        deleted: list[dict[str, Any]] = []
        errors: list[dict[str, Any]] = []
        rules = await self._access.rules(params["Bucket"])
        for entry in named:
            key = entry["Key"]
            try:
                with store_errors():
                    await self._access.require_need(ctx, rules, NEEDS["DeleteObject"], key, params)
                    check_version(entry)
                    if_match = (entry.get("ETag") or "").strip('"') or None
                    await self._objects.delete(ObjectRef(params["Bucket"], key), if_match=if_match)
            except ApiError as error:
                errors.append({"Key": key, "Code": error.wire_code, "Message": error.message})
            else:
                deleted.append({"Key": key})
        return {"Deleted": [] if document.get("Quiet") else deleted, "Errors": errors}

    async def get_object_attributes(self, ctx: Context, params: Params) -> Result:
        """Tell the attributes that the client asks for."""
        check_version(params)
        info = await self._objects.get(object_ref(params))
        asked = set(params["ObjectAttributes"])
        result: dict[str, Any] = {"LastModified": told_time(info.modified_at)}
        if "ETag" in asked:
            result["ETag"] = info.etag  # without quotes, unlike everywhere else
        if "ObjectSize" in asked:
            result["ObjectSize"] = info.size
        if "StorageClass" in asked:
            result["StorageClass"] = info.meta.headers.get("x-amz-storage-class", "STANDARD")
        if "Checksum" in asked and info.meta.checksums:
            result["Checksum"] = checksum_members(info.meta)
        if "ObjectParts" in asked and info.part_sizes:
            result["ObjectParts"] = _parts_page(params, info)
        return result

    async def get_object_tagging(self, ctx: Context, params: Params) -> Result:
        """Tell an object's tags."""
        check_version(params)
        info = await self._objects.get(object_ref(params))
        return {"TagSet": tag_set(info.meta.tags)}

    async def put_object_tagging(self, ctx: Context, params: Params) -> None:
        """Replace an object's tags."""
        await self._put_tags(params, tags_of(params["Tagging"]))

    async def delete_object_tagging(self, ctx: Context, params: Params) -> None:
        """Remove an object's tags."""
        await self._put_tags(params, {})

    async def _put_tags(self, params: Params, tags: Mapping[str, str]) -> None:
        check_version(params)
        await self._objects.update_meta(object_ref(params), lambda meta: replace(meta, tags=tags))


def _parts_page(params: Params, info: ObjectInfo) -> dict[str, Any]:
    """Return the parts of an object that the client asks for, after a marker."""
    limit, marker = page_limit(params, "MaxParts"), params.get("PartNumberMarker") or 0
    count = len(info.part_sizes)
    numbers = range(marker + 1, min(count, marker + limit) + 1)
    algorithm = next(iter(info.meta.checksums), None)
    parts: list[dict[str, Any]] = [{"PartNumber": number, "Size": info.part_sizes[number - 1]} for number in numbers]
    if algorithm is not None and info.part_checksums:
        for part in parts:
            part[CHECKSUMS[algorithm][0]] = info.part_checksums[part["PartNumber"] - 1]
    return {
        "TotalPartsCount": count,
        "PartNumberMarker": marker,
        "NextPartNumberMarker": numbers[-1] if numbers else 0,
        "MaxParts": limit,
        "IsTruncated": bool(numbers) and numbers[-1] < count,
        "Parts": parts,
    }


def _choose(params: Params, info: ObjectInfo) -> ByteRange | Reply:
    """Decide conditions and range of a read; a Reply answers at once."""
    decision = decide(params, info.etag, info.modified_at)
    if decision.verdict is Verdict.FAILED:
        raise fault("PreconditionFailed", Condition=decision.condition)
    if decision.verdict is Verdict.NOT_MODIFIED:
        return _not_modified(info, decision)
    number = params.get("PartNumber")
    if number is not None:
        if params.get("Range") is not None:
            raise fault("InvalidRequest", "Cannot specify both Range header and partNumber query parameter")
        return _part_range(info, number)
    try:
        chosen = parse_range(params.get("Range"), info.size)
    except Unsatisfiable:
        raise fault("InvalidRange", RangeRequested=params["Range"], ActualObjectSize=str(info.size)) from None
    return chosen or ByteRange(0, info.size, info.size)


def _not_modified(info: ObjectInfo, decision: Decision) -> Reply:
    """Answer 304 with the headers that RFC 9110 15.4.5 asks for."""
    headers = [("ETag", f'"{info.etag}"')]
    headers += [(name, info.meta.headers[name]) for name in ("cache-control", "expires") if name in info.meta.headers]
    return Reply(result={"LastModified": told_time(info.modified_at)}, status=304, headers=tuple(headers))


def _part_range(info: ObjectInfo, number: int) -> ByteRange:
    sizes = info.part_sizes or (info.size,)
    if not 1 <= number <= len(sizes):
        raise fault("InvalidPartNumber", PartNumberRequested=str(number), ActualPartCount=str(len(sizes)))
    return ByteRange(sum(sizes[: number - 1]), sizes[number - 1], info.size)


def _part_reply(params: Params, info: ObjectInfo, chosen: ByteRange, body: Any) -> Result | Reply:
    result = _part_result(params, info, chosen)
    if body is not None:
        result["Body"] = body
    partial = (params.get("PartNumber") is not None or chosen.length < info.size or _asks_range(params)) and info.size
    if not partial:
        return result
    return Reply(result={**result, "ContentRange": str(chosen)}, status=206)


def _part_result(params: Params, info: ObjectInfo, chosen: ByteRange) -> dict[str, Any]:
    result = {**described(info), "ContentLength": chosen.length}
    for member in _OVERRIDES:
        if (override := params.get(f"Response{member}")) is not None:
            result[member] = override
    if params.get("PartNumber") is not None and info.part_sizes:
        result["PartsCount"] = len(info.part_sizes)
    # Else a checksum is the whole object's: the client would compare it with the range.
    if params.get("ChecksumMode") == "ENABLED":
        if chosen.length == info.size:
            result |= checksum_members(info.meta)
        elif params.get("PartNumber") is not None and info.part_checksums:
            algorithm = next(iter(info.meta.checksums))
            value = info.part_checksums[params["PartNumber"] - 1]
            result |= {CHECKSUMS[algorithm][0]: value, "ChecksumType": info.meta.checksum_type}
    return result


def _asks_range(params: Params) -> bool:
    """Tell whether the Range header is one that is obeyed: even one over all bytes is answered with 206."""
    return parse_range(params.get("Range"), 1 << 62) is not None
