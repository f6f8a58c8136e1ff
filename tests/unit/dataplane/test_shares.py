"""Tests of who takes what of a job's input, decided once."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.dataplane.dealing import deal_out
from millrace.dataplane.input_file import InputFile
from millrace.dataplane.input_lines import decode_inputs, encode_inputs
from millrace.dataplane.listing import list_inputs, list_whole
from millrace.dataplane.plan import InputObject, share_out
from millrace.dataplane.ranges import InputRange
from millrace.dataplane.shares import JobShares
from millrace.errors import ClientFailure
from millrace.jobs.transform import TransformSpec
from millrace.jobs.transform_options import Scheduling
from millrace.names import ObjectPrefix, ObjectRef
from millrace.ports.jobs import InstanceRef
from millrace.testing.clock import ManualClock
from millrace.testing.journal import MemoryJournals
from millrace.testing.objects import MemoryObjects

SPEC = TransformSpec(model="m", source=ObjectPrefix("b", "in/"), output=ObjectPrefix("b", "out"), instance_count=3)


class Rig:
    """A job of three instances over one store and one journal."""

    def __init__(self, folder: Path, *, bucket: str = "b") -> None:
        self._folder = folder
        self.objects = MemoryObjects(chunk_bytes=50)
        self.journals = MemoryJournals()
        self.clock = ManualClock()
        self.stop = asyncio.Event()
        self.listings = 0
        self._bucket = bucket
        for number in range(8):
            self.objects.add(f"s3://b/in/{number}", b"x" * (number % 3))

    def shares(self, index: int, attempt: int = 1, job_id: int = 1) -> JobShares:
        """Return what an attempt of an instance sees."""
        ref = InstanceRef(job_id=job_id, index=index, attempt=attempt)
        return JobShares(
            ref,
            decide=self.decide,
            work=f"job {job_id}",
            bucket=self._bucket,
            folder=self._folder,
            objects=self.objects,
            journal=self.journals.open(ref),
            clock=self.clock,
            is_over=self.stop.is_set,
        )

    async def decide(self) -> Sequence[InputFile]:
        """List the input."""
        self.listings += 1
        whole = await list_whole(self.objects, SPEC, self._folder)
        return await deal_out(whole, SPEC.instance_count, Scheduling.BALANCED)

    async def take(self, index: int, attempt: int = 1) -> list[InputObject]:
        """Return the share that an attempt of an instance takes."""
        return listed(await self.shares(index, attempt).take())


def listed(share: InputFile) -> list[InputObject]:
    """Return what is in a share, which is closed."""
    with share:
        return list(share)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """Return a job; it leaves nothing in the folders of its instances."""
    yield Rig(tmp_path)
    assert not list(tmp_path.iterdir())


async def test_the_input_is_what_it_was_when_the_first_instance_listed_it(rig: Rig) -> None:
    """Whatever is written, deleted or replaced then: nothing is taken twice, or by nobody."""
    before = share_out(await list_inputs(rig.objects, SPEC), 3)
    first = await rig.take(0)
    rig.objects.add("s3://b/in/00", b"new")
    rig.objects.add("s3://b/in/1", b"longer than before")
    await rig.objects.delete(ObjectRef("b", "in/3"))
    assert [first, await rig.take(1), await rig.take(2)] == before
    assert rig.listings == 1


async def test_others_wait_until_the_first_instance_has_listed(rig: Rig) -> None:
    """They look ever less often, and see it when it is there."""
    others = [asyncio.create_task(rig.take(index)) for index in (1, 2)]
    pauses = []
    for _ in range(7):
        await rig.clock.sleepers(2)
        pauses.append(rig.clock.pending[0])
        rig.clock.advance(pauses[-1])
    assert pauses == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1, 1])
    await rig.clock.sleepers(2)
    first = await rig.take(0)
    rig.clock.advance(1)
    taken = [*first, *(await others[0]), *(await others[1])]
    assert sorted(entry.ref.key for entry in taken) == rig.objects.keys("b", "in/")


async def test_whoever_waits_may_be_stopped(rig: Rig) -> None:
    """An instance that is wanted to stop has nothing to do."""
    waiting = asyncio.create_task(rig.take(1))
    await rig.clock.sleepers(1)
    rig.stop.set()
    rig.clock.advance(1)
    assert await waiting == []


@pytest.mark.parametrize("index", range(3))
async def test_a_crash_changes_nobodys_share(rig: Rig, index: int) -> None:
    """The next attempt has that of the one before, also if it is the one that lists."""
    shares = [await rig.take(it) for it in range(3)]
    rig.objects.add("s3://b/in/00", b"new")
    assert await rig.take(index, attempt=2) == shares[index]
    assert rig.listings == 1


async def test_a_crash_before_it_is_told_begins_anew(rig: Rig) -> None:
    """What the first attempt has kept, nobody knows of; the others have waited."""
    early = rig.shares(0)
    late = rig.shares(0, attempt=2)
    with pytest.raises(Exception, match="attempt 1 is closed"):
        await early.take()
    rig.objects.add("s3://b/in/00", b"new")
    taken = [*listed(await late.take()), *await rig.take(1), *await rig.take(2)]
    assert sorted(entry.ref.key for entry in taken) == rig.objects.keys("b", "in/")


async def test_whoever_has_ended_leaves_nothing(rig: Rig) -> None:
    """If its server did not hear of that, the next attempt finds the same by itself, or says that it can't."""
    shares = [rig.shares(index) for index in range(3)]
    taken = [listed(await share.take()) for share in shares]
    for share in shares:
        await share.forget()
    assert not rig.objects.drafts.kept
    assert [await rig.take(index, attempt=2) for index in range(3)] == taken
    rig.objects.add("s3://b/in/00", b"new")
    with pytest.raises(ClientFailure, match="were written to or deleted since the job began"):
        await rig.take(1, attempt=3)


async def test_without_a_bucket_for_outputs_everybody_lists(tmp_path: Path) -> None:
    """Each object then fails for its bucket, on the instance that has it."""
    rig = Rig(tmp_path, bucket="missing")
    taken = [entry for index in range(3) for entry in await rig.take(index)]
    assert sorted(entry.ref.key for entry in taken) == rig.objects.keys("b", "in/")


def _input(key: str, size: int, refused: str | None, cut: int) -> InputObject:
    part = InputRange(index=1, count=cut, start=7, end=9, object_size=size) if cut else None
    return InputObject(
        ref=ObjectRef("b", key),
        size=size,
        output=ObjectRef("c", f"{key}.out"),
        refused=refused,
        version=key[::-1],
        range=part,
    )


@given(
    st.lists(
        st.builds(
            _input,
            st.text(st.characters(exclude_categories=["Cs"])),
            st.integers(0, 2**50),
            st.none() | st.text(),
            st.integers(0, 3),
        )
    )
)
def test_a_share_is_read_as_it_was_written(share: list[InputObject]) -> None:
    """Whatever keys hold, line feeds among it."""
    assert decode_inputs(encode_inputs(share)) == share


async def test_shares_that_were_never_told_are_removed(rig: Rig) -> None:
    """An attempt that is killed before the journal tells of its drafts leaves them to the next one."""
    await rig.take(0)
    written = set(rig.objects.drafts.kept)
    del rig.journals.entries[1][0]["#shares"]  # as it was before
    await rig.take(0, attempt=2)
    assert len(written) == len(rig.objects.drafts.kept) == 3
    assert not written & set(rig.objects.drafts.kept)


async def test_a_job_that_resumes_this_one_removes_its_shares(rig: Rig) -> None:
    """It has shares of its own; what processes of this one have left when they were killed is of no use."""
    await rig.take(0)
    await rig.shares(0, job_id=2).forget_begun(1)
    assert not rig.objects.drafts.kept


async def test_a_share_that_was_not_taken_is_removed_too(rig: Rig) -> None:
    """An instance that is stopped while it waits for the listing ends like any other."""
    await rig.take(0)
    await rig.shares(1).forget()
    assert len(rig.objects.drafts.kept) == 2
