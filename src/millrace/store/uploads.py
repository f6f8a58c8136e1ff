"""Keep the parts of multipart uploads until they are joined.

An upload is a folder `uploads/<id>` in the bucket's private folder: `upload.json` says what it is for, `00001` to
`10000` are its parts, `tmp` holds parts being written. Parts need not survive a power failure by themselves: the joined
file is made durable as a whole.
"""

# Paths are bytes here, as keys are, and pathlib knows only text.
# ruff: noqa: PTH105, PTH116, PTH208

import os
import re
import secrets
import shutil
from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from millrace.clock import Clock
from millrace.names import ObjectRef
from millrace.ports.objects import BadDigest, InvalidPart, NoSuchUpload, ObjectMeta, PartInfo, PartTooSmall, UploadInfo
from millrace.store.bucket_folder import BucketFolder
from millrace.store.checksums import JOINABLE, Digests, composite, join_full_object, multipart_etag
from millrace.store.draft import Draft, copy_bytes, receive, verify_digests
from millrace.store.facts import Facts

__all__ = ["MAX_PARTS", "Uploads"]

MAX_PARTS = 10_000

_DEFAULT_ALGORITHM = "crc64nvme"
_UPLOAD_ID = re.compile(r"[0-9a-f]{48}")
_PART = re.compile(r"[0-9]{5}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Uploads:
    """Multipart uploads of any bucket.

    `batch_bytes` are hashed and written at a time; `min_part_bytes` is the least size of every part but the last.
    """

    batch_bytes: int
    durable: bool
    min_part_bytes: int
    clock: Clock

    def create(
        self, bucket: BucketFolder, ref: ObjectRef, meta: ObjectMeta, checksum_algorithm: str | None
    ) -> UploadInfo:
        """Begin an upload."""
        upload = UploadInfo(
            ref=ref,
            upload_id=secrets.token_hex(24),
            initiated_at=self.clock.now(),
            meta=meta,
            checksum_algorithm=checksum_algorithm,
        )
        document = {
            "key": ref.key,
            "initiated": upload.initiated_at.isoformat(),
            "headers": dict(meta.headers),
            "user": dict(meta.user),
            "tags": dict(meta.tags),
            "checksum_type": meta.checksum_type,
            "checksum_algorithm": checksum_algorithm,
            "owner": meta.owner,
            "acl": meta.acl,
        }
        folder = bucket.private / "uploads" / upload.upload_id
        folder.mkdir(parents=True)
        (folder / "upload.new").write_bytes(orjson.dumps(document))
        (folder / "upload.new").replace(folder / "upload.json")
        return upload

    def get(self, bucket: BucketFolder, ref: ObjectRef, upload_id: str) -> UploadInfo:
        """Return an upload in progress; raises NoSuchUpload."""
        upload = self._find(bucket, upload_id)
        if upload is None or upload.ref != ref:
            raise NoSuchUpload(upload_id, str(ref))
        return upload

    def list_all(self, bucket: BucketFolder, prefix: str) -> list[UploadInfo]:
        """Return uploads in progress by key, then by time."""
        try:
            names = os.listdir(bucket.private / "uploads")
        except FileNotFoundError:
            return []
        found = [upload for name in names if (upload := self._find(bucket, name)) is not None]
        chosen = [upload for upload in found if upload.ref.key.startswith(prefix)]
        return sorted(chosen, key=lambda upload: (upload.ref.key.encode(), upload.initiated_at, upload.upload_id))

    async def put_part(
        self,
        bucket: BucketFolder,
        ref: ObjectRef,
        upload_id: str,
        number: int,
        chunks: AsyncIterable[bytes],
        *,
        expect_md5: bytes | None,
        checksums: Mapping[str, str],
        checksum_algorithms: Sequence[str],
    ) -> PartInfo:
        """Store one part, replacing an older one of that number."""
        if not 1 <= number <= MAX_PARTS:
            raise ValueError(f"a part's number must be between 1 and {MAX_PARTS}, got {number}")
        upload = self.get(bucket, ref, upload_id)
        algorithms = {*checksums, *checksum_algorithms, upload.checksum_algorithm} - {None}
        folder = self._folder(bucket, upload_id)
        draft = Draft(bucket, Digests(name for name in algorithms if name), folder=folder / "tmp")
        try:
            await receive(draft, chunks, batch_bytes=self.batch_bytes)
            md5, values = verify_digests(draft, ref, expect_md5=expect_md5, expected=checksums)
            bucket.facts.write(draft.descriptor, Facts(etag=md5.hex(), meta=ObjectMeta(checksums=values)))
            try:
                os.replace(draft.path, folder / f"{number:05}")
            except FileNotFoundError:  # completed or aborted meanwhile
                raise NoSuchUpload(upload_id, str(ref)) from None
            return _part(number, draft.stat(), Facts(etag=md5.hex(), meta=ObjectMeta(checksums=values)))
        finally:
            draft.close()

    def list_parts(self, bucket: BucketFolder, ref: ObjectRef, upload_id: str) -> list[PartInfo]:
        """Return the parts stored so far, by number."""
        self.get(bucket, ref, upload_id)
        folder = self._folder(bucket, upload_id)
        parts = []
        for name in sorted(filter(_PART.fullmatch, os.listdir(folder))):
            path = os.fsencode(folder / name)
            stat = os.stat(path)
            parts.append(_part(int(name), stat, bucket.facts.read(path, stat)))
        return parts

    def complete(
        self,
        bucket: BucketFolder,
        ref: ObjectRef,
        upload_id: str,
        wanted: Sequence[tuple[int, str]],
        *,
        guard: Callable[[], None],
        expected: Mapping[str, str],
    ) -> tuple[os.stat_result, Facts]:
        """Join parts into the object; return its stat and facts. Raises BadDigest if a checksum is not as expected.

        The parts are copied within the kernel, and removed only once the object is there: after a crash on the way the
        client may complete the upload again.
        """
        try:
            upload = self.get(bucket, ref, upload_id)
        except NoSuchUpload:
            done = self._completed(bucket, ref, upload_id)
            if done is None:
                raise
            return done
        guard()
        parts = self._chosen(ref, wanted, {part.number: part for part in self.list_parts(bucket, ref, upload_id)})
        facts = Facts(
            etag=multipart_etag([bytes.fromhex(part.etag) for part in parts]),
            meta=replace(upload.meta, checksums=_object_checksum(upload, parts)),
            part_sizes=[part.size for part in parts],
            part_checksums=_part_checksums(upload, parts),
            upload_id=upload_id,
        )
        for algorithm, value in expected.items():
            computed = facts.meta.checksums.get(algorithm)
            if computed is None or value not in (computed, computed.partition("-")[0]):
                raise BadDigest(ref, f"{algorithm}: expected {value}, got {computed}")
        folder = self._folder(bucket, upload_id)
        draft = Draft(bucket)
        try:
            for part in parts:
                with (folder / f"{part.number:05}").open("rb") as file:
                    copy_bytes(file.fileno(), draft.descriptor, 0, part.size)
            if self.durable:
                os.fsync(draft.descriptor)
            bucket.facts.write(draft.descriptor, facts)
            bucket.install(draft.path, ref.key.encode(), guard=guard)
            stat = draft.stat()
        finally:
            draft.close()
        self._remove(bucket, upload_id)
        return stat, facts

    def abort(self, bucket: BucketFolder, ref: ObjectRef, upload_id: str) -> None:
        """Forget an upload and its parts; raises NoSuchUpload."""
        self.get(bucket, ref, upload_id)
        self._remove(bucket, upload_id)

    def _chosen(
        self, ref: ObjectRef, wanted: Sequence[tuple[int, str]], stored: Mapping[int, PartInfo]
    ) -> list[PartInfo]:
        if not wanted:
            raise InvalidPart(ref, "a completion must name at least one part")
        parts = []
        for number, etag in wanted:
            part = stored.get(number)
            if part is None or part.etag != etag.strip('"'):
                has = "was not uploaded" if part is None else f"has the ETag {part.etag}"
                raise InvalidPart(ref, f"part {number} {has}, the completion names {etag}")
            parts.append(part)
        for part in parts[:-1]:
            if part.size < self.min_part_bytes:
                raise PartTooSmall(ref, f"part {part.number} has {part.size} bytes, at least {self.min_part_bytes}")
        return parts

    def _completed(self, bucket: BucketFolder, ref: ObjectRef, upload_id: str) -> tuple[os.stat_result, Facts] | None:
        file = bucket.find(ref.key.encode())
        if file is None:
            return None
        try:
            facts = bucket.facts.read(file.descriptor, file.stat)
        finally:
            os.close(file.descriptor)
        return (file.stat, facts) if facts.upload_id == upload_id else None

    def _find(self, bucket: BucketFolder, upload_id: str) -> UploadInfo | None:
        if not _UPLOAD_ID.fullmatch(upload_id):
            return None
        try:
            document: dict[str, Any] = orjson.loads((self._folder(bucket, upload_id) / "upload.json").read_bytes())
        except FileNotFoundError:
            return None
        meta = ObjectMeta(
            headers=document["headers"],
            user=document["user"],
            tags=document["tags"],
            checksum_type=document["checksum_type"],
            owner=document.get("owner", ""),
            acl=document.get("acl", ""),
        )
        return UploadInfo(
            ref=ObjectRef(bucket.name, document["key"]),
            upload_id=upload_id,
            initiated_at=datetime.fromisoformat(document["initiated"]),
            meta=meta,
            checksum_algorithm=document["checksum_algorithm"],
        )

    def _folder(self, bucket: BucketFolder, upload_id: str) -> Path:
        return bucket.private / "uploads" / upload_id

    def _remove(self, bucket: BucketFolder, upload_id: str) -> None:
        # Renamed first: the upload is gone at once, for a part that arrives meanwhile and after a crash in between.
        folder = self._folder(bucket, upload_id)
        gone = folder.with_name(f"{upload_id}.gone")
        try:
            folder.rename(gone)
        except FileNotFoundError:
            return
        for path in gone.glob("[0-9]*"):
            bucket.facts.forget(path.stat())
        shutil.rmtree(gone, ignore_errors=True)


def _object_checksum(upload: UploadInfo, parts: Sequence[PartInfo]) -> dict[str, str]:
    """Return the joined object's checksum, if every part has one of the upload's algorithm (or of S3's default)."""
    algorithm = upload.checksum_algorithm or _DEFAULT_ALGORITHM
    if not all(algorithm in part.checksums for part in parts):
        return {}
    if upload.meta.checksum_type == "FULL_OBJECT" and algorithm in JOINABLE:
        return {algorithm: join_full_object(algorithm, [(part.checksums[algorithm], part.size) for part in parts])}
    return {algorithm: composite(algorithm, [part.checksums[algorithm] for part in parts])}


def _part_checksums(upload: UploadInfo, parts: Sequence[PartInfo]) -> Sequence[str]:
    algorithm = upload.checksum_algorithm
    if algorithm is None or not all(algorithm in part.checksums for part in parts):
        return ()
    return [part.checksums[algorithm] for part in parts]


def _part(number: int, stat: os.stat_result, facts: Facts) -> PartInfo:
    return PartInfo(
        number=number,
        size=stat.st_size,
        etag=facts.etag,
        modified_at=datetime.fromtimestamp(stat.st_mtime_ns / 1e9, UTC),
        checksums=facts.meta.checksums,
    )
