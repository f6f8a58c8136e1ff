"""Fixtures of the integration tests."""

from collections.abc import Iterator

import pytest

from tests.integration.platform import Platform


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """One server for all tests that don't hurt it."""
    running = Platform(tmp_path_factory.mktemp("platform")).start()
    running.put("s3://shop/in/a.csv", b"1,2\n3,4\n5,6\n")
    running.put("s3://shop/in/sub/b.csv", b"7,8\n")
    yield running
    assert running.stop() == 0


@pytest.fixture
def own_platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A server for one test that hurts it."""
    running = Platform(tmp_path_factory.mktemp("own"), heartbeat_seconds=0.2, lease_seconds=3.0).start()
    running.put("s3://shop/in/a.csv", b"1,2\n3,4\n5,6\n")
    yield running
    running.stop()
