"""Keep objects as plain files: a bucket is a folder, an object a file that a person can open.

Safe for several processes at once (server and agents); there is no database, and nothing is remembered that another
process could make untrue. How a key finds its file is in key_paths, what else is known about an object in facts, how
files appear and vanish in bucket_folder, the order of listing in key_walk, multipart uploads in uploads.
"""

# Paths are bytes here, as keys are, and pathlib knows only text.
# ruff: noqa: PTH102, PTH105, PTH106, PTH116

import asyncio
import os
import shutil
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from pathlib import Path
from types import MappingProxyType

from millrace.clock import Clock, SystemClock
from millrace.names import DEFAULT_ACCOUNT, ObjectRef
from millrace.ports.objects import (
    BucketExists,
    BucketInfo,
    BucketNotEmpty,
    BucketState,
    DraftLost,
    ListPage,
    NoSuchBucket,
    NoSuchKey,
    ObjectInfo,
    ObjectMeta,
    ObjectUnreadable,
    PartInfo,
    PreconditionFailed,
    UploadInfo,
)
from millrace.store.bucket_folder import BucketFolder, OpenFile
from millrace.store.bucket_records import BucketRecords
from millrace.store.checksums import Digests
from millrace.store.draft import Draft, copy_bytes, receive, receive_small, verify_digests
from millrace.store.facts import Facts
from millrace.store.file_writer import FileWriter
from millrace.store.group_sync import GroupSync
from millrace.store.kept_draft import KeptDraft, open_kept
from millrace.store.kept_drafts import KeptDrafts
from millrace.store.key_walk import BEYOND, FolderNames, KeyWalk
from millrace.store.large_file import BLOCK_BYTES
from millrace.store.leftovers import LeftoverFile, list_kept_drafts, list_leftovers, remove_leftover
from millrace.store.listed_facts import ListedFacts
from millrace.store.page_cache import is_cached
from millrace.store.queued_sync import QueuedSync
from millrace.store.recycled_files import RECYCLED_BYTES, RecycledFiles
from millrace.store.resumable import ResumableFileWriter
from millrace.store.small_files import SmallFiles
from millrace.store.uninterrupted import run_uninterrupted
from millrace.store.uploads import Uploads

__all__ = ["FilesystemObjects"]

_PRIVATE = ".millrace"
_ALIAS_PRIVATE = ".millrace-tmp"
_INLINE_READ_BYTES = 64 * 1024
"""Up to this many bytes a hop to a thread takes longer than the work."""
_TURN_BYTES = 16 * 1024 * 1024
"""After so many bytes others have their turn, however quickly they came: some objects are larger than all memory."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NO_META = ObjectMeta()
_MAX_FOLDERS = 1024
_MAX_PATHS = 1024


class FilesystemObjects:
    """An ObjectStore over folders.

    Args:
        root: Folder of all buckets; made if it is missing.
        chunk_bytes: Bytes that are read or written at a time; two chunks are held per object being read or written.
        copy_bytes_at_a_time: Bytes that are copied within the file system at a time; a cancelled copy ends after them.
        durable: Wait until a written object would survive a power failure. Deletions are not waited for.
        use_attributes: Keep facts in extended attributes where the file system has them, rather than in sidecar files.
        min_part_bytes: Least size of every part but the last of a multipart upload.
        cached_output_bytes: Bytes of a job's output object that pass through the page cache, a multiple of 1 MiB; what
            follows is written past it.
        output_block_bytes: Bytes of a resumable output that are written past the cache at a time, a multiple of 4 KiB.
        draft_wait_seconds: Time for which the writer that still holds a draft is waited for by the next one.
        max_cached_names: File names that are kept, over all folders, to continue listings quickly (about 100 bytes
            each). A folder with more is kept besides while it is listed (12 bytes and its own for each name).
        max_cached_facts: Files whose facts are kept, over all folders, to list them again quickly (about 1 kB each).
        max_recycled_files: Small files of replaced objects that are kept open to be written again (64 KiB each).
        small_outputs_here: Small outputs of a job that are written before another process is started to write the next
            ones, where there is more than one core. They cost about as much as its start, which takes 0.2 s and 25 MB.
            0 starts none.
        small_groups: Groups of small outputs that this process has at a time, most of them waiting for the disk.
        aliases: Buckets that are folders elsewhere, such as a user's input folder. Symlinks to files are objects there.
        scratch: Private folders of aliases, by bucket, each on the file system of its alias; by default
            `.millrace-tmp` in the folder, removed at close() if nothing is left in it.
        account: The owner of buckets that nobody made: folders that a person put there.
        clock: Tells when buckets and uploads were made, and what is a leftover.
    """

    def __init__(
        self,
        root: Path,
        *,
        chunk_bytes: int = 1024 * 1024,
        copy_bytes_at_a_time: int = 256 * 1024 * 1024,
        durable: bool = True,
        use_attributes: bool = True,
        min_part_bytes: int = 5 * 1024 * 1024,
        cached_output_bytes: int = 64 * 1024 * 1024,
        output_block_bytes: int = BLOCK_BYTES,
        draft_wait_seconds: float = 5.0,
        max_cached_names: int = 500_000,
        max_cached_facts: int = 20_000,
        max_recycled_files: int = 64,
        small_outputs_here: int = 2000,
        small_groups: int = 3,
        aliases: Mapping[str, Path] = MappingProxyType({}),
        scratch: Mapping[str, Path] = MappingProxyType({}),
        account: str = DEFAULT_ACCOUNT,
        clock: Clock | None = None,
    ) -> None:
        self._root = root.absolute()
        self._chunk_bytes = chunk_bytes
        self._copy_bytes = copy_bytes_at_a_time
        self._durable = durable
        self._cached_output_bytes = cached_output_bytes
        self._use_attributes = use_attributes
        self._clock = clock or SystemClock()
        self._syncs = QueuedSync()
        self._kept_drafts = KeptDrafts(
            clock=self._clock,
            wait_seconds=draft_wait_seconds,
            cached_bytes=cached_output_bytes,
            block_bytes=output_block_bytes,
        )
        self._recycled = RecycledFiles(max_recycled_files)
        self._records = BucketRecords(default_owner=account, write=self._write_document)
        self._names = FolderNames(max_cached_names)
        self._listed = ListedFacts(max_cached_facts)
        # Only paths are remembered, which depend on nothing but the name.
        self._folder = lru_cache(maxsize=_MAX_FOLDERS)(self._new_folder)
        self._aliases = {name: self._alias(name, folder, scratch.get(name)) for name, folder in aliases.items()}
        self._group_syncs = GroupSync()
        self._small = SmallFiles(
            self._existing,
            syncs=self._group_syncs,
            durable=durable,
            apart_after=small_outputs_here,
            apart_at_a_time=small_groups,
        )
        self._uploads = Uploads(
            batch_bytes=chunk_bytes, durable=durable, min_part_bytes=min_part_bytes, clock=self._clock
        )

    # --- buckets

    async def create_bucket(self, name: str, *, region: str, owner: str) -> BucketInfo:
        """Make a bucket; raises BucketExists, or ValueError if no folder can have this name."""
        if not _is_folder_name(name):
            raise ValueError(
                f"a bucket's name must be that of a folder, without slashes or a leading dot, got {name!r}"
            )
        bucket = self._bucket(name)
        if name in self._aliases:
            raise BucketExists(name)
        self._root.mkdir(parents=True, exist_ok=True)
        try:
            os.mkdir(bucket.folder)
        except FileExistsError:
            raise BucketExists(name) from None
        shutil.rmtree(bucket.private, ignore_errors=True)  # of a deleted bucket of this name, after a crash
        info = BucketInfo(name=name, region=region, owner=owner, created_at=self._clock.now())
        self._records.create(bucket, info)
        return info

    async def delete_bucket(self, name: str) -> None:
        """Remove an empty bucket, with its uploads in progress; raises BucketNotEmpty."""
        bucket = self._existing(name)
        if name in self._aliases or not await asyncio.to_thread(bucket.clear):
            raise BucketNotEmpty(name)
        self._records.look_again()

    async def get_bucket(self, name: str) -> BucketInfo:
        """Return a bucket's facts; a folder made by hand is a bucket of the default region and account."""
        return self._records.get(self._bucket(name)).info

    async def get_bucket_state(self, name: str) -> BucketState:
        """Return a bucket's facts and configurations: the same object for as long as nothing changes."""
        return self._records.get(self._bucket(name))

    async def list_buckets(self) -> list[BucketInfo]:
        """Return all buckets by name."""
        try:
            with os.scandir(self._root) as entries:
                names = {entry.name for entry in entries if entry.is_dir(follow_symlinks=False)}
        except FileNotFoundError:
            names = set()
        found = []
        for name in sorted(filter(_is_folder_name, names | set(self._aliases))):
            with suppress(NoSuchBucket):  # deleted since
                found.append(await self.get_bucket(name))
        return found

    async def get_bucket_document(self, name: str, kind: str) -> str | None:
        """Return a stored bucket configuration, or None."""
        return self._records.get(self._bucket(name)).documents.get(kind)

    async def put_bucket_document(self, name: str, kind: str, text: str | None) -> None:
        """Store a bucket configuration; None removes it."""
        self._records.put(self._existing(name), kind, text)

    # --- objects

    async def get(self, ref: ObjectRef) -> ObjectInfo:
        """Return one object's facts; raises NoSuchKey."""
        bucket = self._bucket(ref.bucket)
        file = self._open(bucket, ref)
        try:
            return self._facts_of(bucket, ref, file)
        finally:
            os.close(file.descriptor)

    async def read(self, ref: ObjectRef, *, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Yield the object's bytes in chunks of at most `chunk_bytes`, all of one version of it."""
        file = self._open(self._bucket(ref.bucket), ref)
        try:
            end = file.stat.st_size if length is None else min(file.stat.st_size, start + length)
            turn = start
            while start < end:
                size = min(self._chunk_bytes, end - start)
                if start - turn >= _TURN_BYTES:
                    await asyncio.sleep(0)
                    turn = start
                if size <= _INLINE_READ_BYTES or is_cached(file.descriptor, start, size):
                    chunk = os.pread(file.descriptor, size, start)
                else:
                    chunk = await asyncio.to_thread(os.pread, file.descriptor, size, start)
                if not chunk:
                    raise OSError(f"{ref}: the file was cut to {start} of {file.stat.st_size} bytes while it was read")
                start += len(chunk)
                yield chunk
        finally:
            os.close(file.descriptor)

    async def open_local(self, ref: ObjectRef) -> tuple[ObjectInfo, Path, int] | None:
        """Return facts, path and an open descriptor, which the caller closes; raises NoSuchKey."""
        bucket = self._bucket(ref.bucket)
        file = self._open(bucket, ref)
        try:
            info = self._facts_of(bucket, ref, file)
        except BaseException:
            os.close(file.descriptor)
            raise
        return info, _path(file.path), file.descriptor

    def small_objects(self) -> SmallFiles:
        """Return the quick way for many small objects."""
        return self._small

    async def open_writer(self, ref: ObjectRef, meta: ObjectMeta | None = None) -> FileWriter:
        """Start an object for the output of a job. Its ETag is random, in the form of a multipart upload's."""
        _require_key(ref)
        bucket = self._existing(ref.bucket)
        draft = Draft(bucket, cached_bytes=self._cached_output_bytes)
        install = partial(self._install, bucket, draft, ref, guard=_no_guard)
        return FileWriter(draft, meta or _NO_META, install, chunk_bytes=self._chunk_bytes)

    async def open_resumable(
        self, ref: ObjectRef, meta: ObjectMeta | None = None, *, draft: str, at: int
    ) -> ResumableFileWriter:
        """Start an object for the output of a job, or go on with it; raises DraftLost and DraftHeld."""
        _require_key(ref)
        bucket = self._existing(ref.bucket)
        kept = await self._kept_drafts.open(bucket.drafts, draft, at)
        install = partial(self._install, bucket, kept, ref, guard=_no_guard)
        syncs = self._syncs if self._durable else None
        return ResumableFileWriter(kept, meta or _NO_META, install, chunk_bytes=self._chunk_bytes, syncs=syncs)

    async def discard_draft(self, bucket: str, draft: str) -> None:
        """Remove what a suspended or killed writer has left; raises DraftHeld."""
        await self._kept_drafts.discard(self._existing(bucket).drafts, draft)

    async def read_draft(self, bucket: str, draft: str, *, length: int) -> AsyncIterator[bytes]:
        """Yield the first bytes of what a writer has left; raises DraftLost."""
        descriptor = open_kept(self._existing(bucket).drafts, draft, length)
        try:
            for start in range(0, length, self._chunk_bytes):
                size = min(self._chunk_bytes, length - start)
                chunk = await asyncio.to_thread(os.pread, descriptor, size, start)
                if len(chunk) < size:
                    raise DraftLost(draft, f"it was cut to {start + len(chunk)} of {length} bytes while it was read")
                yield chunk
        finally:
            os.close(descriptor)

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
        """Store an object whose ETag is its MD5; see the port for conditions and digests."""
        _require_key(ref)
        meta = meta or _NO_META
        bucket = self._existing(ref.bucket)
        guard = self._guard(bucket, ref, if_none_match=if_none_match, if_match=if_match)
        guard()  # refuse before the body is read; it counts when asked again under the lock
        rest = aiter(chunks)
        first, is_whole = await receive_small(rest, RECYCLED_BYTES)
        digests = Digests({*meta.checksums, *checksum_algorithms})
        draft = Draft(bucket, digests, recycled=self._recycled if is_whole else None)
        try:
            if is_whole:
                draft.append(first)
            else:
                await receive(draft, rest, batch_bytes=self._chunk_bytes, received=first)
            md5, checksums = verify_digests(draft, ref, expect_md5=expect_md5, expected=meta.checksums)
            facts = Facts(etag=md5.hex(), meta=replace(meta, checksums=checksums))
            return await self._install(bucket, draft, ref, facts, guard)
        finally:
            draft.close()

    async def update_meta(self, ref: ObjectRef, change: Callable[[ObjectMeta], ObjectMeta]) -> None:
        """Attach to an object what `change` makes of what is attached, keeping bytes, ETag and time."""
        bucket = self._bucket(ref.bucket)

        def update() -> None:
            with bucket.lock(_key(ref)):
                file = self._open(bucket, ref)
                try:
                    facts = bucket.facts.read(file.descriptor, file.stat)
                    bucket.facts.write(file.descriptor, replace(facts, meta=change(facts.meta)))
                finally:
                    os.close(file.descriptor)

        # In a thread: another process may hold the lock for as long as its disk takes.
        await asyncio.to_thread(update)

    async def copy(
        self,
        source: ObjectRef,
        target: ObjectRef,
        meta: ObjectMeta | None = None,
        *,
        if_none_match: str | None = None,
        if_match: str | None = None,
    ) -> ObjectInfo:
        """Copy an object within the file system: same bytes, same ETag. `meta` None keeps the source's."""
        _require_key(target)
        from_bucket, to_bucket = self._bucket(source.bucket), self._existing(target.bucket)
        guard = self._guard(to_bucket, target, if_none_match=if_none_match, if_match=if_match)
        file = self._open(from_bucket, source)
        try:
            facts = from_bucket.facts.read(file.descriptor, file.stat)
            meta = facts.meta if meta is None else meta
            if meta.origin:
                meta = replace(meta, origin="")
            facts = replace(facts, meta=meta)
            draft = Draft(to_bucket)
            try:
                for start in range(0, file.stat.st_size, self._copy_bytes):
                    length = min(self._copy_bytes, file.stat.st_size - start)
                    await run_uninterrupted(partial(copy_bytes, file.descriptor, draft.descriptor, start, length))
                return await self._install(to_bucket, draft, target, replace(facts, upload_id=""), guard)
            finally:
                draft.close()
        finally:
            os.close(file.descriptor)

    async def delete(self, ref: ObjectRef, *, if_match: str | None = None) -> bool:
        """Remove an object, and folders that it leaves empty; return whether it existed."""
        bucket = self._existing(ref.bucket)
        if not ref.key:
            return False
        # In a thread: a file system takes long to free the blocks of a large file.
        guard = self._guard(bucket, ref, if_none_match=None, if_match=if_match)
        return await asyncio.to_thread(bucket.remove, _key(ref), guard=guard)

    async def list_objects(
        self, bucket: str, *, prefix: str = "", after: str = "", delimiter: str = "", limit: int = 1000
    ) -> ListPage:
        """Return the next at most `limit` keys and common prefixes after `after` (exclusive)."""
        folder = self._existing(bucket)
        try:
            return await asyncio.to_thread(self._page, folder, prefix, after, delimiter, limit)
        except PermissionError as exc:
            place = os.path.relpath(os.fsdecode(exc.filename or b""), os.fsdecode(folder.folder))
            raise ObjectUnreadable(f"{bucket}/{place}/", _refusal(exc)) from exc

    # --- multipart uploads

    async def create_upload(
        self, ref: ObjectRef, meta: ObjectMeta | None = None, *, checksum_algorithm: str | None = None
    ) -> UploadInfo:
        """Begin a multipart upload. `meta.checksum_type` says which type of checksum its object is to have."""
        _require_key(ref)
        return self._uploads.create(self._existing(ref.bucket), ref, meta or _NO_META, checksum_algorithm)

    async def get_upload(self, ref: ObjectRef, upload_id: str) -> UploadInfo:
        """Return an upload in progress; raises NoSuchUpload."""
        return self._uploads.get(self._existing(ref.bucket), ref, upload_id)

    async def list_uploads(self, bucket: str, *, prefix: str = "") -> list[UploadInfo]:
        """Return uploads in progress by key, then by time."""
        return await asyncio.to_thread(self._uploads.list_all, self._existing(bucket), prefix)

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
        """Store one part, replacing an older one of that number; see the port for digests."""
        return await self._uploads.put_part(
            self._existing(ref.bucket),
            ref,
            upload_id,
            number,
            chunks,
            expect_md5=expect_md5,
            checksums=checksums or {},
            checksum_algorithms=checksum_algorithms,
        )

    async def list_parts(self, ref: ObjectRef, upload_id: str) -> list[PartInfo]:
        """Return the parts stored so far, by number."""
        return await asyncio.to_thread(self._uploads.list_parts, self._existing(ref.bucket), ref, upload_id)

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
        """Join parts into the object. Asked again for the same upload, tell the same again, as S3 does."""
        bucket = self._existing(ref.bucket)
        guard = self._guard(bucket, ref, if_none_match=if_none_match, if_match=if_match)
        stat, facts = await asyncio.to_thread(
            self._uploads.complete, bucket, ref, upload_id, parts, guard=guard, expected=checksums or {}
        )
        return _info(ref, stat, facts)

    async def abort_upload(self, ref: ObjectRef, upload_id: str) -> None:
        """Forget an upload and its parts; raises NoSuchUpload."""
        await asyncio.to_thread(self._uploads.abort, self._existing(ref.bucket), ref, upload_id)

    # --- housekeeping

    async def sweep(self, *, older_than: timedelta = timedelta(days=1)) -> int:
        """Remove what killed writers left behind and return the number of files; what is being written stays."""
        leftovers = await self.list_leftovers(older_than=older_than)
        return await asyncio.to_thread(lambda: sum(map(remove_leftover, leftovers)))

    async def list_leftovers(self, *, older_than: timedelta = timedelta(days=1)) -> list[LeftoverFile]:
        """Return what `sweep` would remove."""
        before = self._clock.now() - older_than
        buckets = [self._bucket(info.name) for info in await self.list_buckets()]
        return await asyncio.to_thread(lambda: [it for bucket in buckets for it in list_leftovers(bucket, before)])

    async def list_kept_drafts(self, before: datetime) -> list[LeftoverFile]:
        """Return unfinished outputs of jobs that nobody writes and nobody has written to since a moment."""
        buckets = [self._bucket(info.name) for info in await self.list_buckets()]
        return await asyncio.to_thread(lambda: [it for bucket in buckets for it in list_kept_drafts(bucket, before)])

    async def sweep_alias(self, name: str, *, drafts_older_than: timedelta) -> int:
        """Do for an alias what `sweep` does for buckets, and remove unfinished outputs; return the number of files.

        For those who know that nobody goes on with outputs there but who began them.
        """
        bucket, now = self._aliases[name], self._clock.now()

        def sweep() -> int:
            found = list_leftovers(bucket, now - timedelta(days=1))
            return sum(map(remove_leftover, [*found, *list_kept_drafts(bucket, now - drafts_older_than)]))

        return await asyncio.to_thread(sweep)

    def close(self) -> None:
        """Remove the private folders of aliases where nothing is left in them, and files kept to be written again."""
        self._recycled.close()
        self._small.close()
        self._group_syncs.close()
        for bucket in self._aliases.values():
            for path, _, _ in os.walk(bucket.private, topdown=False):
                with suppress(OSError):
                    os.rmdir(path)

    # --- inside

    def _alias(self, name: str, folder: Path, scratch: Path | None) -> BucketFolder:
        folder = folder.resolve()
        return BucketFolder(
            name,
            folder,
            scratch or folder / _ALIAS_PRIVATE,
            reserved=_ALIAS_PRIVATE.encode(),
            follow_file_links=True,
            use_attributes=self._use_attributes,
            durable=self._durable,
        )

    def _bucket(self, name: str) -> BucketFolder:
        return self._aliases.get(name) or self._folder(name)

    def _new_folder(self, name: str) -> BucketFolder:
        if not _is_folder_name(name):
            raise NoSuchBucket(name)
        return BucketFolder(
            name,
            self._root / name,
            self._root / _PRIVATE / name,
            use_attributes=self._use_attributes,
            durable=self._durable,
        )

    def _existing(self, name: str) -> BucketFolder:
        bucket = self._bucket(name)
        self._records.get(bucket)
        return bucket

    def _open(self, bucket: BucketFolder, ref: ObjectRef) -> OpenFile:
        try:
            file = bucket.find(_key(ref)) if ref.key else None
        except PermissionError as exc:  # a file that a person put there
            raise ObjectUnreadable(ref, _refusal(exc)) from exc
        if file is None:
            raise NoSuchKey(ref) if bucket.exists() else NoSuchBucket(ref.bucket)
        return file

    def _facts_of(self, bucket: BucketFolder, ref: ObjectRef, file: OpenFile) -> ObjectInfo:
        """Return the facts of an open object: the same object for as long as nothing changes."""
        info = self._listed.find(ref.bucket, file.path, file.stat)
        if info is None:
            info = _info(ref, file.stat, bucket.facts.read(file.descriptor, file.stat))
            self._listed.keep(file.path, file.stat, info)
        return info

    def _guard(
        self, bucket: BucketFolder, ref: ObjectRef, *, if_none_match: str | None, if_match: str | None
    ) -> Callable[[], None]:
        if if_none_match is None and if_match is None:
            return _no_guard

        def check() -> None:
            file = bucket.find(_key(ref))
            if file is None:
                if if_match is not None:
                    raise NoSuchKey(ref)
                return
            try:
                etag = bucket.facts.read(file.descriptor, file.stat).etag
            finally:
                os.close(file.descriptor)
            if if_none_match in ("*", etag):
                raise PreconditionFailed(ref, "it exists" if if_none_match == "*" else f"its ETag is {etag}")
            if if_match not in (None, "*", etag):
                raise PreconditionFailed(ref, f"its ETag is {etag}, not {if_match}")

        return check

    async def _install(
        self, bucket: BucketFolder, draft: Draft | KeptDraft, ref: ObjectRef, facts: Facts, guard: Callable[[], None]
    ) -> ObjectInfo:
        # Before the sync, which so covers them.
        if not draft.size:
            os.utime(draft.descriptor)  # a spare file that nothing was written to
        stat = bucket.facts.write_first(draft.descriptor, facts)
        if self._durable:
            await self._syncs.sync(draft.descriptor)
        recycled = draft.recycled
        keep = recycled is not None and stat.st_size <= RECYCLED_BYTES and recycled.wants_more
        installed = bucket.install_at_once(draft.path, _key(ref), guard=guard, keep=keep)
        if installed is None:
            await run_uninterrupted(partial(bucket.install, draft.path, _key(ref), guard=guard))
        else:
            try:
                if self._durable:
                    await self._syncs.sync_folder(installed.folder)
            finally:
                os.close(installed.folder)
            if recycled is not None and installed.replaced_is_kept:  # only now is it no object, whatever power does
                recycled.give(bucket.spares, draft.path, stat)
        draft.installed()
        return _info(ref, stat, facts)

    def _page(self, bucket: BucketFolder, prefix: str, after: str, delimiter: str, limit: int) -> ListPage:
        if limit <= 0:
            return ListPage(objects=())
        beside_since = bucket.facts.beside_since()
        prefix_bytes, mark, floor = prefix.encode(), delimiter.encode(), after.encode()
        if mark and floor.startswith(prefix_bytes):
            cut = floor.find(mark, len(prefix_bytes))
            if cut >= 0:  # `after` is a common prefix or a key in one, which an earlier page has given
                floor = floor[: cut + len(mark)] + BEYOND
        walk = KeyWalk(
            names=self._names,
            folder=bucket.folder,
            alternates=bucket.alternates,
            reserved=bucket.reserved,
            follow_file_links=bucket.follow_file_links,
            prefix=prefix_bytes,
            after=floor,
            fold=delimiter == "/",
        )
        objects: list[ObjectInfo] = []
        common: list[str] = []
        last: bytes | None = None
        given = None
        left = limit
        find = self._listed.find
        follow = bucket.follow_file_links
        for key, path in walk.places():
            cut = key.find(mark, len(prefix_bytes)) if mark else -1
            if cut >= 0:
                folded = key[: cut + len(mark)]
                if folded == last:
                    continue
            if not left:
                return ListPage(objects=objects, common_prefixes=common, next_after=given)
            if cut >= 0:
                last = folded
                given = folded.decode()
                common.append(given)
                left -= 1
                continue
            assert path is not None, "a folder's key ends with the delimiter, so it was folded"
            try:
                stat = os.stat(path, follow_symlinks=follow)
                info = find(bucket.name, path, stat)
                if info is None:
                    facts = bucket.facts.read(path, stat, look_beside=stat.st_ctime_ns >= beside_since)
                    info = _info(ObjectRef(bucket.name, key.decode()), stat, facts)
                    self._listed.keep(path, stat, info)
            except FileNotFoundError:
                continue  # deleted since its name was read
            given = info.ref.key
            objects.append(info)
            left -= 1
        if after:
            self._names.let_go()
        return ListPage(objects=objects, common_prefixes=common)

    def _write_document(self, bucket: BucketFolder, path: Path, text: bytes) -> None:
        draft = Draft(bucket)
        try:
            draft.append([text])
            if self._durable:
                os.fsync(draft.descriptor)
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(draft.path, path)
        finally:
            draft.close()


def _refusal(error: PermissionError) -> str:
    """Return why the store may not read something, without the place on its machine."""
    return f"the store may not read it ({error.strerror})"


@lru_cache(maxsize=_MAX_PATHS)
def _path(path: bytes) -> Path:
    return Path(os.fsdecode(path))


def _info(ref: ObjectRef, stat: os.stat_result, facts: Facts) -> ObjectInfo:
    return ObjectInfo(
        ref=ref,
        size=stat.st_size,
        etag=facts.etag,
        modified_at=_time(stat.st_mtime_ns),
        meta=facts.meta,
        part_sizes=facts.part_sizes,
        part_checksums=facts.part_checksums,
    )


def _time(nanoseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=nanoseconds // 1000)


def _key(ref: ObjectRef) -> bytes:
    return ref.key.encode()


def _require_key(ref: ObjectRef) -> None:
    if not 1 <= len(_key(ref)) <= 1024:
        raise ValueError(f"a key must have 1 to 1024 bytes of UTF-8, got {len(_key(ref))}: {ref.key[:80]!r}")


def _is_folder_name(name: str) -> bool:
    return bool(name) and name[0] != "." and "/" not in name and "\0" not in name and len(name.encode()) <= 255


def _no_guard() -> None:
    """Let any write pass."""
