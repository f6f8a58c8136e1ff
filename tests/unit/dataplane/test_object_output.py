"""Outputs that are committed in parts, where a process ends between two of the steps."""

import hashlib
from pathlib import Path

import orjson
from tests.acceptance.transform_rig import job

from millrace.dataplane.bad_records import BadRecord, error_line
from millrace.dataplane.checkpoints import Checkpoints, Origin
from millrace.dataplane.counts import Counts
from millrace.dataplane.formats.job import JobFormats
from millrace.dataplane.object_output import ObjectOutput
from millrace.dataplane.plan import InputObject
from millrace.dataplane.progress import Counters
from millrace.dataplane.reading import ObjectReader
from millrace.names import ObjectRef
from millrace.ports.jobs import InstanceRef
from millrace.ports.objects import ObjectMeta
from millrace.testing.journal import MemoryJournals
from millrace.testing.objects import MemoryObjects

DATA = b"x\ny\nz\n"
ENTRY = InputObject(
    ref=ObjectRef("b", "in/a.csv"),
    size=len(DATA),
    output=ObjectRef("b", "out/a.csv.out"),
    version=hashlib.md5(DATA).hexdigest(),
)
ERRORS = ObjectRef("b", "out/a.csv.errors.jsonl")
BAD = BadRecord(record=1, offset=0, text=b"x\n", label="ClientError", message="no", status=400, answer="no")
SECOND = BadRecord(record=2, offset=2, text=b"y\n", label="ClientError", message="no", status=400, answer="no")
WHOLE = BadRecord(record=3, offset=4, text=b"z\n", label="ClientError", message="no", status=400, answer="no")


class Attempts:
    """Attempts at one object, one after the other."""

    def __init__(self) -> None:
        self.journals = MemoryJournals()
        self.objects = MemoryObjects()
        self.objects.add("s3://b/in/a.csv", DATA)
        self.checkpoints = self.job(1, "w")

    def job(self, job_id: int, work: str, *earlier: str) -> Checkpoints:
        """Return the journal of a job that goes on with earlier ones."""
        journal = self.journals.open(InstanceRef(job_id=job_id, index=0, attempt=1))
        return Checkpoints(journal=journal, work=work, earlier=earlier, resumes=bool(earlier))

    async def output(self) -> ObjectOutput:
        """Return the next attempt's output, which knows what the journal tells."""
        await self.checkpoints.take_up([ENTRY], [1] if self.checkpoints.earlier else [])
        formats = JobFormats(job())
        reader = ObjectReader(
            self.objects, ENTRY, formats=formats, chunk_bytes=64, counters=Counters(objects_total=1, bytes_total=6)
        )
        return ObjectOutput(
            ENTRY,
            objects=self.objects,
            meta=ObjectMeta(),
            formats=formats,
            reader=reader,
            kept_text=Path(),
            checkpoints=self.checkpoints,
            in_parts=True,
            monotonic=lambda: 0.0,
            tells=True,
        )

    async def commit_errors(self, work: str, *more: BadRecord) -> None:
        """Make what tells of bad records visible, and more behind it, as the first half of a commit does."""
        draft = f"{self.checkpoints.draft(ENTRY)}-errors"
        errors = await self.objects.open_resumable(ERRORS, draft=draft, at=len(error_line(BAD)))
        await errors.write(b"".join(map(error_line, more)))
        origin = Origin(work=work, input_version=ENTRY.version, counts=Counts(ok=1, failed=2, failed_by_algorithm=1))
        await errors.commit(origin=origin.encode())

    def told(self) -> list[int]:
        """Return the numbers of the records that are told to be bad."""
        return [orjson.loads(line)["record"] for line in self.objects.data(str(ERRORS)).splitlines()]


async def first_part(attempts: Attempts) -> ObjectOutput:
    """Write and tell of two records, commit that part, and end without a word."""
    output = await attempts.output()
    assert await output.begin() is None
    await output.open()
    await output.write(b"Y\n")
    await output.tell([BAD])
    await output.checkpoint(4, Counts(ok=1, failed=1, filtered=0))
    await output.suspend()
    return output


async def test_what_was_told_before_the_end_is_told_again_up_to_the_last_part() -> None:
    """A commit makes bad records visible first; who comes after a crash right then tells anew of those that follow."""
    attempts = Attempts()
    await first_part(attempts)
    await attempts.commit_errors("w", WHOLE)
    assert attempts.told() == [1, 3]
    again = await attempts.output()
    position = await again.begin()
    assert position is not None
    assert position.offset == 4
    await again.tell([SECOND])
    await again.write(b"Z\n")
    await again.commit(Counts(ok=1, failed=2, filtered=0))
    assert attempts.objects.data(str(ENTRY.output)) == b"Y\nZ\n"
    assert attempts.told() == [1, 2]


async def test_a_crash_while_that_is_begun_again_loses_nothing() -> None:
    """What is visible stays until it is replaced, so that the next attempt finds it too."""
    attempts = Attempts()
    await first_part(attempts)
    await attempts.commit_errors("w", WHOLE)
    for _ in range(2):
        again = await attempts.output()
        assert await again.begin() is not None
        attempts.objects.drafts.kill_writers()
    again = await attempts.output()
    assert await again.begin() is not None
    await again.write(b"Z\n")
    await again.commit(Counts(ok=2, failed=1, filtered=0))
    assert attempts.told() == [1]


async def begin_anew(attempts: Attempts, text: bytes, counts: Counts) -> None:
    """Make the output in a further attempt, and see that this begins anew and leaves nothing behind."""
    again = await attempts.output()
    assert await again.begin() is None
    await again.open()
    await again.write(text)
    await again.commit(counts)
    assert attempts.objects.data(str(ENTRY.output)) == text
    assert not attempts.objects.drafts.kept


async def test_an_object_is_begun_anew_whose_bad_records_are_told_in_part_only() -> None:
    """What is visible may have been made shorter by somebody else."""
    attempts = Attempts()
    output = await first_part(attempts)
    draft = f"{attempts.checkpoints.draft(ENTRY)}-errors"
    errors = await attempts.objects.open_resumable(ERRORS, draft=draft, at=1)
    await errors.commit(origin=output.origin(Counts(ok=1, failed=2, filtered=0)))
    await begin_anew(attempts, b"X\n", Counts(ok=3))
    assert attempts.objects.keys("b", "out/") == [ENTRY.output.key]


async def test_an_input_that_has_changed_since_it_was_listed_is_begun_anew() -> None:
    """What was committed of it does not fit what follows in the new one."""
    attempts = Attempts()
    await first_part(attempts)
    attempts.objects.add("s3://b/in/a.csv", b"new\n")
    await begin_anew(attempts, b"NEW\n", Counts(ok=1))


async def test_what_another_job_told_does_not_stand_for_ours() -> None:
    """Where our own draft of it is lost, the object is begun anew."""
    attempts = Attempts()
    await first_part(attempts)
    await attempts.commit_errors("another")
    again = await attempts.output()
    assert await again.begin() is None
    await again.open()
    await again.write(b"Y\n")
    await again.tell([BAD, WHOLE])
    await again.commit(Counts(ok=1, failed=2, filtered=0))
    assert attempts.objects.data(str(ENTRY.output)) == b"Y\n"
    assert attempts.objects.data(str(ERRORS)).count(b"\n") == 2


async def test_what_was_not_committed_in_parts_is_not_left() -> None:
    """A draft that no entry of the journal tells of is of use to nobody."""
    attempts = Attempts()
    output = await attempts.output()
    assert await output.begin() is None
    await output.open()
    await output.write(b"Y\n")
    await output.tell([BAD])
    await output.suspend()
    assert not attempts.objects.drafts.kept
    await first_part(attempts)
    assert len(attempts.objects.drafts.kept) == 2
    again = await attempts.output()
    assert await again.begin() is not None
    await again.suspend()
    assert len(attempts.objects.drafts.kept) == 2


async def test_a_job_goes_on_with_the_parts_of_an_earlier_one() -> None:
    """It takes over the entry, and the draft under the name that it has."""
    attempts = Attempts()
    await first_part(attempts)
    attempts.checkpoints = attempts.job(2, "second", "w")
    output = await attempts.output()
    position = await output.begin()
    assert position is not None
    assert position.offset == 4
    await output.write(b"Z\n")
    await output.commit(Counts(ok=2, failed=1, filtered=0))
    assert attempts.objects.data(str(ENTRY.output)) == b"Y\nZ\n"
    assert not attempts.objects.drafts.kept


async def test_drafts_that_killed_processes_of_earlier_jobs_left_are_removed() -> None:
    """The journal knows nothing of them; who does the object anew finds them by their name."""
    attempts = Attempts()
    await first_part(attempts)
    attempts.journals.entries.clear()
    attempts.checkpoints = attempts.job(2, "second", "w")
    output = await attempts.output()
    assert await output.begin() is None
    assert not attempts.objects.drafts.kept
