"""A whole transform job in virtual time: model servers, and a pump that asks a controller how much to ask of them.

Everything is an event on one heap, and noise comes from a seeded generator, so that a job takes exactly as long each
time. The pump does what the data plane does: a payload that is refused backs off without a slot, goes first when its
time has come, and nothing new is sent while many back off; the controller may have them hold their slots. One that is
too large is cut in two; one that was refused is cut as well, if payloads have become smaller meanwhile.
"""

import heapq
import random
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from millrace.dataplane.autotune import Autotuner
from millrace.dataplane.autotune_measure import Totals
from millrace.dataplane.autotune_settings import AutotuneSettings, Setting

__all__ = ["Answer", "Ended", "Job", "Slots", "best_static", "run_job", "run_static", "with_neighbours"]

TURNAROUND_SECONDS = 0.0005
"""From an answer until the next request is at the server."""
TICK_SECONDS = 0.025
BACKOFF_SECONDS = 1.0
PROVOKED_SECONDS = 0.1
LONGEST_BACKOFF_SECONDS = 8.0
SPEED_STEP_SECONDS = 0.02
"""A change of speed is noticed by requests under way so often."""
MOST_BACKING_OFF = 64
"""New payloads are sent only while no more than this back off."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server says to a request, and when it says it."""

    at: float
    status: int = 200


def with_neighbours(seed: int) -> Callable[[float], float]:
    """Return the speed of a server that others use as well, now and then, for 0.4 s on average."""
    chance = random.Random(seed)
    times, speeds = [0.0], [1.0]
    while times[-1] < 200.0:
        times.append(times[-1] + chance.expovariate(1 / 0.4))
        speeds.append(chance.choice((1.0, 1.0, 0.65, 0.5, 0.35)))
    return lambda now: speeds[bisect_right(times, now) - 1]


def _at_full_speed(now: float) -> float:
    return 1.0


class Server(Protocol):
    """Decides about a request when it comes; in virtual time that is possible."""

    def ask(self, now: float, size: int) -> Answer:
        """Return the answer to a payload of `size` bytes."""
        ...


@dataclass
class Slots:
    """So many requests are worked on at a time, in the order they came; each takes a + p * size."""

    slots: int
    request_seconds: float = 0.0
    byte_seconds: float = 0.0
    queue: int | None = None
    """Requests that may wait; more are refused with 503. None: as many as come."""
    payload_limit: int | None = None
    """Larger payloads are refused with 413."""
    slow_above: int | None = None
    slow_factor: float = 1.0
    """Larger payloads than that take so many times as long."""
    memory: int | None = None
    """Bytes of payloads held at a time; beyond them a request is refused with 503."""
    noise: float = 0.0
    seed: int = 0
    speed: Callable[[float], float] = _at_full_speed
    """How fast it works at a time, as a share of its full speed."""
    refusing: Callable[[float], bool] = lambda now: False
    """Whether everything is refused with 429 now."""

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._free = [0.0] * self.slots
        self._held: list[tuple[float, int]] = []

    def ask(self, now: float, size: int) -> Answer:
        while self._held and self._held[0][0] <= now:
            heapq.heappop(self._held)
        if self.refusing(now):
            return Answer(now, 429)
        if self.payload_limit is not None and size > self.payload_limit:
            return Answer(now + size * 1e-9, 413)
        if self.queue is not None and len(self._held) >= self.slots + self.queue:
            return Answer(now, 503)
        if self.memory is not None and sum(held for _, held in self._held) + size > self.memory and self._held:
            return Answer(now, 503)
        seconds = self.request_seconds + self.byte_seconds * size
        if self.slow_above is not None and size > self.slow_above:
            seconds *= self.slow_factor
        seconds *= self._random.lognormvariate(0.0, self.noise)
        end = self._end(max(now, heapq.heappop(self._free)), seconds)
        heapq.heappush(self._free, end)
        heapq.heappush(self._held, (end, size))
        return Answer(end)

    def _end(self, begin: float, seconds: float) -> float:
        """Return when work of so many seconds is done, however fast the server is meanwhile."""
        if self.speed is _at_full_speed:
            return begin + seconds
        at = begin
        while (done := SPEED_STEP_SECONDS * self.speed(at)) < seconds:
            seconds -= done
            at += SPEED_STEP_SECONDS
        return at + seconds / self.speed(at)


@dataclass(frozen=True)
class Job:
    """What is to be sent to what."""

    server: Callable[[], Slots]
    settings: AutotuneSettings
    total_bytes: int
    record_bytes: int = 1000
    object_bytes: int | None = None
    """Payloads do not go beyond an object."""


@dataclass(kw_only=True)
class Ended:
    """How a job went."""

    seconds: float = 0.0
    sent: list[tuple[float, int, int]] = field(default_factory=list)
    """When each request was sent, its size, and how many were under way with it."""
    refusals: int = 0
    refusals_of_one: int = 0
    """Most failed attempts of one payload; those that the search brought about are none."""
    tuner: Autotuner | None = None


class _Fixed:
    """A controller that does not learn."""

    def __init__(self, setting: Setting) -> None:
        self.concurrency, self.payload_bytes = setting.concurrency, setting.payload_bytes

    def observe(self, now: float, totals: Totals) -> None:
        """Learn nothing."""

    def refused(self, now: float, sent_at: float, payload_bytes: int) -> bool:
        """Learn nothing."""
        return False

    def too_large(self, now: float, payload_bytes: int) -> None:
        """Learn nothing."""

    def holds(self, now: float) -> bool:
        """Send others meanwhile."""
        return False

    def cuts(self, payload_bytes: int) -> bool:
        """Cut nothing."""
        return False


@dataclass(order=True, slots=True)
class _Event:
    at: float
    number: int
    kind: str = field(compare=False)
    size: int = field(default=0, compare=False)
    status: int = field(default=0, compare=False)
    sent_at: float = field(default=0.0, compare=False)
    attempts: int = field(default=0, compare=False)


def run_job(job: Job) -> Ended:
    """Run a job with the controller."""
    tuner = Autotuner(job.settings)
    return replace(_run(job, tuner), tuner=tuner)


def run_static(job: Job, setting: Setting) -> Ended:
    """Run a job with one setting from beginning to end."""
    return _run(job, _Fixed(setting))


def best_static(job: Job) -> tuple[float, Setting]:
    """Return the time and the setting of the best of a grid within the limits."""
    settings = job.settings
    slots = [2**power for power in range(9) if 2**power <= settings.max_concurrency]
    slots += [between for between in (3, 6, 12) if between <= settings.max_concurrency]
    sizes = [65536, 262144, 524288, 1048576, 2097152, 4194304, settings.max_payload_bytes]
    grid = {settings.fitted(concurrency, size, 0.0) for concurrency in slots for size in sizes}
    ordered = sorted(grid, key=lambda one: (one.concurrency, one.payload_bytes))
    best = float("inf"), ordered[0]
    for setting in ordered:
        seconds = _run(job, _Fixed(setting), give_up_at=best[0]).seconds
        if seconds < best[0]:
            best = seconds, setting
    return best


def _run(job: Job, tuner: "Autotuner | _Fixed", *, give_up_at: float = float("inf")) -> Ended:
    server, ended = job.server(), Ended()
    single = not job.settings.tunes_payload
    answers = records = sent_bytes = in_flight = backing_off = numbers = 0
    latency = 0.0
    unformed, left = job.total_bytes, job.total_bytes
    in_object = job.object_bytes or job.total_bytes
    again: deque[tuple[int, int]] = deque()
    events: list[_Event] = [_Event(0.0, 0, "tick")]

    def push(at: float, kind: str, size: int = 0, status: int = 0, sent_at: float = 0.0, attempts: int = 0) -> None:
        nonlocal numbers
        numbers += 1
        heapq.heappush(events, _Event(at, numbers, kind, size, status, sent_at, attempts))

    def halves(size: int) -> tuple[int, int]:
        half = size // 2 // job.record_bytes * job.record_bytes
        return size - half, half

    def pump(now: float) -> None:
        nonlocal unformed, in_object, in_flight
        while in_flight < tuner.concurrency - (backing_off if tuner.holds(now) else 0):
            tried = 0
            if again:
                size, tried = again.popleft()
            elif unformed and backing_off <= MOST_BACKING_OFF:
                whole = max(job.record_bytes, tuner.payload_bytes // job.record_bytes * job.record_bytes)
                size = min(unformed, in_object, job.record_bytes if single else whole)
                unformed -= size
                in_object -= size
                if not in_object:
                    in_object = min(unformed, job.object_bytes or unformed)
            else:
                return
            in_flight += 1
            ended.sent.append((now, size, in_flight))
            arrives = now + TURNAROUND_SECONDS
            answer = server.ask(arrives, size)
            push(max(arrives, answer.at), "answer", size, answer.status, now, tried)

    pump(0.0)
    now = 0.0
    while left and now < give_up_at:
        event = heapq.heappop(events)
        now = event.at
        if event.kind == "tick":
            push(now + TICK_SECONDS, "tick")
            tuner.observe(
                now,
                Totals(
                    answers=answers,
                    records=records,
                    sent_bytes=sent_bytes,
                    answer_bytes=0,
                    latency_seconds=latency,
                    in_flight=in_flight,
                    remaining_bytes=unformed,
                ),
            )
        elif event.kind == "again":
            backing_off -= 1
            parts = [event.size]
            while not single and tuner.cuts(parts[0]) and parts[0] >= 2 * job.record_bytes:
                parts = [half for part in parts for half in halves(part)]
            again.extend((part, event.attempts if len(parts) == 1 else 0) for part in parts)
        else:
            in_flight -= 1
            if event.status == 200:
                answers += 1
                records += -(-event.size // job.record_bytes)
                sent_bytes += event.size
                latency += now - event.sent_at
                left -= event.size
            elif event.status == 413:
                tuner.too_large(now, event.size)
                again.extend((half, 0) for half in halves(event.size))
            else:
                ended.refusals += 1
                provoked = tuner.refused(now, event.sent_at, event.size)
                attempts = event.attempts + (not provoked)
                ended.refusals_of_one = max(ended.refusals_of_one, attempts)
                backing_off += 1
                pause = min(BACKOFF_SECONDS * 2 ** max(0, attempts - 1), LONGEST_BACKOFF_SECONDS)
                pause = PROVOKED_SECONDS if provoked else pause
                push(now + pause, "again", event.size, attempts=attempts)
        pump(now)
    return replace(ended, seconds=now)
