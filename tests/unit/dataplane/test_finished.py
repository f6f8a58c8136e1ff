"""What an earlier attempt has finished, and what it has left of it."""

from dataclasses import replace

import orjson
import pytest

from millrace.clock import SystemClock
from millrace.dataplane import EffectiveSettings, InputObject, Limits
from millrace.dataplane.checkpoints import Checkpoints, Origin, Position
from millrace.dataplane.counts import Counts
from millrace.dataplane.finished import find_finished
from millrace.dataplane.rules import Rules
from millrace.jobs.transform import BatchStrategy, SplitType, TransformSpec
from millrace.jobs.transform_options import job_options
from millrace.names import ObjectPrefix, ObjectRef
from millrace.ports.jobs import InstanceRef
from millrace.ports.runtime import Address
from millrace.testing.journal import MemoryJournals
from millrace.testing.objects import MemoryObjects

ENTRY = InputObject(ref=ObjectRef("shop", "in/a"), size=9, output=ObjectRef("shop", "out/a.out"), version="v1")
COUNTS = Counts(ok=2, failed=3, filtered=1, failed_by_algorithm=2)
ORIGIN = Origin(work="job 1", input_version="v1", counts=COUNTS)
BAD = replace(ORIGIN, counts=Counts(failed=1))


def rules(split: SplitType, **environment: str) -> Rules:
    spec = TransformSpec(
        model="stub",
        source=ObjectPrefix("shop", "in/"),
        output=ObjectPrefix("shop", "out"),
        split=split,
        environment={f"MILLRACE_{name.upper()}": value for name, value in environment.items()},
    )
    effective = EffectiveSettings(
        max_concurrent_transforms=1, max_payload_bytes=100, strategy=BatchStrategy.SINGLE_RECORD
    )
    return Rules(
        spec,
        effective=effective,
        options=job_options(spec.environment),
        limits=Limits(),
        address=Address(host="127.0.0.1", port=1),
        job_start=SystemClock().now(),
    )


def checkpoints(**found: bytes) -> Checkpoints:
    journal = MemoryJournals().open(InstanceRef(job_id=1, index=0, attempt=2))
    return Checkpoints(journal=journal, work="job 1", resumes=True, found=found)


async def store(origins: dict[str, Origin]) -> MemoryObjects:
    objects = MemoryObjects()
    objects.add("s3://shop/in/a", b"1\n2\nBAD\n")
    for key, origin in origins.items():
        writer = await objects.open_writer(ObjectRef("shop", f"out/{key}"))
        await writer.commit(origin=origin.encode())
    return objects


@pytest.mark.parametrize(
    ("origin", "found"),
    [
        (ORIGIN, COUNTS),
        (replace(ORIGIN, work="job 2"), None),
        (replace(ORIGIN, input_version="v0"), None),
    ],
)
async def test_an_output_tells_whose_it_is(origin: Origin, found: Counts | None) -> None:
    """An object is done if its output was made by this work, of the object as it is."""
    objects = await store({"a.out": origin})
    assert await find_finished(ENTRY, rules=rules(SplitType.LINE), objects=objects, checkpoints=checkpoints()) == found


async def test_an_output_of_an_earlier_release_tells_whose_it_is() -> None:
    """What outputs tell was longer once, and is understood as it was."""
    objects = await store({})
    writer = await objects.open_writer(ObjectRef("shop", "out/a.out"))
    await writer.commit(origin=orjson.dumps(ORIGIN).decode())
    assert await find_finished(ENTRY, rules=rules(SplitType.LINE), objects=objects, checkpoints=checkpoints()) == COUNTS


def test_an_origin_is_short() -> None:
    """What an output tells of itself has room in its inode, however long the job's name; who joined it is told."""
    origin = Origin(work="w" * 100, input_version=f"{'0' * 32}-1", counts=Counts(ok=1))
    assert len(origin.encode()) <= 30
    joined = replace(origin, joined_by="1 of w", counts=Counts(ok=3, failed=2, filtered=1))
    assert Origin.decode(joined.encode()) == joined
    assert Origin.decode("what nobody wrote") is None


@pytest.mark.parametrize(
    ("split", "on_error", "origin", "found"),
    [
        (SplitType.NONE, "quarantine", BAD, BAD.counts),
        (SplitType.NONE, "quarantine", replace(BAD, work="job 2"), None),
        (SplitType.NONE, "skip", BAD, None),
        (SplitType.LINE, "quarantine", BAD, None),
    ],
)
async def test_a_quarantined_object_is_done_without_an_output(
    split: SplitType, on_error: str, origin: Origin, found: Counts | None
) -> None:
    """Where a bad object has no output, what tells of it shows that it is done; elsewhere an output is missing."""
    objects = await store({"a.errors.jsonl": origin})
    settled = rules(split, on_error=on_error)
    assert await find_finished(ENTRY, rules=settled, objects=objects, checkpoints=checkpoints()) == found


@pytest.mark.parametrize("moved", [False, True])
async def test_text_of_an_output_that_is_made_is_removed(moved: bool) -> None:
    """Who is killed between making an object of its text and removing that leaves a draft to the next attempt."""
    objects = await store({"a.out": ORIGIN})
    work = checkpoints()
    name = "another-name" if moved else work.draft(ENTRY)
    if moved:
        position = Position(
            input_version="v1", draft=name, offset=4, output_bytes=4, error_bytes=0, counts=Counts(ok=2)
        )
        await work.save(ENTRY, position)
        work = replace(work, found=await work.journal.load())
    draft = await objects.open_resumable(ENTRY.output, draft=name, at=0)
    await draft.write(b"1\n2\n")
    await draft.checkpoint()
    await draft.suspend()
    settled = rules(SplitType.LINE, output_compression="gzip")
    assert await find_finished(ENTRY, rules=settled, objects=objects, checkpoints=work) == COUNTS
    assert not objects.drafts.kept
