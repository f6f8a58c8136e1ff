"""What every ObjectStore must do with resumable outputs: subclass DraftContract and give it a `store` fixture."""

import asyncio
from dataclasses import replace

import pytest

from millrace.names import ObjectRef
from millrace.ports.objects import (
    DraftHeld,
    DraftLost,
    NoSuchBucket,
    NoSuchKey,
    ObjectMeta,
    ObjectStore,
    ResumableWriter,
)
from millrace.testing.contract_objects import read_all

__all__ = ["DraftContract"]

OUTPUT = ObjectRef("shop", "a/b.out")


async def opened(store: ObjectStore, at: int, *, meta: ObjectMeta | None = None) -> ResumableWriter:
    """Open the draft of an output."""
    return await store.open_resumable(OUTPUT, meta, draft="job-1", at=at)


class DraftContract:
    """The contract of ResumableWriter; the store waits for nobody, or a little."""

    @pytest.fixture
    def store(self) -> ObjectStore:
        raise NotImplementedError("a backend gives its store")

    @pytest.fixture(autouse=True)
    async def bucket(self, store: ObjectStore) -> None:
        """An empty bucket."""
        await store.create_bucket("shop", region="eu-west-1", owner="123456789012")

    async def test_an_output_is_written_at_once(self, store: ObjectStore) -> None:
        """Who needs no checkpoint gets the same object as from any writer."""
        writer = await opened(store, 0, meta=ObjectMeta(headers={"content-type": "text/csv"}))
        await writer.write(b"one,")
        await writer.write(memoryview(b"two"))
        with pytest.raises(NoSuchKey):
            await store.get(OUTPUT)
        info = await writer.commit()
        assert (info.size, info.meta.headers) == (7, {"content-type": "text/csv"})
        assert info.etag.endswith("-1")
        assert await store.get(OUTPUT) == info
        assert await read_all(store, OUTPUT) == b"one,two"

    async def test_a_writer_goes_on_at_a_checkpoint(self, store: ObjectStore) -> None:
        """What was written after it is cut off."""
        first = await opened(store, 0)
        await first.write(b"kept,")
        assert await first.checkpoint() == 5
        await first.write(b"lost")
        await first.suspend()
        second = await opened(store, 5)
        await second.write(b"new")
        assert await second.checkpoint() == 8
        await second.commit()
        assert await read_all(store, OUTPUT) == b"kept,new"

    async def test_a_writer_goes_on_before_the_last_checkpoint(self, store: ObjectStore) -> None:
        """The caller says how much of it counts, for it may not have come to note the last one."""
        first = await opened(store, 0)
        for text in (b"one,", b"two,", b"three,"):
            await first.write(text)
            await first.checkpoint()
        await first.suspend()
        second = await opened(store, 4)
        await second.write(b"2")
        await second.commit()
        assert await read_all(store, OUTPUT) == b"one,2"

    async def test_a_checkpoint_counts_what_earlier_writers_wrote(self, store: ObjectStore) -> None:
        """A writer that adds nothing tells where it began."""
        first = await opened(store, 0)
        assert await first.checkpoint() == 0
        await first.write(b"12345")
        await first.checkpoint()
        await first.suspend()
        second = await opened(store, 3)
        assert await second.checkpoint() == 3
        await second.commit()
        assert await read_all(store, OUTPUT) == b"123"

    async def test_a_draft_is_begun_anew_at_0(self, store: ObjectStore) -> None:
        """Whatever lies there is forgotten."""
        first = await opened(store, 0)
        await first.write(b"old")
        await first.checkpoint()
        await first.suspend()
        await (await opened(store, 0)).commit()
        assert await read_all(store, OUTPUT) == b""

    async def test_a_draft_that_is_not_there_is_lost(self, store: ObjectStore) -> None:
        """So is one that was aborted, discarded or committed."""
        with pytest.raises(DraftLost, match="job-1"):
            await opened(store, 1)
        for end in ("abort", "discard", "commit"):
            writer = await opened(store, 0)
            await writer.write(b"abc")
            await writer.checkpoint()
            match end:
                case "abort":
                    await writer.abort()
                case "discard":
                    await writer.suspend()
                    await store.discard_draft("shop", "job-1")
                case _:
                    await writer.commit()
            with pytest.raises(DraftLost, match="job-1"):
                await opened(store, 3)
        assert await read_all(store, OUTPUT) == b"abc"

    async def test_a_draft_that_is_too_short_is_lost(self, store: ObjectStore) -> None:
        """And is not touched: who is content with less of it may have it."""
        first = await opened(store, 0)
        await first.write(b"abc")
        await first.checkpoint()
        await first.suspend()
        with pytest.raises(DraftLost, match="4 bytes are to be kept, and it has 3"):
            await opened(store, 4)
        second = await opened(store, 3)
        await second.commit()
        assert await read_all(store, OUTPUT) == b"abc"

    async def test_a_draft_has_one_writer(self, store: ObjectStore) -> None:
        """Nobody else goes on with it, begins it anew or discards it while that one is open."""
        first = await opened(store, 0)
        await first.write(b"abc")
        await first.checkpoint()
        for at in (0, 3):
            with pytest.raises(DraftHeld, match="job-1"):
                await opened(store, at)
        with pytest.raises(DraftHeld, match="job-1"):
            await store.discard_draft("shop", "job-1")
        await first.commit()
        assert await read_all(store, OUTPUT) == b"abc"

    async def test_drafts_do_not_meet(self, store: ObjectStore) -> None:
        """Two drafts of one object are two; the last one committed is the object."""
        writers = [await store.open_resumable(OUTPUT, draft=f"job-{number}", at=0) for number in range(2)]
        for number, writer in enumerate(writers):
            await writer.write(b"%d" % number)
        await writers[1].commit()
        await writers[0].commit()
        assert await read_all(store, OUTPUT) == b"0"

    async def test_drafts_are_no_objects(self, store: ObjectStore) -> None:
        """Nothing is listed before it is committed."""
        writer = await opened(store, 0)
        await writer.write(b"abc")
        await writer.checkpoint()
        await writer.suspend()
        assert not (await store.list_objects("shop")).objects
        await store.discard_draft("shop", "job-1")
        await store.discard_draft("shop", "job-1")

    async def test_a_draft_is_read(self, store: ObjectStore) -> None:
        """As far as its writer has made it durable, before and after that one has let go of it."""
        writer = await opened(store, 0)
        await writer.write(b"abc")
        await writer.checkpoint()
        await writer.write(b"lost")
        assert b"".join([chunk async for chunk in store.read_draft("shop", "job-1", length=2)]) == b"ab"
        await writer.suspend()
        assert b"".join([chunk async for chunk in store.read_draft("shop", "job-1", length=3)]) == b"abc"
        assert [chunk async for chunk in store.read_draft("shop", "job-1", length=0)] == []

    async def test_a_draft_is_read_without_waiting_for_the_disk(self, store: ObjectStore) -> None:
        """Once it is flushed; writing goes on, and what comes later is read after another flush."""
        writer = await opened(store, 0)
        for expected in (b"abc", b"abcabc"):
            await writer.write(b"abc")
            size = await writer.flush()
            read = [chunk async for chunk in store.read_draft("shop", "job-1", length=size)]
            assert b"".join(read) == expected
        await writer.abort()

    async def test_a_draft_that_has_not_as_many_bytes_is_not_read(self, store: ObjectStore) -> None:
        """Nor one that is not there."""
        writer = await opened(store, 0)
        await writer.write(b"abc")
        await writer.checkpoint()
        await writer.suspend()
        for draft, length in (("job-1", 8), ("job-2", 0)):
            with pytest.raises(DraftLost, match=draft):
                async for _ in store.read_draft("shop", draft, length=length):
                    pass
        with pytest.raises(NoSuchBucket):
            async for _ in store.read_draft("nowhere", "job-1", length=0):
                pass

    async def test_writing_goes_on_during_a_checkpoint(self, store: ObjectStore) -> None:
        """Of what is written meanwhile it makes some durable or none, in order."""
        writer = await opened(store, 0)
        sizes = []
        for number in range(20):
            await writer.write(b"%03d," % number)
            checkpoint = asyncio.create_task(writer.checkpoint())
            await writer.write(b"|")
            sizes.append(await checkpoint)
        assert all(size in (5 * number + 4, 5 * number + 5) for number, size in enumerate(sizes))
        await writer.commit()
        assert await read_all(store, OUTPUT) == b"".join(b"%03d,|" % number for number in range(20))

    async def test_a_closed_writer_writes_nothing(self, store: ObjectStore) -> None:
        """Closing it again, in whichever way, is harmless: the draft may be another's by now."""
        first = await opened(store, 0)
        await first.write(b"abc")
        await first.checkpoint()
        await first.suspend()
        second = await opened(store, 3)
        await first.abort()
        await first.suspend()
        for late in (first.write(b"x"), first.checkpoint(), first.commit()):
            with pytest.raises(RuntimeError, match="closed"):
                await late
        await second.commit()
        await second.abort()
        await second.suspend()
        assert await read_all(store, OUTPUT) == b"abc"

    @pytest.mark.parametrize("draft", ["", "A", "a/b", "..", "a.b", "x" * 101, "a\n"])
    async def test_names_of_drafts_are_plain(self, store: ObjectStore, draft: str) -> None:
        """Another name is refused before anything is touched."""
        with pytest.raises(ValueError, match="a draft's name must be 1 to 100 characters"):
            await store.open_resumable(OUTPUT, draft=draft, at=0)
        with pytest.raises(ValueError, match="a draft's name must be 1 to 100 characters"):
            await store.discard_draft("shop", draft)

    async def test_a_draft_is_continued_within_itself(self, store: ObjectStore) -> None:
        """No file has bytes before its first."""
        with pytest.raises(ValueError, match="0 or more bytes, got -1"):
            await opened(store, -1)

    async def test_a_draft_needs_a_bucket(self, store: ObjectStore) -> None:
        """As any writer does."""
        with pytest.raises(NoSuchBucket):
            await store.open_resumable(ObjectRef("nowhere", "x"), draft="job-1", at=0)
        with pytest.raises(NoSuchBucket):
            await store.discard_draft("nowhere", "job-1")

    async def test_an_output_tells_who_wrote_it(self, store: ObjectStore) -> None:
        """The origin is given with the meta, or at the commit where more is known."""
        resumable, plain = await opened(store, 0, meta=ObjectMeta(origin="begun")), await store.open_writer(OUTPUT)
        assert (await resumable.commit()).meta.origin == "begun"
        assert (await store.get(OUTPUT)).meta.origin == "begun"
        await plain.commit(origin="done")
        assert (await store.get(OUTPUT)).meta.origin == "done"
        assert [info.meta.origin for info in (await store.list_objects("shop")).objects] == ["done"]

    async def test_a_copy_is_not_of_the_same_origin(self, store: ObjectStore) -> None:
        """It is whoever copied it that wrote it, whether the meta is the source's or not."""
        writer = await store.open_writer(OUTPUT, ObjectMeta(user={"a": "b"}))
        written = await writer.commit(origin="job")
        copy = ObjectRef("shop", "copy")
        assert (await store.copy(OUTPUT, copy)).meta == ObjectMeta(user={"a": "b"})
        assert (await store.copy(OUTPUT, copy, written.meta)).meta.origin == ""
        assert (await store.get(copy)).meta.origin == ""

    async def test_an_origin_stays_when_tags_change(self, store: ObjectStore) -> None:
        """The bytes are still those that were written."""
        writer = await store.open_writer(OUTPUT)
        await writer.commit(origin="job")
        await store.update_meta(OUTPUT, lambda meta: replace(meta, tags={"seen": "yes"}))
        assert (await store.get(OUTPUT)).meta == ObjectMeta(tags={"seen": "yes"}, origin="job")
