"""ObjectStore: buckets and objects, as S3 means them."""

import re
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol

from millrace.names import ObjectRef

__all__ = [
    "BadDigest",
    "BucketExists",
    "BucketInfo",
    "BucketNotEmpty",
    "BucketState",
    "DraftHeld",
    "DraftLost",
    "InvalidPart",
    "ListPage",
    "NoSuchBucket",
    "NoSuchKey",
    "NoSuchUpload",
    "ObjectInfo",
    "ObjectMeta",
    "ObjectStore",
    "ObjectStoreError",
    "ObjectUnreadable",
    "ObjectWriter",
    "PartInfo",
    "PartTooSmall",
    "PreconditionFailed",
    "ResumableWriter",
    "SmallObjects",
    "SmallOutput",
    "UploadInfo",
    "check_draft",
]

_DRAFT_NAME = re.compile(r"[a-z0-9-]{1,100}")


class ObjectStoreError(Exception):
    """The root of the port's own errors; each carries what it is about."""

    def __init__(self, subject: object, detail: str = "") -> None:
        super().__init__(f"{type(self).__name__}: {subject}" + (f" ({detail})" if detail else ""))
        self.subject = subject
        self.detail = detail


class NoSuchBucket(ObjectStoreError):
    """The bucket does not exist."""


class BucketExists(ObjectStoreError):
    """The bucket exists already."""


class BucketNotEmpty(ObjectStoreError):
    """A bucket with objects is not deleted."""


class NoSuchKey(ObjectStoreError):
    """The object does not exist."""


class ObjectUnreadable(ObjectStoreError):
    """The object is there, but the store itself may not read it, or not list the folder that it is in."""


class NoSuchUpload(ObjectStoreError):
    """The multipart upload does not exist, or was completed or aborted."""


class InvalidPart(ObjectStoreError):
    """A part named in a completion is missing, has another ETag, or is too small."""


class PartTooSmall(InvalidPart):
    """A part other than the last has fewer bytes than the store takes."""


class PreconditionFailed(ObjectStoreError):
    """A condition on the object's ETag or existence does not hold."""


class BadDigest(ObjectStoreError):
    """The bytes received do not have the digest that the client named; nothing was stored."""


class DraftLost(ObjectStoreError):
    """A draft can't be continued where it was to be: it is not there, or shorter. It was committed, perhaps."""


class DraftHeld(DraftLost):
    """Another writer still holds the draft."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectMeta:
    """What a client may attach to an object.

    `headers` holds the stored standard headers by lower-case name: content-type, cache-control,
    content-disposition, content-encoding, content-language, expires, x-amz-server-side-encryption...
    `user` holds x-amz-meta-* without the prefix. `checksums` maps an algorithm's lower-case name (crc32, crc32c,
    crc64nvme, sha1, sha256) to its base64 value, `checksum_type` is FULL_OBJECT or COMPOSITE.
    """

    headers: Mapping[str, str] = field(default_factory=dict)
    user: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)
    checksum_type: str = "FULL_OBJECT"
    owner: str = ""
    """The account that owns the object; empty where it is the bucket's."""
    acl: str = ""
    """Who else may do what, in the service's own form; empty where nobody."""
    origin: str = ""
    """The work that wrote the object, in the words of whoever wrote it, at most a few hundred bytes.

    For that work alone, which so knows again what it has finished: never shown to a client, and not the copy's when the
    object is copied. A file that somebody edited has lost it.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectInfo:
    """One stored object. `etag` is without quotes."""

    ref: ObjectRef
    size: int
    etag: str
    modified_at: datetime
    meta: ObjectMeta = field(default_factory=ObjectMeta)
    part_sizes: Sequence[int] = ()
    """Sizes of the parts of a completed multipart upload, in order; empty where the store does not keep them."""
    part_checksums: Sequence[str] = ()
    """Their checksums, by the algorithm of the object's; empty where the upload named none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BucketInfo:
    """One bucket."""

    name: str
    region: str
    owner: str
    created_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class BucketState:
    """A bucket and its stored configurations, by kind."""

    info: BucketInfo
    documents: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class ListPage:
    """Objects and common prefixes of one listing, merged in UTF-8 byte order of key and prefix.

    `next_after` continues the listing if there is more: pass it as `after` (for a common prefix it already skips all
    of its keys).
    """

    objects: Sequence[ObjectInfo]
    common_prefixes: Sequence[str] = ()
    next_after: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PartInfo:
    """One uploaded part of a multipart upload."""

    number: int
    size: int
    etag: str
    modified_at: datetime
    checksums: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadInfo:
    """One multipart upload in progress."""

    ref: ObjectRef
    upload_id: str
    initiated_at: datetime
    meta: ObjectMeta
    checksum_algorithm: str | None = None


class ObjectWriter(Protocol):
    """Writes one object; nothing is visible before `commit`, and nothing is left after `abort`."""

    async def write(self, chunk: bytes | memoryview) -> None:
        """Append bytes."""
        ...

    async def commit(self, *, origin: str = "") -> ObjectInfo:
        """Make the object visible at once and durable, replacing an older one; `origin` replaces that of its meta."""
        ...

    async def abort(self) -> None:
        """Forget what was written; harmless after commit or a second time."""
        ...


class ResumableWriter(ObjectWriter, Protocol):
    """Writes one object into a draft that outlives the process: a later writer goes on at a checkpoint.

    Nobody else writes to the draft while this one is open; a process that is killed gives it free. `abort` removes the
    draft, and `commit` makes it the object, so that there is no draft any more.
    """

    async def checkpoint(self) -> int:
        """Make all that was written so far durable; return how many bytes that is, the draft's first ones included.

        They survive the end of the process and a power failure. What was durable is not written again. Writing may go
        on meanwhile, from another task.
        """
        ...

    async def flush(self) -> int:
        """Let `read_draft` see all that was written so far, durable or not; return how many bytes that is."""
        ...

    async def suspend(self) -> None:
        """Close, and leave the draft to a later writer: it has what was checkpointed, and may have what came after.

        Harmless after commit, after abort, or a second time.
        """
        ...


class SmallOutput(NamedTuple):
    """A small object to write: all of its bytes, and the origin that it has instead of its meta's."""

    ref: ObjectRef
    body: bytes
    origin: str


class SmallObjects(Protocol):
    """The quick way of a store with many small objects. What is not as usual is left to the usual way, which says why.

    Nothing may be waited for long on the event loop, but what is left out of each object's work counts.
    """

    def read(self, refs: Sequence[ObjectRef], *, at_most: int) -> list[bytes | None]:
        """Return the bytes of objects, each of one version; None for one that is not there, is empty, or is longer."""
        ...

    async def write(self, outputs: Sequence[SmallOutput], meta: ObjectMeta) -> Sequence[int]:
        """Make objects visible and durable, replacing older ones, each at once but with one sync of the disk for all.

        ETags are as those of `ObjectStore.open_writer`. Once this is over, also by cancellation, nothing more happens.

        Returns:
            The indexes of those for which nothing was done, to be written in the usual way.
        """
        ...


def check_draft(draft: str, at: int) -> None:
    """Raise ValueError unless a draft can have this name and be continued there."""
    if not _DRAFT_NAME.fullmatch(draft):
        raise ValueError(f"a draft's name must be 1 to 100 characters of a to z, 0 to 9 and -, got {draft!r}")
    if at < 0:
        raise ValueError(f"a draft is continued at 0 or more bytes, got {at}")


class ObjectStore(Protocol):
    """Buckets and objects. Every method may be called from several tasks and processes at a time.

    A write is atomic: readers see the old object or the new one. Keys are any 1 to 1,024 bytes of UTF-8. Listing is in
    UTF-8 byte order. Missing things raise NoSuchBucket, NoSuchKey or NoSuchUpload.
    """

    async def create_bucket(self, name: str, *, region: str, owner: str) -> BucketInfo:
        """Make a bucket; raises BucketExists."""
        ...

    async def delete_bucket(self, name: str) -> None:
        """Remove an empty bucket; raises BucketNotEmpty."""
        ...

    async def get_bucket(self, name: str) -> BucketInfo: ...

    async def list_buckets(self) -> list[BucketInfo]:
        """Return all buckets by name."""
        ...

    async def get_bucket_state(self, name: str) -> BucketState:
        """Return a bucket and all of its configurations.

        Asked for with every request. A store may return the same object again for as long as nothing changed, so that
        callers can keep what they made of it.
        """
        ...

    async def get_bucket_document(self, name: str, kind: str) -> str | None:
        """Return a stored bucket configuration (such as "cors" or "policy"), or None."""
        ...

    async def put_bucket_document(self, name: str, kind: str, text: str | None) -> None:
        """Store a bucket configuration; None removes it."""
        ...

    async def get(self, ref: ObjectRef) -> ObjectInfo:
        """Return one object's facts; raises NoSuchKey."""
        ...

    def read(self, ref: ObjectRef, *, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Yield the object's bytes in chunks of at most the store's chunk size, all of one version of it."""
        ...

    async def open_local(self, ref: ObjectRef) -> tuple[ObjectInfo, Path, int] | None:
        """Return facts, path and an open file descriptor if the object is a local file, else None.

        The caller closes the descriptor. Raises NoSuchKey.
        """
        ...

    def small_objects(self) -> SmallObjects | None:
        """Return what reads and writes many small objects at a time, None if the store has no quicker way for them."""
        ...

    async def open_writer(self, ref: ObjectRef, meta: ObjectMeta | None = None) -> ObjectWriter:
        """Start an object whose ETag need not be an MD5 (as of a multipart upload): for outputs of jobs."""
        ...

    async def open_resumable(
        self, ref: ObjectRef, meta: ObjectMeta | None = None, *, draft: str, at: int
    ) -> ResumableWriter:
        """Start an object as `open_writer` does, or go on with it.

        Args:
            ref: The object, as it will be called once it is committed.
            meta: What is attached to it then; earlier writers' is forgotten.
            draft: A name of 1 to 100 characters of a to z, 0 to 9 and -, the caller's own: one for each job and object.
            at: 0 to begin anew, whatever the draft holds; else the bytes of it that are kept, those behind are cut off.

        Raises:
            DraftLost: The draft is not there, or has fewer bytes than `at`. `get` tells by the origin whether it has
                become the object.
            DraftHeld: Another writer holds it still, after the store has waited for a few seconds.
        """
        ...

    async def discard_draft(self, bucket: str, draft: str) -> None:
        """Remove what a suspended or killed writer has left; harmless if there is nothing.

        Raises:
            DraftHeld: Another writer holds it still, after the store has waited for a few seconds.
        """
        ...

    def read_draft(self, bucket: str, draft: str, *, length: int) -> AsyncIterator[bytes]:
        """Yield the first `length` bytes of a draft, which a writer has checkpointed or flushed.

        Nobody may cut them off meanwhile. Whether a writer has it open does not matter. The iterator raises DraftLost
        if the draft is not there, or has fewer bytes.
        """
        ...

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
        """Store an object whose ETag is its MD5.

        `if_none_match` refuses this ETag, `if_match` another one (PreconditionFailed); "*" stands for any; `expect_md5`
        and the values already in `meta.checksums` are verified against the bytes (BadDigest); `checksum_algorithms` are
        computed and stored. `meta.checksums` is read after the last chunk: a value that comes as a trailer of the body
        may be added while the chunks are taken, if its algorithm is among `checksum_algorithms`.
        """
        ...

    async def update_meta(self, ref: ObjectRef, change: Callable[[ObjectMeta], ObjectMeta]) -> None:
        """Attach to an object what `change` makes of what is attached (tags, say), keeping bytes, ETag and time.

        No other write comes between. `change` is pure: it may run in another thread. What it raises passes.
        """
        ...

    async def copy(
        self,
        source: ObjectRef,
        target: ObjectRef,
        meta: ObjectMeta | None = None,
        *,
        if_none_match: str | None = None,
        if_match: str | None = None,
    ) -> ObjectInfo:
        """Copy an object on the store's side; `meta` None keeps the source's, but for the origin.

        The conditions are on the target.
        """
        ...

    async def delete(self, ref: ObjectRef, *, if_match: str | None = None) -> bool:
        """Remove an object; return whether it existed. `if_match` refuses another ETag (PreconditionFailed)."""
        ...

    async def list_objects(
        self, bucket: str, *, prefix: str = "", after: str = "", delimiter: str = "", limit: int = 1000
    ) -> ListPage:
        """Return the next at most `limit` keys and common prefixes after `after` (exclusive)."""
        ...

    async def create_upload(
        self, ref: ObjectRef, meta: ObjectMeta | None = None, *, checksum_algorithm: str | None = None
    ) -> UploadInfo: ...

    async def get_upload(self, ref: ObjectRef, upload_id: str) -> UploadInfo: ...

    async def list_uploads(self, bucket: str, *, prefix: str = "") -> list[UploadInfo]:
        """Return uploads in progress by key, then by time."""
        ...

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
        """Store one part (1 to 10,000), replacing an older one of that number; verifies digests (BadDigest).

        `checksums` and `checksum_algorithms` are as for `put`: the former is read after the last chunk.
        """
        ...

    async def list_parts(self, ref: ObjectRef, upload_id: str) -> list[PartInfo]: ...

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
        """Join the parts named by (number, ETag) into the object; its ETag is md5(md5s)-N. Raises InvalidPart.

        `checksums` are those that the joined object must have (BadDigest).
        """
        ...

    async def abort_upload(self, ref: ObjectRef, upload_id: str) -> None: ...
