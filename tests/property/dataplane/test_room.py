"""Laws of bounded memory: what is read and not yet written never passes the limit."""

import asyncio
from collections.abc import AsyncIterator, Callable

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tests.acceptance.transform_rig import ECHO, job, run_job
from tests.framed import recordio, tfrecord

from millrace.dataplane import EffectiveSettings, Limits
from millrace.dataplane.limits import Budget
from millrace.jobs.transform import BatchStrategy, SplitType
from millrace.names import ObjectRef
from millrace.ports.objects import ObjectMeta, ObjectWriter
from millrace.testing.objects import MemoryObjects

CHUNK = 64
WRITERS: dict[SplitType, Callable[[bytes], bytes]] = {SplitType.RECORDIO: recordio, SplitType.TFRECORD: tfrecord}


class WatchedObjects(MemoryObjects):
    """Counts bytes read and not yet written: with an echoing model, what the data plane holds."""

    def __init__(self) -> None:
        super().__init__(chunk_bytes=CHUNK)
        self.held = 0
        self.most_held = 0

    async def read(self, ref: ObjectRef, *, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        async for chunk in super().read(ref, start=start, length=length):
            self.held += len(chunk)
            self.most_held = max(self.most_held, self.held)
            yield chunk

    async def open_writer(self, ref: ObjectRef, meta: ObjectMeta | None = None) -> "WatchedWriter":  # type: ignore[override]
        return WatchedWriter(self, await super().open_writer(ref, meta))


class WatchedWriter:
    """Gives way before each write, so that others may read meanwhile."""

    def __init__(self, store: WatchedObjects, writer: ObjectWriter) -> None:
        self._store = store
        self._writer = writer
        self.commit = writer.commit
        self.abort = writer.abort

    async def write(self, chunk: bytes | memoryview) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        await self._writer.write(chunk)
        self._store.held -= len(chunk)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(
    objects=st.lists(st.lists(st.integers(1, 90), max_size=40), min_size=1, max_size=4),
    strategy=st.sampled_from(list(BatchStrategy)),
    split=st.sampled_from(list(SplitType)),
    inflight_bytes=st.integers(200, 900),
    concurrency=st.integers(1, 5),
    answers_held=st.integers(1, 20),
)
async def test_bytes_in_flight_never_pass_the_limit(
    objects: list[list[int]],
    strategy: BatchStrategy,
    split: SplitType,
    inflight_bytes: int,
    concurrency: int,
    answers_held: int,
) -> None:
    """Whatever the sizes, the limit holds but for one payload that is larger itself; and all outputs are right."""
    framed = split in WRITERS
    assume(not framed or strategy is BatchStrategy.MULTI_RECORD)  # else less is written than was read
    write = WRITERS.get(split, bytes)
    inputs = {
        f"in/{number}": b"".join(write(b"x" * (size - 1) + b"\n") for size in sizes)
        for number, sizes in enumerate(objects)
    }
    limit = 0 if split is SplitType.NONE else 128
    store = WatchedObjects()
    result = await run_job(
        job(split=split, strategy=strategy),
        ECHO,
        inputs,
        objects=store,
        effective=EffectiveSettings(
            max_concurrent_transforms=concurrency, max_payload_bytes=limit or 10_000, strategy=strategy
        ),
        limits=Limits(
            chunk_bytes=CHUNK, inflight_bytes=inflight_bytes, answers_held=answers_held, write_bytes=100, objects_open=3
        ),
    )
    assert not result.failed
    for key, data in inputs.items():
        assert store.data(f"s3://b/{key.replace('in/', 'out/')}.out") == data
    largest = max(map(len, inputs.values())) if split is SplitType.NONE else 0
    assert store.most_held <= max(inflight_bytes, largest)
    assert store.held == 0


@given(st.integers(0, 100), st.lists(st.tuples(st.integers(0, 150), st.booleans())))
def test_a_budget_lets_one_through_and_no_more(limit: int, moves: list[tuple[int, bool]]) -> None:
    """Room is given if it fits, or if nobody else holds any."""
    budget = Budget(limit)
    held: list[int] = []
    for size, takes in moves:
        if takes and budget.has_room(size):
            assert budget.held + size <= limit or budget.held == 0
            budget.take(size)
            held.append(size)
        elif held:
            budget.give_back(held.pop())
        assert budget.held == sum(held)
