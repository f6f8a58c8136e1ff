"""Tests of what an instance takes up of other jobs."""

import pytest

from millrace.dataplane.checkpoints import Checkpoints, Position
from millrace.dataplane.counts import Counts
from millrace.dataplane.plan import InputObject
from millrace.names import ObjectRef
from millrace.ports.jobs import InstanceRef
from millrace.testing.journal import MemoryJournals

ENTRIES = [
    InputObject(ref=ObjectRef("shop", f"in/{name}"), size=9, output=ObjectRef("shop", f"out/{name}.out"), version="v")
    for name in "abc"
]
POSITION = Position(input_version="v", draft="d", offset=3, output_bytes=4, error_bytes=0, counts=Counts(ok=1))


def opened(journals: MemoryJournals, job_id: int) -> Checkpoints:
    """Return the checkpoints of the first instance of a job."""
    ref = InstanceRef(job_id=job_id, index=0, attempt=1)
    return Checkpoints(journal=journals.open(ref), work=f"job {job_id}", job_id=job_id)


@pytest.fixture
async def journals() -> MemoryJournals:
    """Return the journals of two jobs that have begun two objects, and kept their shares."""
    journals = MemoryJournals()
    for job_id, entry in ((1, ENTRIES[0]), (2, ENTRIES[1])):
        await opened(journals, job_id).save(entry, POSITION)
        await journals.open(InstanceRef(job_id=job_id, index=1, attempt=1)).save({"#shares": b"[]"})
    return journals


async def test_an_instance_takes_up_what_its_objects_had(journals: MemoryJournals) -> None:
    """What is another instance's to go on with stays."""
    checkpoints = opened(journals, 3)
    await checkpoints.take_up(ENTRIES[1:], [2, 1])
    assert [checkpoints.position(entry) for entry in ENTRIES] == [None, POSITION, None]
    assert journals.entries[1][0].keys() == {str(ENTRIES[0].output)}
    assert not journals.entries[2][0]


async def test_an_instance_that_has_all_objects_needs_not_know_them(journals: MemoryJournals) -> None:
    """It takes up whatever was begun of outputs, and nothing else."""
    checkpoints = opened(journals, 3)
    await checkpoints.take_up(None, [2, 1])
    assert [checkpoints.position(entry) for entry in ENTRIES] == [POSITION, POSITION, None]
    assert set(journals.entries[3][0]) == {str(entry.output) for entry in ENTRIES[:2]}
    assert [dict(journals.entries[job][1]) for job in (1, 2)] == [{"#shares": b"[]"}] * 2


async def test_a_job_that_resumes_no_other_finds_its_own(journals: MemoryJournals) -> None:
    """Those of an earlier attempt."""
    checkpoints = opened(journals, 1)
    await checkpoints.take_up(None, [])
    assert checkpoints.position(ENTRIES[0]) == POSITION
