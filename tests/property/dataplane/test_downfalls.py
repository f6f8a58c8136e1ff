"""Laws of jobs that leave bad records out, whose container ends at some of them, and now and then by accident."""

import asyncio
import json
from collections.abc import Collection, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.acceptance.transform_rig import job, no_guard

from millrace.clock import SystemClock
from millrace.dataplane import EffectiveSettings, Limits, list_inputs, run_transform
from millrace.dataplane.limits import Budget
from millrace.dataplane.standing import ContainerEnds
from millrace.jobs.transform import BatchStrategy, InstanceOutcome, SplitType
from millrace.jobs.transform_options import job_options
from millrace.testing.model_server import CLOSE, ModelReply, ModelRequest, ModelServer
from millrace.testing.objects import MemoryObjects

HOW = "the container exited with status 137 (killed)"
DEADLY = b"DEADLY"


class Mortal:
    """A container that echoes, and ends at deadly records; whoever starts it again tells of it, or nobody does.

    Where it listens there is always somebody who takes connections, and closes them while it is down.

    Args:
        accidents: Requests, from 1, at which it ends whatever they hold.
        turns: For how many turns of the loop the n-th request is thought about, and it is down after it.
        ends: Told of its ends; None if it is started again from within.
    """

    def __init__(self, accidents: Collection[int], turns: Sequence[int], ends: ContainerEnds | None) -> None:
        self.server = ModelServer(self._answer, ping=self._ping)
        self._accidents = accidents
        self._turns = turns
        self._ends = ends
        self._asked = 0
        self._lives = 1
        self._is_down = False

    async def _think(self, number: int) -> None:
        for _ in range(self._turns[number % len(self._turns)]):
            await asyncio.sleep(0)

    async def _ping(self, _: ModelRequest) -> ModelReply:
        return CLOSE if self._is_down else ModelReply()

    async def _answer(self, request: ModelRequest) -> ModelReply:
        if self._is_down:
            return CLOSE
        self._asked += 1
        number, life = self._asked, self._lives
        await self._think(number)
        if life != self._lives:
            return CLOSE
        if DEADLY in request.body or number in self._accidents:
            await self._die(number)
            return CLOSE
        return ModelReply(request.body)

    async def _die(self, number: int) -> None:
        self._lives += 1
        self._is_down = True
        self.server.close_connections()
        if self._ends is not None:
            await asyncio.sleep(0)  # it is noticed a moment later
            self._ends.note(SystemClock().monotonic(), HOW)
        await self._think(number)
        self._is_down = False
        if self._ends is not None:
            self._ends.note_up(SystemClock().monotonic())


async def play(
    mortal: Mortal, ends: ContainerEnds | None, data: bytes, strategy: BatchStrategy, concurrency: int, payload: int
) -> tuple[InstanceOutcome, MemoryObjects]:
    """Run a job over one object; nothing of its room is held afterwards."""
    store, budget = MemoryObjects(), Budget(10_000)
    store.add("s3://b/in/a.csv", data)
    spec = job(
        split=SplitType.LINE,
        strategy=strategy,
        invocation_max_retries=0,
        environment={"MILLRACE_ON_ERROR": "quarantine"},
    )
    async with mortal.server as server:
        outcome = await run_transform(
            spec,
            await list_inputs(store, spec),
            objects=store,
            address=server.address,
            effective=EffectiveSettings(
                max_concurrent_transforms=concurrency, max_payload_bytes=payload, strategy=strategy
            ),
            data_log=lambda _: None,
            on_progress=lambda _: None,
            stop=asyncio.Event(),
            commit_guard=no_guard,
            clock=SystemClock(),
            limits=Limits(inflight_bytes=10_000, chunk_bytes=500, write_bytes=100),
            options=job_options(spec.environment),
            budget=budget,
            ends=ends,
        )
    assert budget.held == 0, "all room is given back"
    return outcome, store


@settings(max_examples=60)
@given(
    count=st.integers(1, 60),
    deadly=st.sets(st.integers(0, 59), max_size=4),
    accidents=st.sets(st.integers(1, 80), max_size=1),
    is_kept=st.booleans(),
    strategy=st.sampled_from(list(BatchStrategy)),
    concurrency=st.integers(1, 8),
    payload=st.sampled_from([40, 200, 10_000]),
    turns=st.lists(st.integers(0, 12), min_size=1, max_size=7),
)
async def test_records_that_end_the_container_are_bad_and_no_others(
    count: int,
    deadly: set[int],
    accidents: set[int],
    is_kept: bool,
    strategy: BatchStrategy,
    concurrency: int,
    payload: int,
    turns: list[int],
) -> None:
    """All else has its result, in order, however much of it was under way beside them.

    One accident may befall any record that is sent by itself, but not two. A container that is started again from
    within has none here: nobody knows that it had ended, if it is back at once.
    """
    rows = [b"%s%d,%s\n" % (DEADLY if n in deadly else b"", n, b"x" * (n % 9)) for n in range(count)]
    ends = ContainerEnds() if is_kept else None
    mortal = Mortal(accidents if is_kept else (), turns, ends)
    outcome, store = await play(mortal, ends, b"".join(rows), strategy, concurrency, payload)
    assert outcome.failure_count == 0
    assert store.data("s3://b/out/a.csv.out") == b"".join(row for row in rows if DEADLY not in row)
    bad = [n for n in range(count) if n in deadly]
    assert (outcome.progress.records, outcome.progress.records_failed) == (count - len(bad), len(bad))
    told = []
    if bad:
        told = [json.loads(line) for line in store.data("s3://b/out/a.csv.errors.jsonl").splitlines()]
    assert [(one["record"], one["input"].encode()) for one in told] == [(n + 1, rows[n]) for n in bad]
    if is_kept:
        assert all(one["error"].endswith(f"{HOW} each time that it was sent") for one in told)
