"""Laws of many small objects, which are read and written in groups, while model and store misbehave."""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.property.dataplane.faults_rig import Guard, Job, Play, Record
from tests.property.dataplane.store_troubles import store_troubles

from millrace.jobs.transform import AssembleWith, SplitType
from millrace.names import ObjectRef
from millrace.ports.objects import NoSuchKey, ObjectMeta, SmallObjects, SmallOutput
from millrace.testing.faults import Fault
from millrace.testing.faulty_objects import FaultyObjects, Step, Trouble, disk_full
from millrace.testing.objects import MemoryObjects

SOME = settings(
    max_examples=int(os.environ.get("MILLRACE_TEST_EXAMPLES", "100")),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
"""More are played by `make faults`."""


class FaultyQuickObjects(FaultyObjects):
    """A faulty store that has a quick way for small objects; a full disk leaves an object to the usual way."""

    groups = 0

    def small_objects(self) -> SmallObjects:
        return _QuickWay(self)


class _QuickWay:
    """The quick way of a faulty store."""

    def __init__(self, objects: FaultyQuickObjects) -> None:
        self._objects = objects

    def read(self, refs: Sequence[ObjectRef], *, at_most: int) -> list[bytes | None]:
        return [self._body(ref, at_most) for ref in refs]

    def _body(self, ref: ObjectRef, at_most: int) -> bytes | None:
        try:
            body = self._objects.data(str(ref))
        except NoSuchKey:
            return None
        return body if 0 < len(body) <= at_most else None

    async def write(self, outputs: Sequence[SmallOutput], meta: ObjectMeta) -> Sequence[int]:
        self._objects.groups += 1
        left = []
        for index, (ref, body, origin) in enumerate(outputs):
            try:
                await self._objects.take_step(Step.COMMIT, ref)
            except OSError as exc:
                if str(exc) != str(disk_full(ref)):
                    raise
                left.append(index)
                continue
            writer = await MemoryObjects.open_writer(self._objects, ref, replace(meta, origin=origin))
            await writer.write(body)
            await writer.commit(origin=origin)
        return left


class SmallPlay(Play):
    """A job over a store with a quick way."""

    store_class = FaultyQuickObjects


FAULTS = [Fault.NOTHING] * 4 + [Fault.UNAVAILABLE, Fault.RESET, Fault.PIECES, Fault.LAST, Fault.BROKEN]

sizes = st.lists(st.sampled_from([0, 8, 8, 20, 70]), min_size=1, max_size=90)
bad_ones = st.sets(st.integers(0, 89), max_size=3)
turns = st.lists(st.integers(0, 12), min_size=1, max_size=7)
scripts = st.lists(st.sampled_from(FAULTS), max_size=40)


def jobs(*, checkpoints: bool) -> st.SearchStrategy[Job]:
    """Jobs that send each object whole."""
    return st.builds(
        Job,
        split=st.just(SplitType.NONE),
        assemble_with=st.sampled_from(list(AssembleWith)),
        concurrency=st.integers(1, 8),
        retries=st.integers(0, 2),
        checkpoints=st.just(checkpoints),
        payload_bytes=st.just(10_000),
        inflight_bytes=st.sampled_from([200, 2000, 20_000]),
    )


def objects(sizes: Sequence[int], bad: Collection[int]) -> list[list[Record]]:
    """Return objects of so many bytes, of which the model refuses some."""
    return [[Record(size=size, bad=at in bad)] if size else [] for at, size in enumerate(sizes)]


@SOME
@given(job=jobs(checkpoints=False), sizes=sizes, bad=bad_ones, turns=turns, script=scripts)
async def test_faults_of_a_model_lose_and_double_nothing_of_groups(
    job: Job, sizes: list[int], bad: set[int], turns: list[int], script: list[Fault]
) -> None:
    """Each object has the output of its answer, or fails; what fails has none."""
    play = SmallPlay(job, objects(sizes, bad), script, turns=turns)
    play.check(await play.run())


@SOME
@given(
    job=jobs(checkpoints=True),
    sizes=sizes,
    bad=bad_ones,
    turns=turns,
    stops=st.lists(st.integers(0, 60), max_size=3),
    cancels=st.lists(st.integers(-1, 60), max_size=3),
    resumes=st.sets(st.integers(1, 6), max_size=3),
    guards=st.dictionaries(st.integers(0, 5), st.sampled_from(Guard), max_size=2),
    script=scripts,
    troubles=store_troubles([Step.READ, Step.OPEN, Step.WRITE, Step.COMMIT], within=60, most=4),
)
async def test_groups_that_are_broken_off_anywhere_lose_and_double_nothing(
    job: Job,
    sizes: list[int],
    bad: set[int],
    turns: list[int],
    stops: list[int],
    cancels: list[int],
    resumes: set[int],
    guards: Mapping[int, Guard],
    script: list[Fault],
    troubles: Mapping[tuple[Step, int], Trouble],
) -> None:
    """Each object has the output of its answer, however often the job is stopped, cancelled or fenced off.

    All agents have a journal. Without one, an output that was made before the break stays, and its object is asked
    about again: it may fail then, beside that output.
    """
    play = SmallPlay(
        job,
        objects(sizes, bad),
        script,
        turns=turns,
        stops=stops,
        cancels=cancels,
        resumes=resumes,
        guards=guards,
        troubles=troubles,
    )
    play.check(await play.run())


async def test_small_objects_are_played_in_groups() -> None:
    """What this page is about is what its plays come to."""
    play = SmallPlay(
        Job(split=SplitType.NONE, payload_bytes=10_000, inflight_bytes=20_000), [[Record(size=8)] for _ in range(90)]
    )
    play.check(await play.run())
    assert isinstance(play.store, FaultyQuickObjects)
    assert play.store.groups > 0
