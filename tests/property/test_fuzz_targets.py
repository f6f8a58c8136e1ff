"""Every fuzzing target, for a moment: `make fuzz` runs them for as long as one likes."""

import pytest
from fuzz.targets import TARGETS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SLOW = {"gzip_objects", "zstd_objects", "parquet_tables", "arrow_tables", "tables_of_rows", "headers"}
"""Targets that run an event loop for each input."""


@st.composite
def damaged(draw: st.DrawFn, seed: bytes) -> bytes:
    """A seed with some of its bytes changed, left out, repeated or put in."""
    data = bytearray(seed)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 8))
        data[at : at + length] = draw(st.one_of(st.binary(max_size=4), st.just(bytes(data[at : at + length] * 2))))
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_are_read_or_refused(name: str) -> None:
    """Whatever bytes come, they are taken as they are meant, or refused by an error of a known type."""
    target = TARGETS[name]
    inputs = st.one_of(st.binary(max_size=200), *(damaged(seed) for seed in target.seeds()))

    @settings(
        max_examples=20 if name in SLOW else 150,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )
    @given(inputs)
    def check(data: bytes) -> None:
        target.check(data)

    check()


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_taken(name: str) -> None:
    """What fuzzing begins with breaks no target."""
    for seed in TARGETS[name].seeds():
        TARGETS[name].check(seed)
