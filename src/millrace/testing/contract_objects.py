"""What every ObjectStore must do: subclass ObjectStoreContract and give it a `store` fixture."""

import asyncio
import base64
import hashlib
import os
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import replace

import pytest

from millrace.names import ObjectRef
from millrace.ports.objects import (
    BadDigest,
    BucketExists,
    BucketNotEmpty,
    InvalidPart,
    NoSuchBucket,
    NoSuchKey,
    NoSuchUpload,
    ObjectMeta,
    ObjectStore,
    PartTooSmall,
    PreconditionFailed,
)

__all__ = ["HOSTILE_KEYS", "ObjectStoreContract", "chunks_of", "read_all"]

HOSTILE_KEYS = (
    "../x",
    "/x",
    "a//b",
    "a/",
    "a",
    "a/b",
    "a/b/c",
    ".",
    "..",
    "./x",
    "x/..",
    "x/.",
    ".millrace/x",
    ".millrace-tmp/x",
    "a.txt",
    "a0",
    "%2F",
    "~.s.d",
    "new\nline",
    "sp ace+plus%20&=?#",
    "é" * 512,
    "n" * 255 + "/" + "m" * 256,
    "q" * 1024,
    "q" * 200,
    "q" * 201,
    "“ü”/日本/\U0001f600",
)
"""Keys that tempt a store on a file system."""


def _tagged(tags: Mapping[str, str]) -> Callable[[ObjectMeta], ObjectMeta]:
    return lambda meta: replace(meta, tags=tags)


async def chunks_of(*chunks: bytes) -> AsyncIterator[bytes]:
    """Yield the chunks, as a request's body does."""
    for chunk in chunks:
        yield chunk


async def read_all(store: ObjectStore, ref: ObjectRef, *, start: int = 0, length: int | None = None) -> bytes:
    """Return an object's bytes."""
    return b"".join([chunk async for chunk in store.read(ref, start=start, length=length)])


def crc32(data: bytes) -> str:
    """Return a CRC32 as S3 writes it."""
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


class ObjectStoreContract:
    """The contract of ports/objects.py."""

    @pytest.fixture
    async def bucket(self, store: ObjectStore) -> str:
        """An empty bucket."""
        await store.create_bucket("box", region="eu-west-1", owner="123456789012")
        return "box"

    async def put(self, store: ObjectStore, key: str, data: bytes = b"x") -> None:
        await store.put(ObjectRef("box", key), chunks_of(data))

    async def keys(self, store: ObjectStore, prefix: str = "") -> list[str]:
        page = await store.list_objects("box", prefix=prefix)
        return [info.ref.key for info in page.objects]

    # --- buckets

    async def test_a_bucket_tells_what_it_was_made_with(self, store: ObjectStore, bucket: str) -> None:
        """A bucket knows its region, owner and time."""
        info = await store.get_bucket(bucket)
        assert (info.name, info.region, info.owner) == ("box", "eu-west-1", "123456789012")
        assert info.created_at.tzinfo is not None
        assert [found.name for found in await store.list_buckets()] == ["box"]

    async def test_a_bucket_is_made_once(self, store: ObjectStore, bucket: str) -> None:
        """A taken name is refused."""
        with pytest.raises(BucketExists):
            await store.create_bucket(bucket, region="us-east-1", owner="1")

    async def test_a_bucket_with_objects_stays(self, store: ObjectStore, bucket: str) -> None:
        """A bucket is deleted only when the last object is gone, wherever the store keeps it."""
        for key in ("a/b/c", "a//b"):
            await self.put(store, key)
            with pytest.raises(BucketNotEmpty):
                await store.delete_bucket(bucket)
            await store.delete(ObjectRef(bucket, key))
        await store.delete_bucket(bucket)
        assert await store.list_buckets() == []

    async def test_what_is_in_no_bucket_names_the_bucket(self, store: ObjectStore) -> None:
        """Every call on a missing bucket says that the bucket is missing, not the object."""
        ref = ObjectRef("nowhere", "key")
        with pytest.raises(NoSuchBucket):
            await store.get_bucket("nowhere")
        with pytest.raises(NoSuchBucket):
            await store.get(ref)
        with pytest.raises(NoSuchBucket):
            await store.put(ref, chunks_of(b""))
        with pytest.raises(NoSuchBucket):
            await store.open_writer(ref)
        with pytest.raises(NoSuchBucket):
            await store.delete(ref)
        with pytest.raises(NoSuchBucket):
            await store.list_objects("nowhere")
        with pytest.raises(NoSuchBucket):
            await store.create_upload(ref)
        with pytest.raises(NoSuchBucket):
            await store.delete_bucket("nowhere")

    async def test_a_bucket_keeps_documents(self, store: ObjectStore, bucket: str) -> None:
        """A bucket's configurations are stored as text, by kind."""
        assert await store.get_bucket_document(bucket, "cors") is None
        await store.put_bucket_document(bucket, "cors", "é <x/>")
        assert await store.get_bucket_document(bucket, "cors") == "é <x/>"
        await store.put_bucket_document(bucket, "cors", None)
        await store.put_bucket_document(bucket, "cors", None)
        assert await store.get_bucket_document(bucket, "cors") is None

    async def test_a_bucket_made_anew_is_empty(self, store: ObjectStore, bucket: str) -> None:
        """Nothing of a deleted bucket shows in a later one of its name."""
        await store.put_bucket_document(bucket, "cors", "x")
        upload = await store.create_upload(ObjectRef(bucket, "k"))
        await store.delete_bucket(bucket)
        await store.create_bucket(bucket, region="us-east-1", owner="2")
        assert await store.get_bucket_document(bucket, "cors") is None
        assert await store.list_uploads(bucket) == []
        with pytest.raises(NoSuchUpload):
            await store.get_upload(upload.ref, upload.upload_id)

    # --- objects

    async def test_an_object_reads_back(self, store: ObjectStore, bucket: str) -> None:
        """Bytes, MD5, size and attachments come back as they were given."""
        data = os.urandom(3_000_000)
        meta = ObjectMeta(
            headers={"content-type": "text/csv", "cache-control": "no-store"},
            user={"who": "me", "näme": "“wért”"},
            tags={"k": "v", "ü": ""},
        )
        ref = ObjectRef(bucket, "data/one.bin")
        pieces = [data[at : at + 70_000] for at in range(0, len(data), 70_000)]
        put = await store.put(ref, chunks_of(*pieces), meta, checksum_algorithms=["crc32"])
        got = await store.get(ref)
        assert got == put
        assert (got.size, got.etag) == (len(data), hashlib.md5(data).hexdigest())
        assert dict(got.meta.headers) == dict(meta.headers)
        assert dict(got.meta.user) == dict(meta.user)
        assert dict(got.meta.tags) == dict(meta.tags)
        assert dict(got.meta.checksums) == {"crc32": crc32(data)}
        assert await read_all(store, ref) == data
        assert await read_all(store, ref, start=10, length=5) == data[10:15]
        assert await read_all(store, ref, start=len(data) - 5) == data[-5:]
        assert await read_all(store, ref, start=len(data)) == b""

    async def test_an_empty_object_is_an_object(self, store: ObjectStore, bucket: str) -> None:
        """No bytes make an object, too."""
        ref = ObjectRef(bucket, "empty")
        await store.put(ref, chunks_of())
        assert (await store.get(ref)).size == 0
        assert await read_all(store, ref) == b""

    async def test_large_attachments_are_kept(self, store: ObjectStore, bucket: str) -> None:
        """Attachments of any size that S3 allows (2 kB of metadata, 10 tags) survive, even where files hold less."""
        meta = ObjectMeta(
            user={f"k{n}": "ü" * 100 for n in range(10)},
            tags={f"t{n}" + "é" * 120: "v" * 256 for n in range(10)},
        )
        ref = ObjectRef(bucket, "large")
        await store.put(ref, chunks_of(b"1"), meta)
        got = (await store.get(ref)).meta
        assert (dict(got.user), dict(got.tags)) == (dict(meta.user), dict(meta.tags))
        await store.put(ref, chunks_of(b"2"))
        assert (await store.get(ref)).meta.user == {}

    async def test_a_reader_sees_one_version(self, store: ObjectStore, bucket: str) -> None:
        """An object that is replaced while it is read is read to its end in its old version."""
        ref = ObjectRef(bucket, "k")
        old = os.urandom(5_000_000)
        await store.put(ref, chunks_of(old))
        reader = store.read(ref)
        first = await anext(reader)
        await store.put(ref, chunks_of(b"new"))
        assert first + b"".join([chunk async for chunk in reader]) == old
        assert await read_all(store, ref) == b"new"

    async def test_a_broken_body_leaves_the_old_object(self, store: ObjectStore, bucket: str) -> None:
        """A body that ends with an error stores nothing, and leaves what was there."""
        ref = ObjectRef(bucket, "k")
        await store.put(ref, chunks_of(b"old"))

        async def broken() -> AsyncIterator[bytes]:
            yield b"n" * 3_000_000
            raise ConnectionError("gone")

        with pytest.raises(ConnectionError):
            await store.put(ref, broken())
        assert await read_all(store, ref) == b"old"
        assert await self.keys(store) == ["k"]

    async def test_wrong_digests_store_nothing(self, store: ObjectStore, bucket: str) -> None:
        """MD5 and checksums that do not fit the bytes are refused."""
        ref = ObjectRef(bucket, "k")
        with pytest.raises(BadDigest):
            await store.put(ref, chunks_of(b"data"), expect_md5=b"0" * 16)
        with pytest.raises(BadDigest):
            await store.put(ref, chunks_of(b"data"), ObjectMeta(checksums={"crc32": "AAAAAA=="}))
        with pytest.raises(NoSuchKey):
            await store.get(ref)

    async def test_a_checksum_may_come_after_the_body(self, store: ObjectStore, bucket: str) -> None:
        """A trailer's checksum, added while the chunks are taken, is verified."""
        given: dict[str, str] = {}

        async def body(trailer: str) -> AsyncIterator[bytes]:
            yield b"data"
            given["crc32"] = trailer

        ref, meta = ObjectRef(bucket, "k"), ObjectMeta(checksums=given)
        with pytest.raises(BadDigest):
            await store.put(ref, body("AAAAAA=="), meta, checksum_algorithms=["crc32"])
        given.clear()
        info = await store.put(ref, body(crc32(b"data")), meta, checksum_algorithms=["crc32"])
        assert info.meta.checksums == {"crc32": crc32(b"data")}

    async def test_every_checksum_is_known(self, store: ObjectStore, bucket: str) -> None:
        """The five algorithms give their published check values of "123456789"."""
        ref = ObjectRef(bucket, "k")
        algorithms = ["crc32", "crc32c", "crc64nvme", "sha1", "sha256"]
        info = await store.put(ref, chunks_of(b"1234", b"56789"), checksum_algorithms=algorithms)
        found = {name: base64.b64decode(value).hex() for name, value in info.meta.checksums.items()}
        assert found == {
            "crc32": "cbf43926",
            "crc32c": "e3069283",
            "crc64nvme": "ae8b14860a799888",
            "sha1": hashlib.sha1(b"123456789").hexdigest(),
            "sha256": hashlib.sha256(b"123456789").hexdigest(),
        }

    async def test_conditions_hold(self, store: ObjectStore, bucket: str) -> None:
        """A put may demand that there is no object, or that it still has a known ETag."""
        ref = ObjectRef(bucket, "k")
        with pytest.raises(NoSuchKey):
            await store.put(ref, chunks_of(b"0"), if_match="0" * 32)
        first = await store.put(ref, chunks_of(b"1"), if_none_match="*")
        with pytest.raises(PreconditionFailed):
            await store.put(ref, chunks_of(b"2"), if_none_match="*")
        with pytest.raises(PreconditionFailed):
            await store.put(ref, chunks_of(b"2"), if_match="0" * 32)
        await store.put(ref, chunks_of(b"3"), if_match=first.etag)
        assert await read_all(store, ref) == b"3"

    async def test_a_condition_is_decided_last(self, store: ObjectStore, bucket: str) -> None:
        """An object that appears while the body arrives still makes "only if none" fail."""
        ref = ObjectRef(bucket, "k")

        async def slow() -> AsyncIterator[bytes]:
            yield b"mine"
            await store.put(ref, chunks_of(b"theirs"))

        with pytest.raises(PreconditionFailed):
            await store.put(ref, slow(), if_none_match="*")
        assert await read_all(store, ref) == b"theirs"

    async def test_attachments_change_without_the_bytes(self, store: ObjectStore, bucket: str) -> None:
        """Tags can be replaced; bytes, ETag and time stay."""
        ref = ObjectRef(bucket, "k")
        before = await store.put(ref, chunks_of(b"x"), ObjectMeta(user={"a": "b"}))
        for tags in ({"k": "v"}, {"k" * 128 + str(n): "v" * 256 for n in range(10)}, {}):
            await store.update_meta(ref, _tagged(tags))
            after = await store.get(ref)
            assert dict(after.meta.tags) == tags
            assert (after.etag, after.modified_at, dict(after.meta.user)) == (
                before.etag,
                before.modified_at,
                {"a": "b"},
            )
        with pytest.raises(NoSuchKey):
            await store.update_meta(ObjectRef(bucket, "none"), lambda meta: meta)
        with pytest.raises(NoSuchBucket):
            await store.update_meta(ObjectRef("nowhere", "k"), lambda meta: meta)

    async def test_attachments_change_in_one_step(self, store: ObjectStore, bucket: str) -> None:
        """Changes at once are all kept; one that refuses changes nothing; a new version's checksums are its own."""
        ref = ObjectRef(bucket, "k")
        await store.put(ref, chunks_of(b"old"), checksum_algorithms=["crc32"])
        new = await store.put(ref, chunks_of(b"new bytes"), checksum_algorithms=["crc32"])

        def adding(number: int) -> Callable[[ObjectMeta], ObjectMeta]:
            return lambda meta: replace(meta, tags={**meta.tags, f"k{number}": "v"})

        await asyncio.gather(*(store.update_meta(ref, adding(number)) for number in range(10)))

        def refuse(meta: ObjectMeta) -> ObjectMeta:
            raise LookupError(f"{len(meta.tags)} tags")

        with pytest.raises(LookupError, match="10 tags"):
            await store.update_meta(ref, refuse)
        after = await store.get(ref)
        assert sorted(after.meta.tags) == [f"k{number}" for number in range(10)]
        assert (after.etag, after.meta.checksums) == (new.etag, new.meta.checksums)

    async def test_a_copy_has_the_same_bytes(self, store: ObjectStore, bucket: str) -> None:
        """A copy keeps what is attached, or takes other attachments; an object may be copied onto itself."""
        data = os.urandom(2_000_000)
        source, target = ObjectRef(bucket, "a"), ObjectRef(bucket, "b/c")
        await store.put(source, chunks_of(data), ObjectMeta(user={"who": "me"}))
        await store.copy(source, target)
        assert await read_all(store, target) == data
        assert (await store.get(target)).meta.user == {"who": "me"}
        await store.copy(source, source, ObjectMeta(user={"who": "you"}))
        assert await read_all(store, source) == data
        assert (await store.get(source)).meta.user == {"who": "you"}
        with pytest.raises(NoSuchKey):
            await store.copy(ObjectRef(bucket, "none"), target)

    async def test_deleting_tells_what_was_there(self, store: ObjectStore, bucket: str) -> None:
        """Deleting twice is harmless."""
        await self.put(store, "a/b/c")
        assert await store.delete(ObjectRef(bucket, "a/b/c")) is True
        assert await store.delete(ObjectRef(bucket, "a/b/c")) is False
        assert await store.delete(ObjectRef(bucket, "a")) is False
        with pytest.raises(NoSuchKey):
            await store.get(ObjectRef(bucket, "a/b/c"))

    async def test_a_writer_shows_nothing_before_commit(self, store: ObjectStore, bucket: str) -> None:
        """What a writer wrote appears at once at commit, or never."""
        ref = ObjectRef(bucket, "out/part")
        writer = await store.open_writer(ref, ObjectMeta(headers={"content-type": "text/csv"}))
        reused = bytearray(b"ab" * 700_000)
        await writer.write(memoryview(reused))
        reused[:2] = b"XX"
        await writer.write(b"end")
        with pytest.raises(NoSuchKey):
            await store.get(ref)
        info = await writer.commit()
        await writer.abort()
        assert await read_all(store, ref) == b"ab" * 700_000 + b"end"
        assert info == await store.get(ref)
        assert info.meta.headers == {"content-type": "text/csv"}
        other = await store.open_writer(ref)
        await other.write(b"lost")
        await other.abort()
        await other.abort()
        assert (await store.get(ref)).etag == info.etag

    async def test_a_local_file_has_the_bytes(self, store: ObjectStore, bucket: str) -> None:
        """Where objects are files, the descriptor is open on this version and the path names it."""
        ref = ObjectRef(bucket, "a/b")
        await store.put(ref, chunks_of(b"bytes"))
        with pytest.raises(NoSuchKey):
            await store.open_local(ObjectRef(bucket, "none"))
        local = await store.open_local(ref)
        if local is None:
            return
        info, path, descriptor = local
        try:
            assert info == await store.get(ref)
            assert path.read_bytes() == os.read(descriptor, 100) == b"bytes"
        finally:
            os.close(descriptor)

    # --- keys

    async def test_hostile_keys_are_just_keys(self, store: ObjectStore, bucket: str) -> None:
        """Any 1 to 1,024 bytes of UTF-8 are a key, side by side, in any order of creation."""
        for order in (HOSTILE_KEYS, tuple(reversed(HOSTILE_KEYS))):
            for key in order:
                await self.put(store, key, key.encode())
            for key in order:
                assert await read_all(store, ObjectRef(bucket, key)) == key.encode()
            assert await self.keys(store) == sorted(HOSTILE_KEYS, key=str.encode)
            for key in order:
                await self.put(store, key, b"again " + key.encode())
            for key in order:
                assert await read_all(store, ObjectRef(bucket, key)) == b"again " + key.encode()
            for key in order:
                assert await store.delete(ObjectRef(bucket, key)) is True
                with pytest.raises(NoSuchKey):
                    await store.get(ObjectRef(bucket, key))
            assert await self.keys(store) == []
        await store.delete_bucket(bucket)

    async def test_keys_have_limits(self, store: ObjectStore, bucket: str) -> None:
        """No key is empty or longer than 1,024 bytes."""
        for key in ("", "é" * 513):
            with pytest.raises(ValueError, match="1 to 1024 bytes"):
                await self.put(store, key)

    # --- listing

    async def fill(self, store: ObjectStore, keys: Iterable[str]) -> None:
        for key in keys:
            await self.put(store, key, key.encode())

    async def test_listing_is_in_byte_order(self, store: ObjectStore, bucket: str) -> None:
        """Folders do not disturb the order of keys, and entries tell size, ETag and attachments."""
        keys = ["a!", "a.txt", "a/b", "a/b.c", "a/b/c", "a0", "A", "é", "zz", "a/é"]
        await self.fill(store, keys)
        page = await store.list_objects(bucket)
        assert [info.ref.key for info in page.objects] == sorted(keys, key=str.encode)
        assert page.next_after is None
        for info in page.objects:
            assert info == await store.get(info.ref)

    async def test_a_listing_is_fresh(self, store: ObjectStore, bucket: str) -> None:
        """A listing shows every write and deletion that was finished before it."""
        expected = set()
        for n in range(30):
            await self.put(store, f"d{n % 3}/k{n}")
            expected.add(f"d{n % 3}/k{n}")
            assert set(await self.keys(store)) == expected
        for key in sorted(expected):
            await store.delete(ObjectRef(bucket, key))
            expected.remove(key)
            assert set(await self.keys(store)) == expected

    async def test_a_prefix_is_a_string(self, store: ObjectStore, bucket: str) -> None:
        """A prefix selects keys by their first characters, within a folder's name as well."""
        await self.fill(store, ["data", "data/1", "data/2", "data1/1", "dat", "data//x"])
        assert await self.keys(store, "data") == ["data", "data//x", "data/1", "data/2", "data1/1"]
        assert await self.keys(store, "data/") == ["data//x", "data/1", "data/2"]
        assert await self.keys(store, "data/1") == ["data/1"]
        assert await self.keys(store, "data//") == ["data//x"]
        assert await self.keys(store, "no/such") == []

    async def test_a_delimiter_folds_keys(self, store: ObjectStore, bucket: str) -> None:
        """Keys with the delimiter after the prefix fold into common prefixes, paged with the rest in order."""
        await self.fill(store, ["k/a", "k/b/1", "k/b/2", "k/b.txt", "k//x", "k/c/d/e", "k/z", "l/m"])
        page = await store.list_objects(bucket, prefix="k/", delimiter="/")
        assert [info.ref.key for info in page.objects] == ["k/a", "k/b.txt", "k/z"]
        assert page.common_prefixes == ["k//", "k/b/", "k/c/"]
        seen, after = [], ""
        while True:
            page = await store.list_objects(bucket, prefix="k/", delimiter="/", after=after, limit=1)
            seen += [*(info.ref.key for info in page.objects), *page.common_prefixes]
            if page.next_after is None:
                break
            after = page.next_after
        assert seen == ["k//", "k/a", "k/b.txt", "k/b/", "k/c/", "k/z"]

    # --- multipart uploads

    async def test_an_upload_joins_its_parts(self, store: ObjectStore, bucket: str) -> None:
        """Parts join in order of number; the ETag is the MD5 of MD5s; attachments are those of the beginning."""
        ref = ObjectRef(bucket, "big")
        meta = ObjectMeta(user={"who": "me"}, checksum_type="FULL_OBJECT")
        upload = await store.create_upload(ref, meta, checksum_algorithm="crc32")
        assert await store.get_upload(ref, upload.upload_id) == upload
        assert [found.upload_id for found in await store.list_uploads(bucket)] == [upload.upload_id]
        data = [os.urandom(5 * 1024 * 1024), os.urandom(5 * 1024 * 1024), b"end"]
        await store.put_part(ref, upload.upload_id, 7, chunks_of(b"replaced"))
        parts = [
            await store.put_part(ref, upload.upload_id, number, chunks_of(data[index]))
            for index, number in ((2, 7), (0, 1), (1, 3))
        ]
        parts.sort(key=lambda part: part.number)
        assert await store.list_parts(ref, upload.upload_id) == parts
        with pytest.raises(NoSuchKey):
            await store.get(ref)
        chosen = [(part.number, part.etag) for part in parts]
        info = await store.complete_upload(ref, upload.upload_id, chosen)
        md5s = b"".join(hashlib.md5(part).digest() for part in data)
        assert info.etag == f"{hashlib.md5(md5s).hexdigest()}-3"
        assert info == await store.get(ref)
        assert await read_all(store, ref) == b"".join(data)
        assert info.meta.user == {"who": "me"}
        assert info.meta.checksums == {"crc32": crc32(b"".join(data))}
        assert await store.list_uploads(bucket) == []
        with pytest.raises(NoSuchUpload):
            await store.put_part(ref, upload.upload_id, 1, chunks_of(b"late"))

    async def test_a_composite_checksum_is_that_of_the_parts(self, store: ObjectStore, bucket: str) -> None:
        """A COMPOSITE checksum is the checksum of the parts' checksums, and tells their number."""
        ref = ObjectRef(bucket, "big")
        meta = ObjectMeta(checksum_type="COMPOSITE")
        upload = await store.create_upload(ref, meta, checksum_algorithm="sha256")
        data = [b"a" * 5 * 1024 * 1024, b"b"]
        parts = [await store.put_part(ref, upload.upload_id, n + 1, chunks_of(data[n])) for n in range(2)]
        info = await store.complete_upload(ref, upload.upload_id, [(part.number, part.etag) for part in parts])
        digest = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in data)).digest()
        assert info.meta.checksums == {"sha256": base64.b64encode(digest).decode() + "-2"}
        assert info.meta.checksum_type == "COMPOSITE"

    async def test_a_completion_must_fit(self, store: ObjectStore, bucket: str) -> None:
        """Missing parts, other ETags, small parts and wrong conditions are refused, and the upload goes on."""
        ref = ObjectRef(bucket, "big")
        upload = (await store.create_upload(ref)).upload_id
        one = await store.put_part(ref, upload, 1, chunks_of(b"small"))
        two = await store.put_part(ref, upload, 2, chunks_of(b"end"))
        for wrong in ([], [(1, "0" * 32)], [(1, one.etag), (3, two.etag)]):
            with pytest.raises(InvalidPart):
                await store.complete_upload(ref, upload, wrong)
        with pytest.raises(PartTooSmall):
            await store.complete_upload(ref, upload, [(1, one.etag), (2, two.etag)])
        await store.put(ref, chunks_of(b"there"))
        with pytest.raises(PreconditionFailed):
            await store.complete_upload(ref, upload, [(2, two.etag)], if_none_match="*")
        await store.complete_upload(ref, upload, [(2, f'"{two.etag}"')])
        assert await read_all(store, ref) == b"end"

    async def test_a_part_is_verified(self, store: ObjectStore, bucket: str) -> None:
        """A part with a wrong digest is not stored."""
        ref = ObjectRef(bucket, "big")
        upload = (await store.create_upload(ref)).upload_id
        with pytest.raises(BadDigest):
            await store.put_part(ref, upload, 1, chunks_of(b"x"), checksums={"crc32": "AAAAAA=="})
        with pytest.raises(BadDigest):
            await store.put_part(ref, upload, 1, chunks_of(b"x"), expect_md5=b"0" * 16)
        assert await store.list_parts(ref, upload) == []

    async def test_an_aborted_upload_is_gone(self, store: ObjectStore, bucket: str) -> None:
        """After an abort nothing of the upload is left."""
        ref = ObjectRef(bucket, "big")
        upload = (await store.create_upload(ref)).upload_id
        await store.put_part(ref, upload, 1, chunks_of(b"x"))
        with pytest.raises(NoSuchUpload):
            await store.abort_upload(ObjectRef(bucket, "other"), upload)
        await store.abort_upload(ref, upload)
        for unknown in (upload, "../../x", ""):
            with pytest.raises(NoSuchUpload):
                await store.abort_upload(ref, unknown)
            with pytest.raises(NoSuchUpload):
                await store.list_parts(ref, unknown)
        assert await store.list_uploads(bucket) == []

    async def test_uploads_are_listed_by_key(self, store: ObjectStore, bucket: str) -> None:
        """Uploads in progress are listed by key, then by time, and by prefix."""
        for key in ("b", "a/2", "a/1", "b"):
            await store.create_upload(ObjectRef(bucket, key))
        uploads = await store.list_uploads(bucket)
        assert [upload.ref.key for upload in uploads] == ["a/1", "a/2", "b", "b"]
        assert uploads[2].initiated_at <= uploads[3].initiated_at
        assert [upload.ref.key for upload in await store.list_uploads(bucket, prefix="a/")] == ["a/1", "a/2"]
