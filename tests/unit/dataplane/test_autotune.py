"""Tests of the search for concurrency and payload size, over whole jobs in virtual time."""

import statistics
from collections.abc import Callable
from functools import partial

import pytest
from tests.autotune_lab import Answer, Job, Slots, best_static, run_job, run_static, with_neighbours

from millrace.dataplane.autotune import Autotuner
from millrace.dataplane.autotune_measure import CurvePoint, Totals, Verdict
from millrace.dataplane.autotune_settings import AutotuneSettings, Setting

MB = 1_000_000
JobOf = Callable[[float], Job]
RECORDS = AutotuneSettings(tunes_payload=False)
PAYLOADS = AutotuneSettings()


def share_of_best(job: Job) -> float:
    """Return how near a job comes to the best static setting of a grid: 1 is as quick."""
    return best_static(job)[0] / run_job(job).seconds


def points(tuner: Autotuner | None, verdict: Verdict) -> list[CurvePoint]:
    """Return the points of a curve with one verdict."""
    assert tuner is not None
    return [point for point in tuner.curve if point.verdict is verdict]


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.2])
@pytest.mark.parametrize(
    "job",
    [
        pytest.param(lambda noise: Job(lambda: Slots(2, 0.002, 0, noise=noise), RECORDS, 10 * MB), id="records"),
        pytest.param(lambda noise: Job(lambda: Slots(2, 0.003, 1e-7, noise=noise), PAYLOADS, 600 * MB), id="payloads"),
        pytest.param(lambda noise: Job(lambda: Slots(8, 0.01, 1e-7, noise=noise), PAYLOADS, 1600 * MB), id="8 cores"),
        pytest.param(lambda noise: Job(lambda: Slots(5, 0.02, 1e-6, noise=noise), PAYLOADS, 200 * MB), id="slow model"),
    ],
)
def test_a_server_bound_by_its_processors_is_kept_busy(job: JobOf, noise: float) -> None:
    """On a server with few cores a whole job takes at most a twentieth longer than with the best setting of a grid."""
    assert share_of_best(job(noise)) >= 0.95


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_a_server_that_only_waits_gets_all_requests_that_are_allowed(noise: float) -> None:
    """On a server that sleeps 50 ms for each request, more are sent at a time, up to the limit."""
    job = Job(
        lambda: Slots(1000, 0.05, 0, noise=noise), AutotuneSettings(tunes_payload=False, max_concurrency=64), 25 * MB
    )
    ended = run_job(job)
    assert ended.tuner is not None
    assert ended.tuner.concurrency == 64
    assert best_static(job)[0] / ended.seconds >= 0.95


def test_a_server_that_only_waits_gets_as_many_bytes_as_may_be_held() -> None:
    """Where payloads are free and requests are not, the room in memory is the limit, and it is used."""
    assert share_of_best(Job(lambda: Slots(1000, 0.05, 0), PAYLOADS, 9_000 * MB)) >= 0.95


@pytest.mark.parametrize("queue", [None, 0])
@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("settings", [RECORDS, PAYLOADS], ids=["records", "payloads"])
def test_two_slots_are_found(settings: AutotuneSettings, noise: float, queue: int | None) -> None:
    """A server with two workers is kept busy, whether it lets further requests wait or refuses them."""
    size = 600 * MB if settings.tunes_payload else 2 * MB
    server = (0.02, 1e-7) if settings.tunes_payload else (0.02, 0.0)
    job = Job(lambda: Slots(2, *server, noise=noise, queue=queue), settings, size)
    ended = run_job(job)
    assert best_static(job)[0] / ended.seconds >= 0.95
    assert ended.refusals_of_one <= 2, "of the three attempts more that a request has"


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_payloads_stay_below_what_a_server_accepts(noise: float) -> None:
    """A server that answers 413 to more than a megabyte is sent hardly less, and no second one that is too large."""
    job = Job(lambda: Slots(2, 0.02, 1e-7, noise=noise, payload_limit=MB), PAYLOADS, 500 * MB)
    ended = run_job(job)
    assert best_static(job)[0] / ended.seconds >= 0.95
    refused = [size for _, size, _ in ended.sent if size > MB]
    assert len(refused) <= 8, "those of one trial"


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_what_a_server_can_hold_in_all_is_found(noise: float) -> None:
    """A server that refuses what does not fit into its memory with the other requests is filled and not flooded."""
    job = Job(lambda: Slots(4, 0.02, 1e-7, noise=noise, memory=4 * MB), PAYLOADS, 600 * MB)
    ended = run_job(job)
    assert best_static(job)[0] / ended.seconds >= 0.95
    assert ended.refusals_of_one <= 3


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_payloads_that_a_server_is_slow_with_are_given_up(noise: float) -> None:
    """Where larger payloads take ten times as long, a trial of them costs little of a job of a minute."""
    job = Job(
        lambda: Slots(2, 0.02, 1e-7, noise=noise, slow_above=MB, slow_factor=10),
        AutotuneSettings(max_concurrency=8),
        1200 * MB,
    )
    ended = run_job(job)
    assert best_static(job)[0] / ended.seconds >= 0.9
    assert ended.tuner is not None
    assert ended.tuner.payload_bytes <= MB


def test_a_server_that_gets_slower_is_measured_anew() -> None:
    """When a server slows down for good, the search goes on from where it is, and finds more slots worth while."""

    def waits_longer_later() -> Slots:
        return Slots(32, 0.01, 0, speed=lambda now: 4.0 if now < 5 else 1.0)

    ended = run_job(Job(waits_longer_later, AutotuneSettings(tunes_payload=False, max_concurrency=64), 100 * MB))
    settled = [point for point in points(ended.tuner, Verdict.KEPT) if point.at_seconds > 10]
    assert settled
    assert all(point.records_per_second > 0.9 * 32 / 0.0105 for point in settled)


def test_a_server_that_grows_is_noticed() -> None:
    """When a server gets more workers, a look from time to time finds them."""

    class Growing(Slots):
        def ask(self, now, size):  # type: ignore[no-untyped-def]
            if now >= 8 and len(self._free) == 2:
                self._free += [now] * 6
            return super().ask(now, size)

    ended = run_job(Job(lambda: Growing(2, 0.02, 0), RECORDS, 8 * MB))
    assert ended.seconds < 8 + (8000 - 8 * 100) / 400 * 1.5
    assert ended.tuner is not None
    assert ended.tuner.concurrency >= 8


@pytest.mark.parametrize(
    "server",
    [
        pytest.param(lambda **speed: Slots(1, 0.003, 5e-8, **speed), id="one core"),
        pytest.param(lambda **speed: Slots(2, 0.02, 1e-7, queue=0, **speed), id="two slots"),
        pytest.param(lambda **speed: Slots(2, 0.02, 1e-7, payload_limit=MB, **speed), id="small payloads"),
    ],
)
def test_what_others_do_to_a_server_is_not_taken_for_what_a_setting_does(server: Callable[..., Slots]) -> None:
    """On a server whose processors others use as well, jobs come near the best setting on average, none far from it."""
    jobs = [Job(partial(server, speed=with_neighbours(seed)), PAYLOADS, 350 * MB) for seed in range(6)]
    known = [Setting(concurrency=2, payload_bytes=size) for size in (900_000, 2 * MB, 6 * MB)]
    shares = [min(run_static(job, one).seconds for one in known) / run_job(job).seconds for job in jobs]
    assert statistics.fmean(shares) >= 0.94, shares
    assert min(shares) >= 0.85, shares


@pytest.mark.parametrize("settings", [RECORDS, PAYLOADS], ids=["records", "payloads"])
def test_a_server_that_slows_down_half_way_is_kept_busy(settings: AutotuneSettings) -> None:
    """When somebody takes half of the server's processors, the job goes on at half its rate and loses little else."""
    size, server = (600 * MB, (2, 0.02, 1e-7)) if settings.tunes_payload else (2 * MB, (2, 0.02, 0.0))
    job = Job(lambda: Slots(*server, speed=lambda now: 1.0 if now < 10 else 0.5), settings, size)
    assert share_of_best(job) >= 0.95


@pytest.mark.parametrize("settings", [RECORDS, PAYLOADS], ids=["records", "payloads"])
def test_a_server_that_begins_to_refuse_is_asked_for_less(settings: AutotuneSettings) -> None:
    """When 429 answers what is more than two at a time from now on, two are sent; what was refused comes again soon."""

    class Shrinking(Slots):
        def ask(self, now: float, size: int) -> Answer:
            if now >= 10 and self.queue is None:
                self._free = self._free[:2]
                self.slots, self.queue = 2, 0
            return super().ask(now, size)

    tunes = settings.tunes_payload
    job = Job(lambda: Shrinking(8, 0.02, 1e-7 if tunes else 0.0), settings, 1200 * MB if tunes else 5 * MB)
    ended = run_job(job)
    rate = 8 / 0.02 * 1000 if not tunes else 8 / (0.02 / 2**21 + 1e-7)
    undisturbed = 10 + (job.total_bytes - 10 * rate) / (rate / 4)
    assert undisturbed / ended.seconds >= 0.9
    assert ended.tuner is not None
    assert ended.tuner.concurrency == 2
    assert ended.refusals_of_one <= 3, "of as many attempts more that a request has"
    assert ended.refusals <= 60


def test_a_server_that_begins_to_count_requests_is_sent_larger_payloads_or_waited_for() -> None:
    """When only twenty requests a second are allowed from now on, no payload uses up its attempts."""

    class Counting(Slots):
        tokens, filled_at = 20.0, 10.0

        def ask(self, now: float, size: int) -> Answer:
            if now < 10:
                return super().ask(now, size)
            self.tokens, self.filled_at = min(20.0, self.tokens + (now - self.filled_at) * 20.0), now
            if self.tokens < 1.0:
                return Answer(now, 429)
            self.tokens -= 1.0
            return super().ask(now, size)

    ended = run_job(Job(lambda: Counting(4, 0.01, 1e-8), PAYLOADS, 5000 * MB))
    assert ended.refusals_of_one <= 3
    assert ended.seconds < 60


def test_a_burst_of_refusals_is_got_over() -> None:
    """After a second of nothing but 429 the number of requests goes back to what it was."""
    job = Job(
        lambda: Slots(16, 0.02, 0, refusing=lambda now: 5 <= now < 6),
        AutotuneSettings(tunes_payload=False, max_concurrency=16),
        16 * MB,
    )
    ended = run_job(job)
    assert ended.tuner is not None
    assert ended.tuner.concurrency >= 12
    undisturbed = 16_000 / 16 * 0.0205
    assert ended.seconds < undisturbed + 4
    assert ended.refusals_of_one <= 3
    assert min(point.concurrency for point in ended.tuner.curve if point.at_seconds > 5) < 16


def test_small_objects_do_not_stop_the_search() -> None:
    """Where objects are smaller than payloads may be, only the number of requests matters, and it is found."""
    assert share_of_best(Job(lambda: Slots(4, 0.005, 1e-7), PAYLOADS, 300 * MB, object_bytes=50_000)) >= 0.95


def test_requests_that_gain_nothing_are_not_sent() -> None:
    """Where a queue in the server brings nothing, requests do not wait there: far fewer than are allowed are sent."""
    tuner = run_job(Job(lambda: Slots(4, 0.02, 0, noise=0.05), RECORDS, 6 * MB)).tuner
    assert tuner is not None
    assert 4 <= tuner.concurrency <= 8


def test_payloads_shrink_at_the_end_of_the_input() -> None:
    """The last payloads are smaller, so that no slot works long while the others have nothing left."""
    ended = run_job(Job(lambda: Slots(2, 0.05, 1e-7), PAYLOADS, 400 * MB))
    sizes = [size for _, size, _ in ended.sent]
    assert max(sizes) > 2 * MB
    assert max(sizes[-4:]) < max(sizes) / 2


def test_the_choice_and_the_curve_are_told() -> None:
    """The data log gets a sentence with what was chosen; the curve has what was measured, in order of time."""
    ended = run_job(Job(lambda: Slots(2, 0.003, 1e-7), PAYLOADS, 100 * MB))
    assert ended.tuner is not None
    assert ended.tuner.chosen.startswith(f"Autotuning: {ended.tuner.concurrency} requests at a time, payloads of "), (
        ended.tuner.chosen
    )
    times = [point.at_seconds for point in ended.tuner.curve]
    assert times == sorted(times)
    assert {Verdict.TAKEN, Verdict.LEFT, Verdict.KEPT} <= {point.verdict for point in ended.tuner.curve}
    taken = points(ended.tuner, Verdict.TAKEN)[-1]
    assert taken.megabytes_per_second > 15
    assert taken.mean_latency_seconds > 0.003


def test_before_anything_is_measured_the_first_guess_is_told() -> None:
    """The first guess lies within the limits."""
    tuner = Autotuner(AutotuneSettings(max_concurrency=3, first_concurrency=8, max_payload_bytes=1000))
    assert (tuner.concurrency, tuner.payload_bytes) == (3, 1000)
    assert tuner.chosen == "Autotuning: 3 requests at a time, payloads of 0.000954 MB"


def test_answers_need_room_too() -> None:
    """Payloads and their answers fit into memory together: a model that answers more than it is sent gets less."""
    tuner = Autotuner(AutotuneSettings(inflight_bytes=2 * MB, reserve_bytes=0, first_concurrency=4))
    for tick in range(8):
        tuner.observe(
            tick * 0.1,
            Totals(
                answers=tick * 20,
                records=tick * 20,
                sent_bytes=tick * 20 * 131072,
                answer_bytes=tick * 20 * 131072 * 9,
                latency_seconds=tick * 0.4,
                in_flight=4,
            ),
        )
    assert tuner.concurrency * tuner.payload_bytes * 10 <= 2 * MB


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"max_concurrency": 0}, "max_concurrency must be at least 1, got 0"),
        ({"curve_points": 7}, "curve_points must be at least 8, got 7"),
        ({"inflight_bytes": 10, "reserve_bytes": 10}, r"below inflight_bytes \(10\), got 10"),
    ],
)
def test_limits_that_cannot_hold_are_refused(wrong: dict[str, int], told: str) -> None:
    """A setting out of its range is told by its name, the rule and the value."""
    with pytest.raises(ValueError, match=told):
        AutotuneSettings(**wrong)  # type: ignore[arg-type]
