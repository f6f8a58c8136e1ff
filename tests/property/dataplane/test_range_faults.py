"""Laws of objects that several instances transform range by range, while model and store misbehave."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.property.dataplane.faults_rig import Guard, Job, Play, Record, WatchedBudget
from tests.property.dataplane.store_troubles import store_troubles

from millrace.dataplane.formats.job import JobFormats
from millrace.dataplane.listing import list_inputs
from millrace.dataplane.plan import InputObject, share_out
from millrace.dataplane.range_rules import cut_inputs
from millrace.jobs.transform import AssembleWith, BatchStrategy, InstanceOutcome, Progress, SplitType
from millrace.jobs.transform_options import OnError
from millrace.ports.jobs import InstanceRef
from millrace.testing.clock import ManualClock
from millrace.testing.faults import Fault
from millrace.testing.faulty_objects import Step, Trouble

SOME = settings(
    max_examples=int(os.environ.get("MILLRACE_TEST_EXAMPLES", "100")),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
"""More are played by `make faults`."""


class RangePlay(Play):
    """A job whose objects are cut, and whose instances run at the same time."""

    def __init__(
        self,
        job: Job,
        objects: Sequence[Sequence[Record]],
        *,
        instances: Sequence[int],
        range_bytes: int,
        **trouble: Any,
    ) -> None:
        """`instances` are those of each job that resumes the one before, again from the first behind the last."""
        super().__init__(job, objects, **trouble)
        self._instances = instances
        self._range_bytes = range_bytes

    async def _live(self, ref: InstanceRef) -> InstanceOutcome:
        clock = ManualClock()
        self._done_before.append((len(self.model.attempts), self._done()))
        driving = asyncio.create_task(self._drive(clock))
        try:
            listed = await list_inputs(self.store, self._spec)
            units = list(cut_inputs(listed, JobFormats(self._spec), self._range_bytes))
            shares = share_out(units, self._instances[(ref.job_id - 1) % len(self._instances)])
            ended = await asyncio.gather(
                *(self._instance(replace(ref, index=index), share, clock) for index, share in enumerate(shares)),
                return_exceptions=True,
            )
        finally:
            driving.cancel()
            self._check_nothing_is_left()
            await self._check_nobody_is_connected()
        outcomes = [one for one in ended if isinstance(one, InstanceOutcome)]
        for one in ended:
            if not isinstance(one, InstanceOutcome):
                raise one
        return _together(outcomes)

    async def _instance(self, ref: InstanceRef, share: Sequence[InputObject], clock: ManualClock) -> InstanceOutcome:
        budget = WatchedBudget(self.job.inflight_bytes)
        checkpoints = await self._checkpoints(ref, share)
        outcome = await self._transform(share, clock, budget, checkpoints)
        self._check_room(outcome, budget)
        return outcome

    def _check(self, outcome: InstanceOutcome) -> None:
        self._check_nothing_is_done_twice()
        answers = self._accepted()
        failed = {told.key for told in outcome.failures}
        records = bad_records = 0
        for entry in self._objects:
            output, bad = self._expected(entry, answers)
            if f"in/{entry.key}" in failed:
                assert f"out/{entry.key}.out" not in self.store.keys("shop"), "what failed has no output"
                continue
            assert not bad or self.job.on_error is not OnError.FAIL, f"records {bad} have no answer"
            assert self.store.data(f"s3://shop/out/{entry.key}.out") == output
            if self.job.on_error is not OnError.FAIL:
                self._check_told_of_ranges(entry.key, [entry.offsets[at] for at in bad])
            records, bad_records = records + len(entry.stored) - len(bad), bad_records + len(bad)
        if not failed:
            progress = outcome.progress
            assert (progress.records, progress.records_failed) == (records, bad_records), "each record is told of once"
            assert progress.objects_done == len(self._objects), "each object is counted by one instance"
            assert not self.store.drafts.kept, "no draft is left"

    def _check_told_of_ranges(self, key: str, offsets: Sequence[int]) -> None:
        """What is told of bad records is in their order; in a range they are numbered from its beginning."""
        name = f"out/{key}.errors.jsonl"
        lines = self.store.data(f"s3://shop/{name}").splitlines() if name in self.store.keys("shop") else []
        assert [_offset_of(line) for line in lines] == list(offsets)


def _offset_of(line: bytes) -> int:
    return int(line.partition(b'"offset":')[2].partition(b",")[0])


def _together(outcomes: Sequence[InstanceOutcome]) -> InstanceOutcome:
    """Return what became of all instances."""

    def total(name: str) -> int:
        return sum(int(getattr(one.progress, name)) for one in outcomes)

    return InstanceOutcome(
        progress=Progress(
            objects_done=total("objects_done"),
            records=total("records"),
            records_failed=total("records_failed"),
            requests=total("requests"),
        ),
        failures=tuple(told for one in outcomes for told in one.failures),
        failure_count=sum(one.failure_count for one in outcomes),
        stopped=any(one.stopped for one in outcomes),
    )


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    """Any job whose objects can be cut, with tiny bounds."""
    split = draw(st.sampled_from([SplitType.LINE, SplitType.LINE, SplitType.RECORDIO, SplitType.TFRECORD]))
    return Job(
        split=split,
        strategy=draw(st.sampled_from(list(BatchStrategy))),
        assemble_with=draw(st.sampled_from(list(AssembleWith))),
        joins=split is SplitType.LINE and draw(st.booleans()),
        on_error=draw(st.sampled_from(list(OnError))),
        payload_bytes=draw(st.sampled_from([100, 300])),
        concurrency=draw(st.integers(1, 3)),
        retries=2,
        chunk_bytes=draw(st.sampled_from([64, 200])),
        objects_open=draw(st.integers(1, 3)),
        checkpoints=True,
        pause_seconds=draw(st.sampled_from([0.0, 3600.0])),
    )


records = st.lists(
    st.builds(Record, size=st.integers(8, 70), bad=st.sampled_from([False] * 12 + [True])), min_size=1, max_size=25
)
steps = [step for step in Step if step is not Step.LIST]


@SOME
@given(
    job=jobs(),
    objects=st.lists(records, min_size=1, max_size=2),
    instances=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    range_bytes=st.integers(60, 400),
    turns=st.lists(st.integers(0, 12), min_size=1, max_size=7),
    stops=st.lists(st.integers(0, 30), max_size=3),
    cancels=st.lists(st.integers(-1, 30), max_size=3),
    resumes=st.sets(st.integers(1, 6), max_size=3),
    guards=st.dictionaries(st.integers(0, 12), st.sampled_from(Guard), max_size=3),
    script=st.lists(st.sampled_from([Fault.NOTHING, Fault.NOTHING, Fault.UNAVAILABLE, Fault.RESET]), max_size=30),
    troubles=store_troubles(steps, within=25, most=4),
)
async def test_ranges_that_are_broken_off_anywhere_become_their_objects_output(
    job: Job,
    objects: list[list[Record]],
    instances: list[int],
    range_bytes: int,
    turns: list[int],
    stops: list[int],
    cancels: list[int],
    resumes: set[int],
    guards: Mapping[int, Guard],
    script: list[Fault],
    troubles: Mapping[tuple[Step, int], Trouble],
) -> None:
    """However instances are stopped, cancelled or fenced off, and whatever step of the store fails."""
    play = RangePlay(
        job,
        objects,
        instances=instances,
        range_bytes=range_bytes,
        script=script,
        turns=turns,
        stops=stops,
        cancels=cancels,
        resumes=resumes,
        guards=guards,
        troubles=troubles,
    )
    play.check(await play.run())


async def test_a_range_is_not_asked_for_again_whose_output_another_instance_makes_meanwhile() -> None:
    """Between its look whether the output is there and its look at what it had of it, the other one may make it."""
    job = Job(split=SplitType.RECORDIO, concurrency=1, objects_open=1, checkpoints=True)
    objects = [[Record(size=8)] * 3 + [Record(size=8, bad=True)], [Record(size=8)] * 4]
    play = RangePlay(job, objects, instances=[2], range_bytes=60, guards={2: Guard.STOPS})
    play.check(await play.run())
    assert len(play.lives) == 2
