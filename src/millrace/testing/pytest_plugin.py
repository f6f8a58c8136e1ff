"""Fixtures that give tests a running Millrace: `millrace_server`, with a fresh state for each test, and
`millrace_server_session`, with one state for all.

pytest finds this module by the entry point `pytest11` wherever Millrace is installed, so importing it must cost next to
nothing: the server is another process, started when the first test asks for a fixture.
"""

from collections.abc import Iterator

import pytest

from millrace.testing.server_process import DISTURBING, MillraceServer

__all__ = ["millrace_server", "millrace_server_session"]


@pytest.fixture(scope="session")
def _millrace_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MillraceServer]:
    with MillraceServer(tmp_path_factory.mktemp("millrace-server")) as server:
        yield server


@pytest.fixture
def millrace_server(_millrace_process: MillraceServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[MillraceServer]:
    """A running Millrace with an empty state; AWS clients made in the test find it by the environment."""
    for name in DISTURBING:
        monkeypatch.delenv(name, raising=False)
    for name, value in _millrace_process.env.items():
        monkeypatch.setenv(name, value)
    yield _millrace_process
    _millrace_process.reset()


@pytest.fixture(scope="session")
def millrace_server_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MillraceServer]:
    """A running Millrace of its own whose state lasts for the session; the environment is left as it is."""
    with MillraceServer(tmp_path_factory.mktemp("millrace-server-session")) as server:
        yield server
