"""Whatever is killed, and whenever: jobs end, their outputs are right, and nothing that was committed is done again.

`make crash-test TRIALS=300` runs more of it than all tests together can wait for.
"""

import os
import random
import time
from pathlib import Path

import pytest

from tests.crash.cases import CASES
from tests.crash.trials import Crashes
from tests.integration.platform import Platform
from tests.postgresql import PostgresqlServer

TRIALS = int(os.environ.get("MILLRACE_CRASH_TRIALS", "18"))
SEED = int(os.environ.get("MILLRACE_CRASH_SEED", "1"))
JOBS, KILLS = 4, 5
"""In a round: as many as two cores can run beside each other."""

SETTINGS = {"heartbeat_seconds": 0.2, "lease_seconds": 3.0, "max_instance_attempts": 100}


def test_whatever_is_killed_jobs_end_right(tmp_path: Path) -> None:
    """On SQLite."""
    crash(Platform(tmp_path / "platform", **SETTINGS), random.Random(SEED), TRIALS)


def test_whatever_is_killed_jobs_on_postgresql_end_right(tmp_path: Path, postgresql: PostgresqlServer) -> None:
    """On PostgreSQL, which is not killed here."""
    platform = Platform(tmp_path / "platform", database_url=postgresql.create_database(), **SETTINGS)
    crash(platform, random.Random(SEED + 1), max(1, TRIALS // 4))


def crash(platform: Platform, chance: random.Random, trials: int) -> None:
    """Go through rounds until there were enough trials, and tell of them."""
    crashes = Crashes(platform, chance)
    try:
        started = time.monotonic()
        crashes.prepare(CASES if trials > len(CASES) else chance.sample(CASES, 6))
        prepared = time.monotonic()
        while crashes.trials.total() < trials:
            crashes.round(jobs=JOBS, kills=KILLS)
        print(f"\nafter {prepared - started:.0f} s: {crashes.told(time.monotonic() - prepared)}")
    finally:
        crashes.close()


@pytest.fixture(autouse=True)
def _told(request: pytest.FixtureRequest) -> None:
    """Have a failure tell how it is repeated."""
    request.node.add_report_section("setup", "seed", f"MILLRACE_CRASH_SEED={SEED} MILLRACE_CRASH_TRIALS={TRIALS}")
