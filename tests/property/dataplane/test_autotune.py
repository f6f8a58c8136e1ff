"""Laws of the search for concurrency and payload size, whatever a server does."""

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.autotune_lab import Job, Slots, run_job

from millrace.dataplane.autotune import Autotuner
from millrace.dataplane.autotune_ceiling import Ceiling
from millrace.dataplane.autotune_measure import Totals
from millrace.dataplane.autotune_settings import AutotuneSettings

MB = 1_000_000

limits = st.builds(
    AutotuneSettings,
    tunes_payload=st.booleans(),
    max_concurrency=st.integers(1, 300),
    max_payload_bytes=st.integers(1, 8 * MB),
    first_concurrency=st.integers(1, 64),
    first_payload_bytes=st.integers(1, MB),
    inflight_bytes=st.integers(5 * MB, 64 * MB),
    curve_points=st.integers(8, 40),
)

events = st.lists(
    st.one_of(
        st.tuples(st.just("observe"), st.integers(0, 2000), st.integers(1, 4 * MB), st.floats(1e-4, 30.0)),
        st.tuples(st.just("refused"), st.integers(0, 3), st.integers(1, 8 * MB), st.floats(0.0, 2.0)),
        st.tuples(st.just("too large"), st.integers(0, 3), st.integers(1, 8 * MB), st.floats(0.0, 2.0)),
    ),
    max_size=200,
)


@given(limits, events)
def test_limits_hold_whatever_happens(limits: AutotuneSettings, events: list[tuple[str, int, int, float]]) -> None:
    """One request at least, no more than are allowed; payloads and room within their bounds; a curve that ends."""
    tuner = Autotuner(limits)
    now = latency = 0.0
    answers = sent = 0
    for kind, count, size, seconds in events:
        now += 0.025
        if kind == "observe":
            answers += count
            sent += count * size
            latency += count * seconds
            tuner.observe(
                now,
                Totals(
                    answers=answers,
                    records=answers,
                    sent_bytes=sent,
                    answer_bytes=sent // 2,
                    latency_seconds=latency,
                    in_flight=tuner.concurrency,
                    remaining_bytes=None if count % 3 else size * count,
                ),
            )
        elif kind == "refused":
            tuner.refused(now, now - seconds, size)
        else:
            tuner.too_large(now, size)
        assert 1 <= tuner.concurrency <= limits.max_concurrency
        assert 1 <= tuner.payload_bytes <= limits.max_payload_bytes
        if limits.tunes_payload and tuner.concurrency > 1:
            assert tuner.concurrency * tuner.payload_bytes <= limits.inflight_bytes
        assert len(tuner.curve) <= limits.curve_points
        assert tuner.chosen


@settings(max_examples=30)
@given(
    slots=st.integers(1, 40),
    request_seconds=st.floats(0.001, 0.2),
    byte_seconds=st.sampled_from([0.0, 1e-8, 1e-7, 1e-6]),
    queue=st.sampled_from([None, 0, 8]),
    limit=st.sampled_from([None, 200_000, MB]),
    most=st.integers(1, 64),
    noise=st.sampled_from([0.0, 0.1, 0.5]),
    seed=st.integers(0, 1000),
)
def test_every_job_ends_within_its_limits(
    slots: int,
    request_seconds: float,
    byte_seconds: float,
    queue: int | None,
    limit: int | None,
    most: int,
    noise: float,
    seed: int,
) -> None:
    """Whatever the server is like, all bytes are answered once, and never are more requests under way than allowed."""
    job = Job(
        lambda: Slots(slots, request_seconds, byte_seconds, queue=queue, payload_limit=limit, noise=noise, seed=seed),
        AutotuneSettings(max_concurrency=most),
        20 * MB,
    )
    ended = run_job(job)
    assert max(under_way for _, _, under_way in ended.sent) <= most
    assert max(size for _, size, _ in ended.sent) <= job.settings.max_payload_bytes


@given(st.lists(st.tuples(st.integers(1, 100), st.floats(0.0, 10.0), st.booleans()), max_size=50))
def test_a_ceiling_is_always_forgotten_again(hits: list[tuple[int, float, bool]]) -> None:
    """However often a value is refused, after a time nothing keeps it from being tried."""
    ceiling = Ceiling(first_seconds=1.0, longest_seconds=60.0)
    now = 0.0
    for value, pause, passed in hits:
        now += pause
        if passed:
            ceiling.passed(value)
        else:
            ceiling.hit(value, now)
            assert ceiling.limit(now) is not None
    assert ceiling.limit(now + 60.0) is None
