"""Upload an object in parts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any
from urllib.parse import quote

from millrace.ports.objects import NoSuchUpload, ObjectMeta, ObjectStore, PartInfo, UploadInfo
from millrace.protocol.message import Context, Handler, Params, Result
from millrace.services.s3.access import Access
from millrace.services.s3.checksum_params import (
    CHECKSUMS,
    body_digests,
    checksum_members,
    given_checksums,
)
from millrace.services.s3.conditions import told_time
from millrace.services.s3.faults import fault
from millrace.services.s3.listings import page_limit, url_encoder
from millrace.services.s3.object_checks import object_ref, target_conditions
from millrace.services.s3.object_meta import encryption_members, object_meta

__all__ = ["MultipartHandlers", "checksum_plan", "page_uploads"]

MAX_PARTS = 10_000

_FULL, _COMPOSITE = "FULL_OBJECT", "COMPOSITE"
_FULL_ONLY = frozenset({"crc64nvme"})
_EITHER = frozenset({"crc32", "crc32c"})


class MultipartHandlers:
    """The operations on multipart uploads; parts that are copied are in `copies`."""

    def __init__(self, objects: ObjectStore, access: Access) -> None:
        self._objects = objects
        self._access = access

    def table(self) -> Mapping[str, Handler]:
        """Return the handlers by operation."""
        return {
            "AbortMultipartUpload": self.abort,
            "CompleteMultipartUpload": self.complete,
            "CreateMultipartUpload": self.create,
            "ListMultipartUploads": self.list_uploads,
            "ListParts": self.list_parts,
            "UploadPart": self.upload_part,
        }

    async def create(self, ctx: Context, params: Params) -> Result:
        """Begin an upload: all but the bytes of the object is said here."""
        algorithm, kind = checksum_plan(params.get("ChecksumAlgorithm"), params.get("ChecksumType"))
        meta = object_meta(params)
        owner, acl = await self._access.new_object(ctx, params, meta.tags)
        meta = replace(meta, checksum_type=kind, owner=owner, acl=acl)
        upload = await self._objects.create_upload(object_ref(params), meta, checksum_algorithm=algorithm)
        return {
            "Bucket": params["Bucket"],
            "Key": params["Key"],
            "UploadId": upload.upload_id,
            **encryption_members(meta),
            **_plan_members(upload),
        }

    async def upload_part(self, ctx: Context, params: Params) -> Result:
        """Store one part."""
        number = params["PartNumber"]
        if not 1 <= number <= MAX_PARTS:
            raise fault(
                "InvalidArgument",
                f"Part number must be an integer between 1 and {MAX_PARTS}, inclusive, got {number}",
                ArgumentName="partNumber",
                ArgumentValue=str(number),
            )
        digests = body_digests(ctx, params)
        part = await self._objects.put_part(
            object_ref(params),
            params["UploadId"],
            number,
            digests.chunks,
            expect_md5=digests.md5,
            checksums=digests.checksums,
            checksum_algorithms=digests.algorithms,
        )
        return {"ETag": f'"{part.etag}"', **_part_checksums(part)}

    async def complete(self, ctx: Context, params: Params) -> Result:
        """Join the parts that the client names into the object."""
        ref = object_ref(params)
        named = (params.get("MultipartUpload") or {}).get("Parts") or []
        if not named:
            raise fault("MalformedXML")
        numbers = [part.get("PartNumber") for part in named]
        if None in numbers:
            raise fault("MalformedXML")
        if any(later <= earlier for earlier, later in pairwise(numbers)):
            raise fault("InvalidPartOrder", UploadId=params["UploadId"])
        if_none_match, if_match = target_conditions(params)
        await self._check_parts(params, named)
        info = await self._objects.complete_upload(
            ref,
            params["UploadId"],
            [(part["PartNumber"], part.get("ETag") or "") for part in named],
            if_none_match=if_none_match,
            if_match=if_match,
            checksums=given_checksums(params),
        )
        return {
            "Location": f"{ctx.base_url}/{ref.bucket}/{quote(ref.key, safe='/-_.~')}",
            "Bucket": ref.bucket,
            "Key": ref.key,
            "ETag": f'"{info.etag}"',
            **checksum_members(info.meta),
            **encryption_members(info.meta),
        }

    async def _check_parts(self, params: Params, named: Sequence[Mapping[str, Any]]) -> None:
        """Compare the checksums and the size that the client names with those of the stored parts."""
        try:
            stored = await self._objects.list_parts(object_ref(params), params["UploadId"])
        except NoSuchUpload:
            return  # completed already, perhaps by this request before a retry: the store knows
        parts = {part.number: part for part in stored}
        for claim in named:
            part = parts.get(claim["PartNumber"])
            for algorithm, value in given_checksums(claim).items():
                if part is not None and part.checksums.get(algorithm, value) != value:
                    raise fault(
                        "InvalidPart",
                        f"One or more of the specified parts could not be found: part {part.number} has the "
                        f"{algorithm} {part.checksums[algorithm]}, the completion names {value}",
                        PartNumber=str(part.number),
                    )
        size = params.get("MpuObjectSize")
        joined = sum(parts[claim["PartNumber"]].size for claim in named if claim["PartNumber"] in parts)
        if size is not None and size != joined:
            raise fault(
                "InvalidRequest", f"The provided 'x-amz-mp-object-size' header is {size}, the parts have {joined}"
            )

    async def abort(self, ctx: Context, params: Params) -> None:
        """Forget an upload."""
        await self._objects.abort_upload(object_ref(params), params["UploadId"])

    async def list_parts(self, ctx: Context, params: Params) -> Result:
        """List the parts of an upload, in pages."""
        ref = object_ref(params)
        upload = await self._objects.get_upload(ref, params["UploadId"])
        limit, marker = page_limit(params, "MaxParts"), params.get("PartNumberMarker") or 0
        parts = [part for part in await self._objects.list_parts(ref, upload.upload_id) if part.number > marker]
        page = parts[:limit]
        owner = await self._owner(params["Bucket"], upload)
        return {
            "Bucket": ref.bucket,
            "Key": ref.key,
            "UploadId": upload.upload_id,
            "PartNumberMarker": marker,
            "NextPartNumberMarker": page[-1].number if page else 0,
            "MaxParts": limit,
            "IsTruncated": bool(limit) and len(parts) > limit,
            "Parts": [
                {
                    "PartNumber": part.number,
                    "LastModified": told_time(part.modified_at),
                    "ETag": f'"{part.etag}"',
                    "Size": part.size,
                    **_part_checksums(part),
                }
                for part in page
            ],
            "Initiator": owner,
            "Owner": owner,
            "StorageClass": upload.meta.headers.get("x-amz-storage-class", "STANDARD"),
            **_plan_members(upload),
        }

    async def list_uploads(self, ctx: Context, params: Params) -> Result:
        """List the uploads in progress of a bucket, in pages."""
        encode = url_encoder(params)
        limit, prefix = page_limit(params, "MaxUploads"), params.get("Prefix") or ""
        delimiter = params.get("Delimiter") or ""
        key_marker, id_marker = params.get("KeyMarker") or "", params.get("UploadIdMarker") or ""
        uploads = await self._objects.list_uploads(params["Bucket"], prefix=prefix)
        page = page_uploads(
            uploads, prefix=prefix, delimiter=delimiter, key_marker=key_marker, id_marker=id_marker, limit=limit
        )
        chosen = [entry for entry in page.entries if isinstance(entry, UploadInfo)]
        last = page.entries[-1] if page.entries and page.truncated else None
        return {
            "Bucket": params["Bucket"],
            "Prefix": encode(prefix),
            "Delimiter": encode(params.get("Delimiter")),
            "EncodingType": params.get("EncodingType"),
            "KeyMarker": encode(key_marker),
            "UploadIdMarker": id_marker,
            "MaxUploads": limit,
            "IsTruncated": page.truncated,
            "NextKeyMarker": encode(last.ref.key if isinstance(last, UploadInfo) else last),
            "NextUploadIdMarker": last.upload_id if isinstance(last, UploadInfo) else None,
            "Uploads": [
                {
                    "UploadId": upload.upload_id,
                    "Key": encode(upload.ref.key),
                    "Initiated": upload.initiated_at,
                    "StorageClass": upload.meta.headers.get("x-amz-storage-class", "STANDARD"),
                    "Owner": (owner := await self._owner(params["Bucket"], upload)),
                    "Initiator": owner,
                    **_plan_members(upload),
                }
                for upload in chosen
            ],
            "CommonPrefixes": [{"Prefix": encode(entry)} for entry in page.entries if isinstance(entry, str)],
        }

    async def _owner(self, bucket: str, upload: UploadInfo) -> Mapping[str, str]:
        rules = await self._access.rules(bucket)
        return await self._access.owner_members(upload.meta.owner or rules.owner)


@dataclass(frozen=True, slots=True)
class UploadPage:
    """Uploads and common prefixes of one page, in order."""

    entries: Sequence[UploadInfo | str]
    truncated: bool


def page_uploads(
    uploads: Sequence[UploadInfo], *, prefix: str, delimiter: str, key_marker: str, id_marker: str, limit: int
) -> UploadPage:
    """Return a page of uploads after the markers; keys with the delimiter after the prefix fold into one entry.

    Args:
        uploads: In order of key, then of time.
        prefix: All keys start with it.
        delimiter: Empty to fold nothing.
        key_marker: The last key or common prefix of the page before.
        id_marker: The last upload of that key; without one, all uploads of the key are passed over.
        limit: Entries of the page at most.
    """
    entries: list[UploadInfo | str] = []
    passed = not key_marker
    seen_id = False
    for upload in uploads:
        key = upload.ref.key
        if not passed:
            if key == key_marker and id_marker and seen_id:
                pass  # a later upload of the marker's key
            elif key.encode() <= key_marker.encode():
                seen_id = seen_id or (key == key_marker and upload.upload_id == id_marker)
                continue
            else:
                passed = True
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        folded = key[: cut + len(delimiter)] if cut >= 0 else None
        if folded is not None and (folded == key_marker or (entries and entries[-1] == folded)):
            continue
        if len(entries) == limit:
            return UploadPage(entries, truncated=bool(limit))
        entries.append(upload if folded is None else folded)
    return UploadPage(entries, truncated=False)


def checksum_plan(algorithm: str | None, kind: str | None) -> tuple[str | None, str]:
    """Return the checksum algorithm and type of an upload.

    Without an algorithm, each part has S3's own CRC-64/NVME unless its request brings another.

    Source:
        S3 user guide, "Checking object integrity": CRC-64/NVME is FULL_OBJECT only, CRC-32 and CRC-32C are COMPOSITE
        unless asked otherwise, the other algorithms COMPOSITE only.
    """
    if algorithm is None:
        if kind is not None:
            raise fault("InvalidRequest", "The x-amz-checksum-type header can only be used with the "
                        "x-amz-checksum-algorithm header.")  # fmt: skip
        return None, _FULL
    name = algorithm.lower()
    if name not in CHECKSUMS:
        raise fault("InvalidRequest", "Checksum algorithm provided is unsupported. Please try again with any of the "
                    f"valid types: [{', '.join(known.upper() for known in CHECKSUMS)}], got {algorithm!r}")  # fmt: skip
    chosen = kind or (_FULL if name in _FULL_ONLY else _COMPOSITE)
    if (chosen == _FULL) != (name in _FULL_ONLY) and name not in _EITHER:
        raise fault("InvalidRequest", f"The {chosen} checksum type cannot be used with the {name} checksum algorithm.")
    return name, chosen


def _plan_members(upload: UploadInfo) -> dict[str, str]:
    if upload.checksum_algorithm is None:
        return {}
    return {"ChecksumAlgorithm": upload.checksum_algorithm.upper(), "ChecksumType": upload.meta.checksum_type}


def _part_checksums(part: PartInfo) -> dict[str, str]:
    return checksum_members(ObjectMeta(checksums=part.checksums), with_type=False)
