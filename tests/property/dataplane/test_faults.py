"""Laws of jobs whose model and store misbehave: order, no loss, no duplicates, bounded memory, nothing left behind."""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.property.dataplane.faults_rig import Guard, Job, Play, Record
from tests.property.dataplane.store_troubles import store_troubles

from millrace.jobs.transform import AssembleWith, BatchStrategy, SplitType
from millrace.jobs.transform_options import OnError
from millrace.testing.faults import Fault
from millrace.testing.faulty_objects import Step, Trouble, disk_full, input_output_error

SOME = settings(
    max_examples=int(os.environ.get("MILLRACE_TEST_EXAMPLES", "100")),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
"""More are played by `make faults`."""


@st.composite
def jobs(draw: st.DrawFn, *, checkpoints: bool | None = None) -> Job:
    """Any job, with tiny bounds."""
    split = draw(st.sampled_from(list(SplitType)))
    joins = split is SplitType.LINE and draw(st.booleans())
    on_error = draw(st.sampled_from(list(OnError)))
    payload_bytes = 10_000 if split is SplitType.NONE else draw(st.sampled_from([60, 100, 300]))
    checkpoints = draw(st.booleans()) if checkpoints is None else checkpoints
    return Job(
        split=split,
        strategy=draw(st.sampled_from(list(BatchStrategy))),
        assemble_with=draw(st.sampled_from(list(AssembleWith))),
        joins=joins,
        on_error=on_error,
        strict=draw(st.booleans()),
        gzip=draw(st.integers(0, 5)) == 0,
        payload_bytes=draw(st.sampled_from([payload_bytes, payload_bytes, 0])),
        concurrency=draw(st.integers(1, 5)),
        retries=draw(st.integers(0, 3)),
        inflight_bytes=draw(st.sampled_from([200, 400, 2000])),
        chunk_bytes=draw(st.sampled_from([16, 64, 200])),
        answers_held=draw(st.integers(1, 20)),
        objects_open=draw(st.integers(1, 3)),
        checkpoints=checkpoints,
        pause_seconds=draw(st.sampled_from([0.0, 0.0, 3600.0])) if checkpoints else 0.0,
        autotune=not checkpoints and draw(st.booleans()),
    )


records = st.lists(
    st.builds(Record, size=st.integers(8, 70), bad=st.sampled_from([False] * 8 + [True])), min_size=0, max_size=25
)
objects = st.lists(records, min_size=1, max_size=3)
chunk_sizes = st.lists(st.integers(0, 80), min_size=1, max_size=4).filter(any)
turns = st.lists(st.integers(0, 12), min_size=1, max_size=7)


def scripts(job: Job, *unwanted: Fault) -> st.SearchStrategy[list[Fault]]:
    """Faults of a model; silence is not for jobs that are streamed, whose time-outs the loop's own clock tells."""
    among = [fault for fault in Fault if fault not in unwanted and not (job.streams and fault is Fault.SILENCE)]
    return st.lists(st.one_of(st.just(Fault.NOTHING), st.sampled_from(among)), max_size=40)


@SOME
@given(data=st.data(), job=jobs(), objects=objects, chunk_sizes=chunk_sizes, turns=turns)
async def test_faults_of_a_model_lose_and_double_nothing(
    data: st.DataObject, job: Job, objects: list[list[Record]], chunk_sizes: list[int], turns: list[int]
) -> None:
    """Whatever the model does, each output is what it answered, in order; what fails names its first bad record."""
    play = Play(job, objects, data.draw(scripts(job)), chunk_sizes=chunk_sizes, turns=turns)
    play.check(await play.run())


@SOME
@given(
    data=st.data(),
    job=jobs(checkpoints=True),
    objects=objects,
    chunk_sizes=chunk_sizes,
    turns=turns,
    stops=st.lists(st.integers(0, 30), max_size=4),
    cancels=st.lists(st.integers(-1, 30), max_size=4),
    resumes=st.sets(st.integers(1, 6), max_size=3),
    guards=st.dictionaries(st.integers(0, 6), st.sampled_from(Guard), max_size=3),
    troubles=store_troubles(Step, within=20, most=5),
)
async def test_a_job_that_is_broken_off_anywhere_ends_as_if_it_were_not(
    data: st.DataObject,
    job: Job,
    objects: list[list[Record]],
    chunk_sizes: list[int],
    turns: list[int],
    stops: list[int],
    cancels: list[int],
    resumes: set[int],
    guards: dict[int, Guard],
    troubles: dict[tuple[Step, int], Trouble],
) -> None:
    """Whatever step of the store fails, and wherever the job is stopped or cancelled, or loses its lease.

    Whoever takes it up completes each output, and asks for nothing that was committed.
    """
    script = data.draw(scripts(job, Fault.DROPPED_UNREAD))
    play = Play(
        job,
        objects,
        script,
        chunk_sizes=chunk_sizes,
        turns=turns,
        stops=stops,
        cancels=cancels,
        resumes=resumes,
        guards=guards,
        troubles=troubles,
    )
    play.check(await play.run())


RECORDS = [[Record(size=20) for _ in range(30)]]


async def test_a_full_disk_fails_an_object_that_is_taken_up() -> None:
    """Whoever finds no room to go on with an output fails its object, and leaves what is there to the next attempt."""
    job = Job(checkpoints=True, concurrency=1, payload_bytes=60)
    play = Play(job, RECORDS, stops=[5], troubles={(Step.OPEN, 1): disk_full})
    outcome = await play.run()
    play.check(outcome)
    assert len(play.lives) == 3
    assert sum("going on at byte" in line for line in play.log) == 1
    assert outcome.progress.requests < 10


async def test_an_output_is_let_go_of_by_a_job_that_is_stopped_at_once() -> None:
    """A job that is stopped before it has done anything holds no draft of an output."""
    play = Play(Job(checkpoints=True, concurrency=1, payload_bytes=60), RECORDS, stops=[5, 0])
    play.check(await play.run())
    assert len(play.lives) == 3


@pytest.mark.parametrize("turns", [0, 1, 5])
async def test_an_output_that_a_stop_keeps_from_its_commit_is_a_part(turns: int) -> None:
    """All of it was answered, and nothing is asked for again."""
    job = Job(checkpoints=True, pause_seconds=3600.0)
    play = Play(job, RECORDS, guards={0: Guard.STOPS}, turns=[turns])
    outcome = await play.run()
    play.check(outcome)
    assert len(play.lives) == 2
    assert outcome.progress.requests == 0


async def test_errors_of_the_store_while_an_output_is_taken_up_lose_no_part() -> None:
    """If the side file of bad records cannot be opened, what is committed of the output stays."""
    job = Job(checkpoints=True, concurrency=1, payload_bytes=60, on_error=OnError.QUARANTINE)
    records = [[Record(size=20, bad=at == 1) for at in range(30)]]
    play = Play(job, records, stops=[14], troubles={(Step.OPEN, 3): input_output_error})
    outcome = await play.run()
    play.check(outcome)
    assert len(play.lives) == 3
    assert sum("going on at byte" in line for line in play.log) == 1


async def test_bad_records_are_told_as_the_last_attempt_found_them() -> None:
    """An attempt that ends between the two halves of a commit told of records that are transformed again."""
    job = Job(
        checkpoints=True,
        pause_seconds=3600.0,
        concurrency=1,
        retries=0,
        strategy=BatchStrategy.SINGLE_RECORD,
        on_error=OnError.QUARANTINE,
    )
    records = [[Record(size=20, bad=at == 1) for at in range(10)]]
    script = [Fault.NOTHING] * 9 + [Fault.BROKEN] + [Fault.NOTHING] * 2 + [Fault.BROKEN]
    play = Play(job, records, script, stops=[5], troubles={(Step.COMMIT, 1): disk_full})
    outcome = await play.run()
    play.check(outcome)
    assert len(play.lives) == 3
    told = play.store.data("s3://shop/out/0.csv.errors.jsonl")
    assert [line for line in told.splitlines() if b'"status":500' in line] == told.splitlines()[1:]


@pytest.mark.parametrize("payload_bytes", [0, 100])
async def test_rows_are_counted_however_long_a_payload_may_be(payload_bytes: int) -> None:
    """MILLRACE_STRICT_COUNTS holds for payloads without a limit too."""
    play = Play(Job(strict=True, payload_bytes=payload_bytes), RECORDS, [Fault.FEW_ROWS])
    outcome = await play.run()
    play.check(outcome)
    assert "MILLRACE_STRICT_COUNTS" in outcome.failures[0].message


async def test_a_run_that_the_store_breaks_off_leaves_no_connection() -> None:
    """Of two objects that are streamed, each whose reading fails, both connections are closed."""
    job = Job(split=SplitType.NONE, payload_bytes=0, retries=0, checkpoints=True, objects_open=3)
    records = [[Record(size=60) for _ in range(count)] for count in (7, 15)]
    troubles: dict[tuple[Step, int], Trouble] = {(Step.READ, number): input_output_error for number in (4, 5)}
    play = Play(job, records, chunk_sizes=[8, 41], turns=[8, 0], troubles=troubles)
    play.check(await play.run())
