"""An object store in memory that keeps the whole contract of the port."""

import asyncio
import base64
import hashlib
import zlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NoReturn

from awscrt import checksums as crt

from millrace.names import ObjectRef
from millrace.ports.objects import (
    BadDigest,
    BucketExists,
    BucketInfo,
    BucketNotEmpty,
    BucketState,
    InvalidPart,
    ListPage,
    NoSuchBucket,
    NoSuchKey,
    NoSuchUpload,
    ObjectInfo,
    ObjectMeta,
    PartInfo,
    PartTooSmall,
    PreconditionFailed,
    SmallObjects,
    UploadInfo,
)
from millrace.testing.drafts import MemoryDrafts, MemoryResumableWriter

__all__ = ["MemoryObjects"]

MIN_PART_BYTES = 5 * 1024 * 1024

_DIGESTS: Mapping[str, Callable[[bytes], bytes]] = {
    "crc32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
    "crc32c": lambda data: crt.crc32c(data).to_bytes(4, "big"),
    "crc64nvme": lambda data: crt.crc64nvme(data).to_bytes(8, "big"),
    "sha1": lambda data: hashlib.sha1(data, usedforsecurity=False).digest(),
    "sha256": lambda data: hashlib.sha256(data).digest(),
}


class MemoryObjects:
    """Buckets are dictionaries. `chunk_bytes` is the longest chunk of a read.

    `open_writers` counts unfinished writers that are not resumable; `drafts` tells of the others.
    """

    def __init__(self, *, chunk_bytes: int = 1024 * 1024) -> None:
        self._chunk_bytes = chunk_bytes
        self._buckets: dict[str, BucketInfo] = {}
        self._documents: dict[tuple[str, str], str] = {}
        self._objects: dict[ObjectRef, tuple[ObjectInfo, bytes]] = {}
        self._uploads: dict[str, UploadInfo] = {}
        self._parts: dict[str, dict[int, tuple[PartInfo, bytes]]] = {}
        self.open_writers = 0
        self.drafts = MemoryDrafts()

    # -- for tests

    def add(self, uri: str, data: bytes) -> ObjectRef:
        """Store an object, and make its bucket if need be."""
        ref = ObjectRef.parse(uri)
        self._buckets.setdefault(ref.bucket, _bucket(ref.bucket, "us-east-1", "000000000000"))
        self._store(ref, data, _md5(data), ObjectMeta())
        return ref

    def data(self, uri: str) -> bytes:
        """Return an object's bytes; raises NoSuchKey."""
        return self._find(ObjectRef.parse(uri))[1]

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        """Return the keys in a bucket, sorted."""
        found = (ref.key for ref in self._objects if ref.bucket == bucket and ref.key.startswith(prefix))
        return sorted(found, key=str.encode)

    # -- buckets

    async def create_bucket(self, name: str, *, region: str, owner: str) -> BucketInfo:
        if name in self._buckets:
            raise BucketExists(name)
        self._buckets[name] = _bucket(name, region, owner)
        return self._buckets[name]

    async def delete_bucket(self, name: str) -> None:
        self._check_bucket(name)
        if self.keys(name):
            raise BucketNotEmpty(name)
        del self._buckets[name]
        self._documents = {key: text for key, text in self._documents.items() if key[0] != name}
        self._uploads = {key: upload for key, upload in self._uploads.items() if upload.ref.bucket != name}

    async def get_bucket(self, name: str) -> BucketInfo:
        self._check_bucket(name)
        return self._buckets[name]

    async def list_buckets(self) -> list[BucketInfo]:
        return [self._buckets[name] for name in sorted(self._buckets)]

    async def get_bucket_state(self, name: str) -> BucketState:
        self._check_bucket(name)
        documents = {kind: text for (bucket, kind), text in self._documents.items() if bucket == name}
        return BucketState(info=self._buckets[name], documents=documents)

    async def get_bucket_document(self, name: str, kind: str) -> str | None:
        self._check_bucket(name)
        return self._documents.get((name, kind))

    async def put_bucket_document(self, name: str, kind: str, text: str | None) -> None:
        self._check_bucket(name)
        if text is None:
            self._documents.pop((name, kind), None)
        else:
            self._documents[name, kind] = text

    # -- objects

    async def get(self, ref: ObjectRef) -> ObjectInfo:
        return self._find(ref)[0]

    async def read(self, ref: ObjectRef, *, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        data = self._find(ref)[1]
        end = len(data) if length is None else min(len(data), start + length)
        for position in range(start, end, self._chunk_bytes):
            yield data[position : min(end, position + self._chunk_bytes)]
            await asyncio.sleep(0)  # as a store that does I/O would

    async def open_local(self, ref: ObjectRef) -> tuple[ObjectInfo, Path, int] | None:
        self._find(ref)
        return None

    def small_objects(self) -> SmallObjects | None:
        return None

    async def open_writer(self, ref: ObjectRef, meta: ObjectMeta | None = None) -> "_MemoryWriter":
        self._check_ref(ref)
        self.open_writers += 1
        return _MemoryWriter(self, ref, meta or ObjectMeta())

    async def open_resumable(
        self, ref: ObjectRef, meta: ObjectMeta | None = None, *, draft: str, at: int
    ) -> MemoryResumableWriter:
        self._check_ref(ref)
        return self.drafts.open(ref, draft, at, partial(self._store_output, ref, meta or ObjectMeta()))

    async def discard_draft(self, bucket: str, draft: str) -> None:
        self._check_bucket(bucket)
        self.drafts.discard(bucket, draft)

    async def read_draft(self, bucket: str, draft: str, *, length: int) -> AsyncIterator[bytes]:
        self._check_bucket(bucket)
        data = self.drafts.read(bucket, draft, length)
        for position in range(0, length, self._chunk_bytes):
            yield data[position : position + self._chunk_bytes]
            await asyncio.sleep(0)

    async def put(
        self,
        ref: ObjectRef,
        chunks: AsyncIterable[bytes],
        meta: ObjectMeta | None = None,
        *,
        if_none_match: str | None = None,
        if_match: str | None = None,
        expect_md5: bytes | None = None,
        checksum_algorithms: Sequence[str] = (),
    ) -> ObjectInfo:
        self._check_ref(ref)
        data = b"".join([chunk async for chunk in chunks])
        meta = meta or ObjectMeta()
        checksums = _verified(ref, data, expect_md5, meta.checksums, checksum_algorithms)
        self._check_conditions(ref, if_none_match=if_none_match, if_match=if_match)
        return self._store(ref, data, _md5(data), replace(meta, checksums=checksums))

    async def update_meta(self, ref: ObjectRef, change: Callable[[ObjectMeta], ObjectMeta]) -> None:
        info, data = self._find(ref)
        self._objects[ref] = (replace(info, meta=change(info.meta)), data)

    async def copy(
        self,
        source: ObjectRef,
        target: ObjectRef,
        meta: ObjectMeta | None = None,
        *,
        if_none_match: str | None = None,
        if_match: str | None = None,
    ) -> ObjectInfo:
        info, data = self._find(source)
        self._check_ref(target)
        self._check_conditions(target, if_none_match=if_none_match, if_match=if_match)
        return self._store(target, data, info.etag, replace(info.meta if meta is None else meta, origin=""))

    async def delete(self, ref: ObjectRef, *, if_match: str | None = None) -> bool:
        self._check_ref(ref)
        self._check_conditions(ref, if_none_match=None, if_match=if_match)
        return self._objects.pop(ref, None) is not None

    async def list_objects(
        self, bucket: str, *, prefix: str = "", after: str = "", delimiter: str = "", limit: int = 1000
    ) -> ListPage:
        self._check_bucket(bucket)
        objects: list[ObjectInfo] = []
        prefixes: list[str] = []
        last = ""
        for key in self.keys(bucket, prefix):
            end = key.find(delimiter, len(prefix)) if delimiter else -1
            folder = key[: end + len(delimiter)] if end >= 0 else None
            name = folder or key
            skipped = (
                name.encode() <= after.encode() if folder is None or folder == after else key.encode() <= after.encode()
            )
            if skipped or (folder is not None and (folder == last or (after == folder))):
                continue
            if len(objects) + len(prefixes) >= limit:
                return ListPage(objects=objects, common_prefixes=prefixes, next_after=last)
            if folder is not None:
                prefixes.append(folder)
            else:
                objects.append(self._objects[ObjectRef(bucket, key)][0])
            last = name
        return ListPage(objects=objects, common_prefixes=prefixes)

    # -- multipart uploads

    async def create_upload(
        self, ref: ObjectRef, meta: ObjectMeta | None = None, *, checksum_algorithm: str | None = None
    ) -> UploadInfo:
        self._check_ref(ref)
        upload = UploadInfo(
            ref=ref,
            upload_id=f"upload-{len(self._parts) + 1}",
            initiated_at=datetime.now(UTC),
            meta=meta or ObjectMeta(),
            checksum_algorithm=checksum_algorithm,
        )
        self._uploads[upload.upload_id] = upload
        self._parts[upload.upload_id] = {}
        return upload

    async def get_upload(self, ref: ObjectRef, upload_id: str) -> UploadInfo:
        upload = self._uploads.get(upload_id)
        if upload is None or upload.ref != ref:
            raise NoSuchUpload(upload_id)
        return upload

    async def list_uploads(self, bucket: str, *, prefix: str = "") -> list[UploadInfo]:
        self._check_bucket(bucket)
        found = [up for up in self._uploads.values() if up.ref.bucket == bucket and up.ref.key.startswith(prefix)]
        return sorted(found, key=lambda upload: (upload.ref.key.encode(), upload.initiated_at))

    async def put_part(
        self,
        ref: ObjectRef,
        upload_id: str,
        number: int,
        chunks: AsyncIterable[bytes],
        *,
        expect_md5: bytes | None = None,
        checksums: Mapping[str, str] | None = None,
        checksum_algorithms: Sequence[str] = (),
    ) -> PartInfo:
        upload = await self.get_upload(ref, upload_id)
        data = b"".join([chunk async for chunk in chunks])
        wanted = [upload.checksum_algorithm] if upload.checksum_algorithm else list(checksum_algorithms)
        part = PartInfo(
            number=number,
            size=len(data),
            etag=_md5(data),
            modified_at=datetime.now(UTC),
            checksums=_verified(ref, data, expect_md5, checksums or {}, wanted),
        )
        self._parts[upload_id][number] = (part, data)
        return part

    async def list_parts(self, ref: ObjectRef, upload_id: str) -> list[PartInfo]:
        await self.get_upload(ref, upload_id)
        return [self._parts[upload_id][number][0] for number in sorted(self._parts[upload_id])]

    async def complete_upload(
        self,
        ref: ObjectRef,
        upload_id: str,
        parts: Sequence[tuple[int, str]],
        *,
        if_none_match: str | None = None,
        if_match: str | None = None,
        checksums: Mapping[str, str] | None = None,
    ) -> ObjectInfo:
        upload = await self.get_upload(ref, upload_id)
        chosen = [self._chosen_part(upload_id, number, etag) for number, etag in parts]
        if not chosen:
            raise InvalidPart(upload_id, "no part is named")
        for part, _ in chosen[:-1]:
            if part.size < MIN_PART_BYTES:
                raise PartTooSmall(part.number, f"{part.size} bytes")
        data = b"".join(part_data for _, part_data in chosen)
        meta = upload.meta
        if upload.checksum_algorithm and meta.checksum_type == "COMPOSITE":
            digests = b"".join(_digest(upload.checksum_algorithm, part_data) for _, part_data in chosen)
            value = _encoded(_digest(upload.checksum_algorithm, digests)) + f"-{len(chosen)}"
            meta = replace(meta, checksums={upload.checksum_algorithm: value})
        elif upload.checksum_algorithm:
            meta = replace(
                meta, checksums={upload.checksum_algorithm: _encoded(_digest(upload.checksum_algorithm, data))}
            )
        for algorithm, value in (checksums or {}).items():
            if meta.checksums.get(algorithm, value) != value:
                raise BadDigest(ref, algorithm)
        self._check_conditions(ref, if_none_match=if_none_match, if_match=if_match)
        md5s = b"".join(bytes.fromhex(part.etag) for part, _ in chosen)
        await self.abort_upload(ref, upload_id)
        return self._store(ref, data, f"{_md5(md5s)}-{len(chosen)}", meta)

    async def abort_upload(self, ref: ObjectRef, upload_id: str) -> None:
        await self.get_upload(ref, upload_id)
        del self._uploads[upload_id]
        self._parts[upload_id] = {}

    # -- within

    def _chosen_part(self, upload_id: str, number: int, etag: str) -> tuple[PartInfo, bytes]:
        found = self._parts[upload_id].get(number)
        if found is None or found[0].etag != etag.strip('"'):
            raise InvalidPart(number, etag)
        return found

    def _store(self, ref: ObjectRef, data: bytes, etag: str, meta: ObjectMeta) -> ObjectInfo:
        info = ObjectInfo(ref=ref, size=len(data), etag=etag, modified_at=datetime.now(UTC), meta=meta)
        self._objects[ref] = (info, data)
        return info

    def _store_output(self, ref: ObjectRef, meta: ObjectMeta, data: bytes, origin: str) -> ObjectInfo:
        return self._store(ref, data, f"{zlib.crc32(data):032x}-1", replace(meta, origin=origin or meta.origin))

    def _find(self, ref: ObjectRef) -> tuple[ObjectInfo, bytes]:
        self._check_bucket(ref.bucket)
        found = self._objects.get(ref)
        if found is None:
            raise NoSuchKey(ref)
        return found

    def _check_bucket(self, name: str) -> None:
        if name not in self._buckets:
            raise NoSuchBucket(name)

    def _check_ref(self, ref: ObjectRef) -> None:
        self._check_bucket(ref.bucket)
        if not 1 <= len(ref.key.encode()) <= 1024:
            raise ValueError(f"a key must have 1 to 1024 bytes of UTF-8, got {len(ref.key.encode())}")

    def _check_conditions(self, ref: ObjectRef, *, if_none_match: str | None, if_match: str | None) -> None:
        found = self._objects.get(ref)
        if found is not None and if_none_match in ("*", found[0].etag):
            raise PreconditionFailed(ref, "If-None-Match")
        if if_match is not None:
            if found is None:
                raise NoSuchKey(ref)
            if if_match not in ("*", found[0].etag):
                raise PreconditionFailed(ref, "If-Match")


class _MemoryWriter:
    """Collects chunks; `commit` stores them."""

    def __init__(self, store: MemoryObjects, ref: ObjectRef, meta: ObjectMeta) -> None:
        self._store = store
        self._ref = ref
        self._meta = meta
        self._chunks: list[bytes] = []
        self._open = True

    async def write(self, chunk: bytes | memoryview) -> None:
        if not self._open:
            self._refuse()
        self._chunks.append(bytes(chunk))

    async def commit(self, *, origin: str = "") -> ObjectInfo:
        if not self._open:
            self._refuse()
        self._close()
        return self._store._store_output(self._ref, self._meta, b"".join(self._chunks), origin)

    async def abort(self) -> None:
        self._close()

    def _close(self) -> None:
        self._store.open_writers -= self._open
        self._open = False

    def _refuse(self) -> NoReturn:
        raise RuntimeError(f"the writer of {self._ref} is closed")


def _bucket(name: str, region: str, owner: str) -> BucketInfo:
    return BucketInfo(name=name, region=region, owner=owner, created_at=datetime.now(UTC))


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _digest(algorithm: str, data: bytes) -> bytes:
    if algorithm not in _DIGESTS:
        raise ValueError(f"a checksum algorithm must be one of {', '.join(sorted(_DIGESTS))}, got {algorithm!r}")
    return _DIGESTS[algorithm](data)


def _encoded(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def _verified(
    ref: ObjectRef, data: bytes, expect_md5: bytes | None, expected: Mapping[str, str], algorithms: Sequence[str]
) -> dict[str, str]:
    """Return the checksums of the data; raises BadDigest where one is not as expected."""
    if expect_md5 is not None and hashlib.md5(data, usedforsecurity=False).digest() != expect_md5:
        raise BadDigest(ref, "md5")
    checksums = {name: _encoded(_digest(name, data)) for name in (*expected, *algorithms)}
    for name, value in expected.items():
        if checksums[name] != value:
            raise BadDigest(ref, name)
    return checksums
