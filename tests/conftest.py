"""Fixtures of all tests."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.postgresql import PostgresqlServer, find_binaries, running_server

settings.register_profile("patient", deadline=None)  # how long an example takes is the machine's matter
settings.load_profile("patient")

NOT_INSTALLED = "PostgreSQL is not installed: no initdb in PATH or /usr/lib/postgresql/*/bin"


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    """One PostgreSQL server for all tests that don't hurt it."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip(NOT_INSTALLED)
    with running_server(binaries) as server:
        yield server


@pytest.fixture(scope="session")
def fragile_postgresql() -> Iterator[PostgresqlServer]:
    """A PostgreSQL server that tests stop and crash; each leaves it started."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip(NOT_INSTALLED)
    with running_server(binaries) as server:
        yield server


@pytest.fixture
def database_url(postgresql: PostgresqlServer) -> str:
    """The address of a database for one test, with our tables in it."""
    return postgresql.create_database()
