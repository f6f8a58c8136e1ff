"""Play a transform job against a model and a store that misbehave, and hold what it leaves to what was answered.

Each record carries a key that no other has, so that what the model was sent and what it answered tell all that the
output may be: `Play.check` finds for each stretch of records the answer that stands for it.
"""

import asyncio
import errno
import gzip
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from heapq import nlargest
from pathlib import Path

import orjson
from tests.framed import recordio, tfrecord

from millrace.dataplane import EffectiveSettings, InputObject, Limits, run_transform
from millrace.dataplane.checkpoints import Checkpoints
from millrace.dataplane.inputs import Inputs
from millrace.dataplane.limits import Budget
from millrace.dataplane.listing import list_ahead
from millrace.dataplane.rows import nonblank_lines
from millrace.errors import LeaseLost
from millrace.jobs.transform import (
    AssembleWith,
    BatchStrategy,
    Compression,
    DataProcessing,
    InstanceOutcome,
    JoinSource,
    ObjectFailure,
    SplitType,
    TransformSpec,
)
from millrace.jobs.transform_options import Autotune, JobOptions, OnError
from millrace.names import ObjectPrefix
from millrace.ports.jobs import InstanceRef
from millrace.testing.clock import ManualClock
from millrace.testing.faults import Fault
from millrace.testing.faulty_model import FaultyModel
from millrace.testing.faulty_objects import FaultyObjects, Step, Trouble
from millrace.testing.journal import MemoryJournals

__all__ = ["Guard", "Job", "Play", "Record"]

ANSWER_BYTES = 2000
_KEY = re.compile(rb"k\d{4}")
_FRAMES: Mapping[SplitType, Callable[[bytes], bytes]] = {SplitType.RECORDIO: recordio, SplitType.TFRECORD: tfrecord}


class Guard(Enum):
    """What happens while the guard of a commit is asked."""

    STOPS = auto()
    """The job is stopped."""
    LOSES = auto()
    """The lease is lost."""
    CANCELS = auto()
    """The run is cancelled."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """A record of so many bytes or a few more; a bad one is refused by the model whatever stands around it."""

    size: int
    bad: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What is asked for."""

    split: SplitType = SplitType.LINE
    strategy: BatchStrategy = BatchStrategy.MULTI_RECORD
    assemble_with: AssembleWith = AssembleWith.NONE
    joins: bool = False
    on_error: OnError = OnError.FAIL
    strict: bool = False
    gzip: bool = False
    autotune: bool = False
    payload_bytes: int = 100
    concurrency: int = 3
    retries: int = 2
    inflight_bytes: int = 400
    chunk_bytes: int = 64
    answers_held: int = 20
    objects_open: int = 2
    checkpoints: bool = False
    pause_seconds: float = 0.0
    """The shortest time between two parts of an output."""

    def spec(self) -> TransformSpec:
        """Return the spec of the job."""
        environment = {} if self.on_error is OnError.FAIL else {"MILLRACE_ON_ERROR": self.on_error.value}
        return TransformSpec(
            model="stub",
            source=ObjectPrefix("shop", "in/"),
            output=ObjectPrefix("shop", "out"),
            split=self.split,
            strategy=self.strategy,
            assemble_with=self.assemble_with,
            content_type="text/csv",
            accept="text/csv",
            compression=Compression.GZIP if self.gzip else Compression.NONE,
            processing=DataProcessing(join_source=JoinSource.INPUT if self.joins else JoinSource.NONE),
            invocation_max_retries=self.retries,
            invocation_timeout_seconds=60,
            environment=environment,
        )

    @property
    def counts(self) -> bool:
        """Whether rows of answers are counted."""
        return self.joins or (self.strict and self.split is not SplitType.NONE)

    @property
    def streams(self) -> bool:
        """Whether objects are streamed through: answers have no bound, and the loop's own clock tells of time-outs."""
        one_request = self.split is SplitType.NONE or self.strategy is BatchStrategy.MULTI_RECORD
        asks_more = self.counts or self.autotune or self.on_error is not OnError.FAIL
        return self.payload_bytes == 0 and one_request and not asks_more


class WatchedBudget(Budget):
    """Remembers the most that was held, and is never overdrawn."""

    __slots__ = ("_held", "most")

    def __init__(self, limit: int) -> None:
        self.most = 0
        self._held = 0
        super().__init__(limit)

    @property
    def held(self) -> int:
        return self._held

    @held.setter
    def held(self, value: int) -> None:
        assert value >= 0, f"more room is given back than was taken: {value}"
        self._held = value
        self.most = max(self.most, value)


@dataclass
class _Object:
    """An input: the records as they stand in it, as they are sent, and those that the model refuses."""

    key: str
    stored: list[bytes] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)

    @property
    def offsets(self) -> list[int]:
        """The first byte of each record, and the end."""
        ends = [0]
        for record in self.stored:
            ends.append(ends[-1] + len(record))
        return ends


class Play:
    """A job, its inputs, and what goes wrong: `run` it to its end, however many lives that takes, then `check`.

    Args:
        job: What is asked for.
        objects: The records of each input.
        script: Faults of the model, request by request, through all lives.
        chunk_sizes: How the store cuts inputs.
        troubles: Steps of the store that fail.
        stops: In each life, the request (from 1) at which it is stopped; 0 if it is from the start.
        cancels: In each life, the request at which its task is cancelled.
        resumes: The lives (from 1) that are the first ones of a job that resumes the one before.
        guards: What happens when the guard is asked for the n-th time (from 0), through all lives.
        turns: For how many turns of the loop the n-th request is thought about, and the store works on a step.
    """

    store_class: type[FaultyObjects] = FaultyObjects

    def __init__(
        self,
        job: Job,
        objects: Sequence[Sequence[Record]],
        script: Sequence[Fault] = (),
        *,
        chunk_sizes: Sequence[int] = (64,),
        troubles: Mapping[tuple[Step, int], Trouble] | None = None,
        stops: Sequence[int] = (),
        cancels: Sequence[int] = (),
        resumes: Collection[int] = (),
        guards: Mapping[int, Guard] | None = None,
        turns: Sequence[int] = (0,),
    ) -> None:
        self.job = job
        self._spec = job.spec()
        self._objects = [self._made(number, records) for number, records in enumerate(objects)]
        self._stops = list(stops)
        self._cancels = list(cancels)
        self._resumes = resumes
        self._job_id = 1
        self._guards = guards or {}
        self._guarded = 0
        self._turns = turns
        self._stop = asyncio.Event()
        self._living: asyncio.Task[InstanceOutcome] | None = None
        self._requests_left = self._requests_until_cancelled = -1
        self._store_chunk_bytes = max(chunk_sizes)
        self.store = self.store_class(chunk_sizes=chunk_sizes, troubles=troubles, turns=turns[0] % 4)
        for entry in self._objects:
            data = b"".join(entry.stored)
            self.store.add(f"s3://shop/in/{entry.key}", gzip.compress(data, mtime=0) if job.gzip else data)
        self.model = FaultyModel(
            self._rows,
            script,
            huge_bytes=ANSWER_BYTES + 500,
            turns=lambda number: turns[number % len(turns)],
            on_request=self._count_request,
        )
        self.lives: list[InstanceOutcome | BaseException] = []
        self._done_before: list[tuple[int, set[bytes]]] = []
        """Of each life: how many attempts at requests were made before it, and the records that were committed."""
        self.committed: list[InputObject] = []
        self.log: list[str] = []
        self.most_held = 0
        self._journals = MemoryJournals()

    def _made(self, number: int, records: Sequence[Record]) -> _Object:
        made = _Object(f"{number}.csv")
        for at, record in enumerate(records):
            text = b"%bk%02d%02d" % (b"BAD," if record.bad else b"", number, at)
            text += b"," + b"x" * max(0, record.size - len(text) - 2)
            if self.job.split in _FRAMES:
                framed = _FRAMES[self.job.split](text)
                made.stored.append(framed)
                made.sent.append(text if self.job.strategy is BatchStrategy.SINGLE_RECORD else framed)
            else:
                made.stored.append(text + b"\n")
                made.sent.append(text + b"\n")
        if self.job.split is SplitType.NONE and made.stored:
            made.stored = made.sent = [b"".join(made.stored)]
        return made

    @staticmethod
    def _rows(body: bytes) -> list[bytes] | None:
        return None if b"BAD" in body else [b"r" + key for key in _KEY.findall(body)]

    def _count_request(self, _: int) -> None:
        self._requests_left -= 1
        if self._requests_left == 0:
            self._stop.set()
        self._requests_until_cancelled -= 1
        if self._requests_until_cancelled == 0 and self._living is not None:
            self._living.cancel()

    async def _guard(self) -> None:
        number = self._guarded
        self._guarded += 1
        for _ in range(self._turns[number % len(self._turns)]):
            await asyncio.sleep(0)
        match self._guards.get(number):
            case Guard.STOPS:
                self._stop.set()
            case Guard.LOSES:
                raise LeaseLost("another has it")
            case Guard.CANCELS if self._living is not None:
                self._living.cancel()

    # -- running

    async def run(self) -> InstanceOutcome:
        """Run the job, and take it up again for as long as it is broken off; return the last outcome."""
        for attempt in range(1, 60):
            self._stop.clear()
            self._requests_left = self._stops.pop(0) if self._stops else -1
            if self._requests_left == 0:
                self._stop.set()
            self._requests_until_cancelled = self._cancels.pop(0) if self._cancels else -1
            self._job_id += attempt - 1 in self._resumes
            ref = InstanceRef(job_id=self._job_id, index=0, attempt=attempt)
            async with self.model:
                self._living = asyncio.create_task(self._live(ref))
                try:
                    outcome = await self._living
                except OSError as exc:
                    assert exc.errno == errno.EIO, "only what the store raises ends a run"
                    self.lives.append(exc)
                    continue
                except (LeaseLost, asyncio.CancelledError) as exc:
                    self.lives.append(exc)
                    continue
            self.lives.append(outcome)
            if not outcome.stopped and not any(told.label == "InternalServerError" for told in outcome.failures):
                return outcome
        raise AssertionError("a job that is taken up often enough ends")

    async def _live(self, ref: InstanceRef) -> InstanceOutcome:
        clock, budget = ManualClock(), WatchedBudget(self.job.inflight_bytes)
        checkpoints = None
        if self.job.checkpoints:
            self._done_before.append((len(self.model.attempts), self._done()))
            checkpoints = await self._checkpoints(ref, None)
        driving = asyncio.create_task(self._drive(clock))
        try:
            async with await list_ahead(self.store, self._spec, Path(), page_objects=1) as inputs:
                outcome = await self._transform(inputs, clock, budget, checkpoints)
        finally:
            driving.cancel()
            self._check_nothing_is_left()
            self.most_held = max(self.most_held, budget.most)
            await self._check_nobody_is_connected()
        self._check_room(outcome, budget)
        return outcome

    async def _checkpoints(self, ref: InstanceRef, inputs: Sequence[InputObject] | None) -> Checkpoints:
        earlier = range(ref.job_id - 1, 0, -1)
        checkpoints = Checkpoints(
            journal=self._journals.open(ref),
            work=f"job {ref.job_id}",
            earlier=[f"job {number}" for number in earlier],
            resumes=ref.attempt > 1,
            pause_seconds=self.job.pause_seconds,
            share=1e9,
            job_id=ref.job_id,
            instance=ref.index,
        )
        await checkpoints.take_up(inputs, earlier)
        return checkpoints

    async def _transform(
        self,
        inputs: Inputs | Sequence[InputObject],
        clock: ManualClock,
        budget: Budget,
        checkpoints: Checkpoints | None,
    ) -> InstanceOutcome:
        job = self.job
        return await run_transform(
            self._spec,
            inputs,
            objects=self.store,
            address=self.model.address,
            effective=EffectiveSettings(
                max_concurrent_transforms=job.concurrency, max_payload_bytes=job.payload_bytes, strategy=job.strategy
            ),
            data_log=self.log.append,
            on_progress=lambda _: None,
            stop=self._stop,
            commit_guard=self._guard,
            clock=clock,
            limits=Limits(
                chunk_bytes=job.chunk_bytes,
                inflight_bytes=job.inflight_bytes,
                answer_bytes=ANSWER_BYTES,
                answers_held=job.answers_held,
                objects_open=job.objects_open,
                write_bytes=50,
                tick_seconds=5,
            ),
            options=JobOptions(
                on_error=job.on_error,
                strict_counts=job.strict,
                autotune=Autotune.THROUGHPUT if job.autotune else Autotune.OFF,
            ),
            checkpoints=checkpoints,
            on_committed=self.committed.append,
            budget=budget,
        )

    def _check_room(self, outcome: InstanceOutcome, budget: WatchedBudget) -> None:
        assert outcome.stopped or budget.held == 0, f"all room is given back: {budget.held}"
        assert budget.most <= self._most_allowed(), f"{budget.most} bytes were held of {budget.limit}"

    def _done(self) -> set[bytes]:
        """Return the keys of the records that are committed: in a part, or in an output."""
        done: set[bytes] = set()
        outputs = self.store.keys("shop", "out/")
        jobs = self._journals.entries.values()
        saved = [told for instances in jobs for held in instances.values() for told in held.items()]
        for entry in self._objects:
            name = f"s3://shop/out/{entry.key}.out"
            parts = [orjson.loads(text) for key, text in saved if key.partition("#")[0] == name]
            bounds = [(part["began_at"], part["began_at"] + part["offset"]) for part in parts]
            if f"out/{entry.key}.out" in outputs:
                bounds = [(0, entry.offsets[-1])]
            for record, begin, end in zip(entry.stored, entry.offsets, entry.offsets[1:], strict=False):
                if any(first <= begin and end <= last for first, last in bounds):
                    done.update(_KEY.findall(record))
        return done

    def _most_allowed(self) -> int:
        """Return the bound of room: beyond the limit go one payload, and answers that come whole in one segment.

        Of an answer that is not complete all that came counts, head and framing with it.
        """
        job = self.job
        whole = max((sum(map(len, entry.stored)) for entry in self._objects), default=0)
        payload = job.payload_bytes or whole
        sizes = [
            len(attempt.answer or b"") if attempt.fault is Fault.NOTHING else attempt.sent_bytes
            for attempt in self.model.attempts
        ]
        answers = 1 + (16 if job.autotune else job.concurrency)
        beyond = sum(nlargest(answers, sizes)) + (answers * payload if job.joins else 0)
        return job.inflight_bytes + payload + max(job.chunk_bytes, self._store_chunk_bytes) + beyond

    async def _drive(self, clock: ManualClock) -> None:
        """Move the time on whenever nothing happens."""
        seen, quiet = -1, 0
        while True:
            await asyncio.sleep(0.0005)
            activity = self.model.activity + sum(self.store.steps.values())
            quiet = quiet + 1 if activity == seen else 0
            seen = activity
            if quiet >= 2 and clock.pending:
                clock.advance(clock.pending[0])
                quiet = 0

    def _check_nothing_is_left(self) -> None:
        assert self.store.open_writers == 0, "every writer is committed or aborted"
        assert self.store.drafts.open_writers == 0, "every writer of a draft is committed, suspended or aborted"
        tasks = [str(task.get_coro()) for task in asyncio.all_tasks()]
        assert not [
            task
            for task in tasks
            if "_Run." in task or "Requests." in task or "Writing." in task or "InputStream." in task
        ], tasks

    async def _check_nobody_is_connected(self) -> None:
        try:
            await asyncio.wait_for(self.model.left_alone(), 10)
        except TimeoutError:
            raise AssertionError("a connection is left open") from None

    # -- checking

    def check(self, outcome: InstanceOutcome) -> None:
        """Hold outputs, failures and counts of a finished run to what the model answered; what breaks a law is told."""
        try:
            self._check(outcome)
        except AssertionError as exc:
            exc.add_note(self._story())
            raise

    def _story(self) -> str:
        """Return what happened in all lives: some failures come once in thousands of plays, and not again."""
        lives = [repr(life) if isinstance(life, BaseException) else str(life.progress) for life in self.lives]
        attempts = [
            f"{one.fault.name} {one.status} {one.body[:40]!r} of {len(one.body)} bytes: {(one.answer or b'')[:80]!r}"
            for one in self.model.attempts
        ]
        told = [f"{key}: {self.store.data(f's3://shop/{key}')[:2000]!r}" for key in self.store.keys("shop", "out/")]
        parts = {"lives": lives, "data log": self.log, "requests": attempts, "outputs": told}
        return "\n".join(f"-- {title}\n" + "\n".join(lines) for title, lines in parts.items())

    def _check(self, outcome: InstanceOutcome) -> None:
        assert not outcome.stopped
        if self._done_before:
            self._check_nothing_is_done_twice()
        answers = self._accepted()
        failures = {told.key: told for told in outcome.failures}
        assert len(failures) == outcome.failure_count
        ok = failed = by_algorithm = 0
        for entry in self._objects:
            key = f"in/{entry.key}"
            output, bad = self._expected(entry, answers)
            if key in failures:
                self._check_failure(entry, failures[key], bad)
                assert f"out/{entry.key}.out" not in self.store.keys("shop"), "what failed has no output"
                continue
            if self.job.on_error is OnError.FAIL:
                assert not bad, f"{key} has an output although records {bad} have no answer"
            ok, failed = ok + len(entry.stored) - len(bad), failed + len(bad)
            if self.job.split is not SplitType.NONE or not bad or self.job.on_error is OnError.SKIP:
                assert self.store.data(f"s3://shop/out/{entry.key}.out") == output
            if self.job.on_error is not OnError.FAIL:
                by_algorithm += self._check_told(entry, bad)
        progress = outcome.progress
        if not failures:
            assert (progress.records, progress.records_failed) == (ok, failed), "each record is told of once"
            assert progress.records_failed_by_algorithm == by_algorithm, "each is told with whose fault it is"
            assert progress.records_filtered == 0
            assert progress.objects_done == len(self._objects)
            assert not self.store.drafts.kept, "no draft is left"
        lost = {told.key for told in outcome.failures if told.message.endswith("does not exist")}
        kept = {entry.ref.key for entry in self.committed} - lost  # an earlier life may have had it
        assert kept == {f"in/{entry.key}" for entry in self._objects} - set(failures)

    def _check_nothing_is_done_twice(self) -> None:
        """No request holds a record that was committed when the life began that sent it."""
        starts = [start for start, _ in self._done_before[1:]] + [len(self.model.attempts)]
        for (start, done), end in zip(self._done_before, starts, strict=True):
            for attempt in self.model.attempts[start:end]:
                again = done.intersection(_KEY.findall(attempt.body))
                assert not again, f"{sorted(again)} were committed, and are sent again"

    def _accepted(self) -> dict[bytes, bytes]:
        """Return the answer to each body whose last attempt was good."""
        accepted: dict[bytes, bytes] = {}
        for attempt in self.model.attempts:
            accepted.pop(attempt.body, None)
            if attempt.status == 200 and attempt.answer is not None and self._is_good(attempt.body, attempt.answer):
                accepted[attempt.body] = attempt.answer
        return accepted

    def _is_good(self, body: bytes, answer: bytes) -> bool:
        if len(answer) > ANSWER_BYTES and not self.job.streams:
            return False
        if self.job.counts:
            return len(nonblank_lines(answer)) == len(_KEY.findall(body))
        return True

    def _expected(self, entry: _Object, answers: Mapping[bytes, bytes]) -> tuple[bytes, list[int]]:
        """Return the output of an object, and its records that have no answer."""
        output, bad = [], []
        at, count = 0, len(entry.sent)
        while at < count:
            for end in range(count, at, -1):
                body = b"".join(entry.sent[at:end])
                if body in answers:
                    output.append(self._written(body, answers[body]))
                    at = end
                    break
            else:
                bad.append(at)
                if self.job.on_error is OnError.SKIP:
                    output.append(self._placeholder(entry.sent[at]))
                at += 1
        return b"".join(output), bad

    def _written(self, body: bytes, answer: bytes) -> bytes:
        if self.job.joins:
            pairs = zip(nonblank_lines(body), nonblank_lines(answer), strict=True)
            return b"".join(b"%b,%b\n" % pair for pair in pairs)
        return answer + (b"\n" if self.job.assemble_with is AssembleWith.LINE else b"")

    def _placeholder(self, record: bytes) -> bytes:
        if self.job.split is SplitType.NONE:
            return b"\n" if self.job.assemble_with is AssembleWith.LINE else b""
        if not self.job.joins or len(record) > (self.job.payload_bytes or len(record)):
            return b"\n"
        return b"".join(line + b",\n" for line in nonblank_lines(record))

    def _check_failure(self, entry: _Object, told: ObjectFailure, bad: Sequence[int]) -> None:
        """A failure names the first record that has no answer, and where it stands."""
        if told.message.endswith("does not exist"):
            return  # the store lost it midway
        assert bad, f"{entry.key} failed although all of it was answered: {told}"
        if told.record is None:
            return
        limit = self.job.payload_bytes
        if limit and told.message.startswith("Too much data"):  # bad records before it may be left out
            first = next(at for at in bad if len(entry.stored[at]) > limit)
        else:
            first = bad[0]
        assert (told.record, told.offset) == (first + 1, entry.offsets[first]), told
        if told.status is not None:
            statuses = [one.status for one in self.model.attempts if one.body.startswith(entry.sent[bad[0]])]
            assert statuses[-1] == told.status, "the status is that of the last attempt"

    def _check_told(self, entry: _Object, bad: Sequence[int]) -> int:
        """Beside an output stands what was bad of it, in order, and nothing else; return how much the model failed at.

        Records that are longer than a payload are not, nor those that it calls bad.
        """
        lines: list[bytes] = []
        name = f"out/{entry.key}.errors.jsonl"
        if name in self.store.keys("shop"):
            lines = self.store.data(f"s3://shop/{name}").splitlines()
        told = [orjson.loads(line) for line in lines]
        assert [(one["record"], one["offset"]) for one in told] == [(at + 1, entry.offsets[at]) for at in bad]
        if self.job.split is SplitType.LINE:
            assert [one["input"].encode() for one in told] == [entry.stored[at] for at in bad]
        return sum(one["error"].startswith("AlgorithmError: ") for one in told)
