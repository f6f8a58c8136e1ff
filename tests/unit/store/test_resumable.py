"""Outputs that are gone on with: whatever dies and whenever, the object is the same in the end."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.names import ObjectRef
from millrace.ports.objects import DraftHeld, DraftLost, NoSuchKey, ObjectMeta
from millrace.store.file_writer import output_facts
from millrace.store.filesystem import FilesystemObjects
from millrace.store.kept_draft import KeptDraft, lock_kept
from millrace.store.queued_sync import QueuedSync
from millrace.store.resumable import ResumableFileWriter
from millrace.testing.clock import ManualClock
from millrace.testing.contract_objects import read_all

OUT = ObjectRef("shop", "out")
PROGRAM = Path(__file__).parents[2] / "programs" / "resuming_writer.py"
BLOCK = 4096
TEXT = b"".join(b"%07d\n" % number for number in range(400_000))


async def opened(folder: Path, *, clock: ManualClock | None = None) -> FilesystemObjects:
    """Return a store with a bucket, whose outputs leave the cache soon."""
    store = FilesystemObjects(
        folder, chunk_bytes=5000, cached_output_bytes=BLOCK, output_block_bytes=BLOCK, durable=False, clock=clock
    )
    if not (folder / "shop").exists():
        await store.create_bucket("shop", region="us-east-1", owner="1")
    return store


def drafts(folder: Path) -> list[str]:
    """Return the names of the drafts that lie there."""
    return sorted(path.name for path in (folder / ".millrace/shop/drafts").iterdir())


@dataclass(frozen=True)
class Write:
    """Write so many bytes."""

    size: int
    as_view: bool


@dataclass(frozen=True)
class Checkpoint:
    """Make durable what was written."""


@dataclass(frozen=True)
class Die:
    """End without a word, and go on at that checkpoint, counted from the last."""

    back: int


STEPS = st.lists(
    st.one_of(
        st.builds(Write, size=st.integers(0, 3 * BLOCK), as_view=st.booleans()),
        st.builds(Write, size=st.integers(0, 200), as_view=st.booleans()),
        st.just(Checkpoint()),
        st.builds(Die, back=st.integers(0, 3)),
    ),
    max_size=25,
)


@settings(max_examples=150)  # it waits for the disk
@given(steps=STEPS, cached_blocks=st.integers(0, 2))
async def test_an_output_is_the_same_however_often_it_is_gone_on_with(
    tmp_path_factory: pytest.TempPathFactory,
    steps: Sequence[Write | Checkpoint | Die],
    cached_blocks: int,
) -> None:
    """Any writing, checkpoints and ends give the bytes of one undisturbed writing."""
    folder = tmp_path_factory.getbasetemp() / "any-order"
    store = FilesystemObjects(
        folder,
        chunk_bytes=5000,
        cached_output_bytes=cached_blocks * BLOCK,
        output_block_bytes=BLOCK,
        durable=False,
    )
    if not (folder / "shop").exists():
        await store.create_bucket("shop", region="us-east-1", owner="1")
    writer = await store.open_resumable(OUT, draft="job", at=0)
    at, kept = 0, [0]
    for step in steps:
        match step:
            case Write(size=size, as_view=as_view):
                piece = TEXT[at : at + size]
                await writer.write(memoryview(piece) if as_view else piece)
                at += len(piece)
            case Checkpoint():
                assert await writer.checkpoint() == at
                kept.append(at)
            case Die(back=back):
                await writer.suspend()
                kept = kept[: max(1, len(kept) - back)]
                at = kept[-1]
                writer = await store.open_resumable(OUT, draft="job", at=at)
    assert (await writer.commit()).size == at
    assert (folder / "shop" / "out").read_bytes() == TEXT[:at]


# --- the ends of processes


@asynccontextmanager
async def child(folder: Path, at: int, size: int) -> AsyncIterator["subprocess.Popen[str]"]:
    """Run the program that writes an output; kill it in the end, if it lives."""
    arguments = [sys.executable, str(PROGRAM), str(folder), str(at), str(size)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: "subprocess.Popen[str]", line: str) -> list[int]:
    """Return the sizes of the checkpoints that are told of up to a line, or to the second one for "kept"."""
    assert process.stdout is not None
    sizes = []
    for told in process.stdout:
        if told.strip().isdecimal():
            sizes.append(int(told))
        if told.strip() == line and (sizes or line != "checkpointing"):
            return sizes
        if line == "kept" and len(sizes) == 2:
            return sizes
    raise AssertionError(f"the program has ended without telling {line!r}")


@pytest.mark.parametrize("instant", ["open", "checkpointing", "kept", "committing"])
async def test_a_killed_writer_is_gone_on_with(tmp_path: Path, instant: str) -> None:
    """Killed at any instant, again and again, it loses nothing of what its checkpoints told; its lock goes with it."""
    store = await opened(tmp_path)
    size, at = 3_000_000, 0  # nobody is done with it before the kill
    for _ in range(3):
        async with child(tmp_path, at, size) as process:
            sizes = read_until(process, instant)
        at = sizes[-1] if sizes else at
        if not drafts(tmp_path):
            assert instant == "committing"
            break  # it was done before the end
        assert (tmp_path / ".millrace/shop/drafts/job").stat().st_size >= at
        with pytest.raises(NoSuchKey):
            await store.get(OUT)
    else:
        async with child(tmp_path, at, size) as process:
            read_until(process, "done")
    assert (await store.get(OUT)).meta.origin == "job"
    assert await read_all(store, OUT) == TEXT[:size]
    assert drafts(tmp_path) == []


async def test_a_writer_waits_for_the_end_of_the_one_before(tmp_path: Path) -> None:
    """It is kept out for as long as the other process lives, and goes on as soon as it does not."""
    store = await opened(tmp_path, clock=ManualClock())
    async with child(tmp_path, 0, 10**9) as process:
        at = read_until(process, "kept")[-1]
        with pytest.raises(DraftHeld):
            lock_kept(os.fsencode(tmp_path / ".millrace/shop/drafts/job"), make=True)
    writer = await store.open_resumable(OUT, draft="job", at=at)
    await writer.write(TEXT[at:200_000])
    await writer.commit()
    assert await read_all(store, OUT) == TEXT[:200_000]


# --- one writer at a time


@pytest.mark.parametrize("at", [0, 3])
async def test_a_writer_that_is_waited_for_gives_its_draft_free(tmp_path: Path, at: int) -> None:
    """Who comes too early goes on when the one before has suspended."""
    clock = ManualClock()
    store = await opened(tmp_path, clock=clock)
    first = await store.open_resumable(OUT, draft="job", at=0)
    await first.write(b"abc")
    await first.checkpoint()
    opening = asyncio.create_task(store.open_resumable(OUT, draft="job", at=at))
    await clock.sleepers(1)
    await first.suspend()
    clock.advance(1)
    second = await opening
    await second.write(b"d")
    await second.commit()
    assert await read_all(store, OUT) == b"abcd"[:at] + b"d"


async def test_what_was_committed_meanwhile_is_not_written_to(tmp_path: Path) -> None:
    """Who waited for the draft finds it gone, or begins another one; the object is left alone."""
    clock = ManualClock()
    store = await opened(tmp_path, clock=clock)
    first = await store.open_resumable(OUT, draft="job", at=0)
    await first.write(b"abc")
    await first.checkpoint()
    on, anew = (asyncio.create_task(store.open_resumable(OUT, draft="job", at=at)) for at in (3, 0))
    await clock.sleepers(2)
    await first.commit(origin="job")
    clock.advance(1)
    with pytest.raises(DraftLost, match="it is not there"):
        await on
    writer = await anew
    await writer.write(b"x")
    await writer.checkpoint()
    assert await read_all(store, OUT) == b"abc"
    assert (await store.get(OUT)).meta.origin == "job"
    await writer.abort()


async def test_a_lock_is_on_the_file_that_the_name_is_of(tmp_path: Path) -> None:
    """Who opens a file that another one then removes has not got the draft."""
    path = os.fsencode(tmp_path / "drafts" / "job")

    def take_and_remove() -> int:
        taken = 0
        for _ in range(300):
            try:
                descriptor = lock_kept(path, make=True)
            except DraftHeld:
                continue
            assert os.path.samestat(os.fstat(descriptor), os.stat(path))
            os.unlink(path)
            os.close(descriptor)
            taken += 1
        return taken

    taken = await asyncio.gather(*(asyncio.to_thread(take_and_remove) for _ in range(4)))
    assert any(taken)


async def test_aborting_leaves_a_draft_that_is_not_ones_own(tmp_path: Path) -> None:
    """As after somebody removed the file by hand, and another writer began anew."""
    first = draft_writer(tmp_path / "job", RecordingSync())
    (tmp_path / "job").unlink()
    second = draft_writer(tmp_path / "job", RecordingSync())
    await first.abort()
    assert (tmp_path / "job").exists()
    await second.abort()
    assert not (tmp_path / "job").exists()


async def test_waiting_for_a_draft_has_an_end(tmp_path: Path) -> None:
    """After a few seconds the caller is told, and nothing was changed."""
    clock = ManualClock()
    store = await opened(tmp_path, clock=clock)
    first = await store.open_resumable(OUT, draft="job", at=0)
    for late in (store.open_resumable(OUT, draft="job", at=0), store.discard_draft("shop", "job")):
        waiting = asyncio.create_task(late)
        await clock.sleepers(1)
        clock.advance(10)
        with pytest.raises(DraftHeld, match="job"):
            await waiting
    await first.write(b"abc")
    await first.commit()
    assert await read_all(store, OUT) == b"abc"


async def test_who_is_cancelled_while_it_opens_gives_the_draft_free(tmp_path: Path) -> None:
    """At any instant: the next one is not kept out by a writer that nobody has."""
    store = await opened(tmp_path)
    first = await store.open_resumable(OUT, draft="job", at=0)
    await first.write(TEXT)
    size = await first.checkpoint()
    await first.suspend()
    for turns in range(4):
        opening = asyncio.create_task(store.open_resumable(OUT, draft="job", at=size))
        for _ in range(turns):
            await asyncio.sleep(0)
        if opening.cancel():
            with pytest.raises(asyncio.CancelledError):
                await opening
        else:
            await (await opening).suspend()
    writer = await store.open_resumable(OUT, draft="job", at=size)
    await writer.commit()
    assert await read_all(store, OUT) == TEXT


async def test_a_small_output_does_not_leave_its_forerunner_as_a_draft(tmp_path: Path) -> None:
    """Small files of replaced objects are kept to be written again, but never under the name of a draft."""
    store = await opened(tmp_path)
    for number in range(3):
        writer = await store.open_resumable(OUT, draft="job", at=0)
        await writer.write(b"%d" % number)
        await writer.commit()
        assert drafts(tmp_path) == []
    assert await read_all(store, OUT) == b"2"


async def test_a_failed_commit_leaves_the_draft(tmp_path: Path) -> None:
    """Its writer may still suspend or abort it; where the object can't be is no reason to do the work again."""
    store = await opened(tmp_path)
    ref = ObjectRef("shop", "deep/out")
    writer = await store.open_resumable(ref, draft="job", at=0)
    await writer.write(b"abc")
    (tmp_path / "shop").rename(tmp_path / "elsewhere")
    with pytest.raises(Exception, match="shop"):
        await writer.commit()
    await writer.suspend()
    (tmp_path / "elsewhere").rename(tmp_path / "shop")
    writer = await store.open_resumable(ref, draft="job", at=3)
    await writer.commit()
    assert await read_all(store, ref) == b"abc"


async def test_a_bucket_goes_with_its_drafts(tmp_path: Path) -> None:
    """They are no objects, and nobody will ask for them."""
    store = await opened(tmp_path)
    writer = await store.open_resumable(OUT, draft="job", at=0)
    await writer.write(b"abc")
    await writer.suspend()
    await store.delete_bucket("shop")
    await store.create_bucket("shop", region="us-east-1", owner="1")
    with pytest.raises(DraftLost):
        await store.open_resumable(OUT, draft="job", at=1)


async def test_drafts_of_a_users_folder_go_with_the_last_of_them(tmp_path: Path) -> None:
    """An alias keeps them in its private folder for as long as there are some."""
    (tmp_path / "mine").mkdir()
    store = FilesystemObjects(tmp_path / "objects", aliases={"mine": tmp_path / "mine"}, durable=False)
    ref = ObjectRef("mine", "out")
    writer = await store.open_resumable(ref, draft="job", at=0)
    await writer.write(b"abc")
    await writer.checkpoint()
    await writer.suspend()
    store.close()
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == [".millrace-tmp"]
    await (await store.open_resumable(ref, draft="job", at=3)).commit()
    store.close()
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["out"]


# --- what a checkpoint makes sure of


class RecordingSync(QueuedSync):
    """Notes what the synced file held."""

    def __init__(self) -> None:
        super().__init__()
        self.synced: list[bytes | str] = []

    async def sync(self, descriptor: int) -> None:
        self.synced.append(os.pread(descriptor, os.fstat(descriptor).st_size, 0))
        await super().sync(descriptor)

    async def sync_folder(self, descriptor: int) -> None:
        self.synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        await super().sync_folder(descriptor)


def draft_writer(path: Path, syncs: QueuedSync, *, at: int = 0) -> ResumableFileWriter:
    """Return a writer of a draft at a path, which is never installed."""
    descriptor = lock_kept(os.fsencode(path), make=True)
    draft = KeptDraft(descriptor, os.fsencode(path), at=at, cached_bytes=BLOCK, block_bytes=BLOCK)

    async def install(facts: object) -> None:
        raise AssertionError("nobody commits")

    return ResumableFileWriter(draft, ObjectMeta(), install, chunk_bytes=5000, syncs=syncs)  # type: ignore[arg-type]


async def test_a_checkpoint_syncs_all_that_was_written(tmp_path: Path) -> None:
    """The bytes, and with the first checkpoint the name of the draft; a later writer finds it there."""
    syncs = RecordingSync()
    path = tmp_path / "drafts" / "job"
    writer = draft_writer(path, syncs)
    await writer.write(TEXT[:100])
    await writer.checkpoint()
    await writer.write(TEXT[100:13_000])
    await writer.checkpoint()
    await writer.suspend()
    assert syncs.synced == [TEXT[:100], str(path.parent), TEXT[:13_000]]
    syncs.synced.clear()
    writer = draft_writer(path, syncs, at=13_000)
    await writer.write(b"x")
    await writer.checkpoint()
    await writer.abort()
    assert syncs.synced == [TEXT[:13_000] + b"x"]


def test_facts_of_an_output_have_its_origin() -> None:
    """That of the commit, or of the meta where the commit tells none."""
    begun = ObjectMeta(origin="begun", user={"a": "b"})
    assert output_facts(begun, "").meta == begun
    assert output_facts(begun, "done").meta == ObjectMeta(origin="done", user={"a": "b"})
    assert output_facts(begun, "").etag != output_facts(begun, "").etag


@pytest.mark.parametrize("use_attributes", [True, False])
async def test_an_edited_output_is_nobodys_work(tmp_path: Path, use_attributes: bool) -> None:
    """Whoever wrote it would do it again, rather than take what somebody made of it for its own."""
    store = FilesystemObjects(tmp_path, use_attributes=use_attributes, durable=False)
    await store.create_bucket("shop", region="us-east-1", owner="1")
    for origin in ("job", "job " * 2000):  # more than fits into an attribute
        writer = await store.open_writer(OUT)
        await writer.write(b"1")
        await writer.commit(origin=origin)
        assert (await store.get(OUT)).meta.origin == origin
        with (tmp_path / "shop" / "out").open("ab") as file:
            file.write(b"2")
        assert (await store.get(OUT)).meta.origin == ""
