"""Who may read the metrics."""

import pytest
from prometheus_client import CollectorRegistry, Counter

from millrace.errors import StoreUnavailable
from millrace.metrics import MetricsPage
from millrace.protocol.bodies import MemoryBody
from millrace.protocol.message import Request


def _request(client: str = "127.0.0.1", method: str = "GET", **headers: str) -> Request:
    return Request(
        method=method,
        path=b"/_millrace/metrics",
        query=b"",
        headers=tuple((name.replace("_", "-"), value) for name, value in headers.items()),
        body=MemoryBody(b""),
        client=client,
    )


async def _read() -> None:
    """Find the store as it is."""


def _page(token: str = "") -> MetricsPage:
    registry = CollectorRegistry()
    Counter("orders", "Orders.", registry=registry).inc(3)
    return MetricsPage(registry, _read, token=token)


@pytest.mark.parametrize("client", ["127.0.0.1", "127.9.9.9", "::1"])
async def test_programs_of_this_machine_may_read(client: str) -> None:
    """Without a token, loopback is enough."""
    answer = await _page()(_request(client))
    assert (answer.status, b"orders_total 3.0" in bytes(answer.body)) == (200, True)  # type: ignore[arg-type]


@pytest.mark.parametrize("client", ["10.0.0.7", "", "unix:", "2001:db8::1", "127.0.0.2"])
async def test_others_may_not(client: str) -> None:
    """Without a token, nobody else is answered, and the answer says what would help."""
    answer = await _page()(_request(client))
    assert (answer.status, b"MILLRACE_METRICS_TOKEN" in bytes(answer.body)) == (403, True)  # type: ignore[arg-type]


@pytest.mark.parametrize("header", ["x_forwarded_for", "forwarded", "via", "x_real_ip"])
async def test_what_a_proxy_of_this_machine_hands_on_is_not_of_this_machine(header: str) -> None:
    """A reverse proxy beside the server must not open the page to the world."""
    assert (await _page()(_request(**{header: "10.0.0.7"}))).status == 403


@pytest.mark.parametrize(
    ("authorization", "status"),
    [("Bearer open sesame", 200), ("bearer open sesame", 200), ("Bearer no", 401), ("Basic b3Blbg==", 401), ("", 401)],
)
async def test_a_token_is_asked_of_everybody(authorization: str, status: int) -> None:
    """With a token, being on this machine is neither needed nor enough."""
    answer = await _page("open sesame")(
        _request("10.0.0.7" if status == 200 else "127.0.0.1", authorization=authorization)
    )
    assert answer.status == status


async def test_scrapers_that_ask_for_openmetrics_get_it() -> None:
    """The Accept header chooses the form."""
    answer = await _page()(_request(accept="application/openmetrics-text;version=1.0.0"))
    assert dict(answer.headers)["content-type"].startswith("application/openmetrics-text")
    assert bytes(answer.body).endswith(b"# EOF\n")  # type: ignore[arg-type]


async def test_a_store_that_does_not_answer_is_told() -> None:
    """A scrape without the store's figures would look as if all jobs were gone."""

    async def fail() -> None:
        raise StoreUnavailable("gone")

    assert (await MetricsPage(CollectorRegistry(), fail, token="")(_request())).status == 503


async def test_metrics_are_read_only() -> None:
    """Other methods are refused."""
    assert (await _page()(_request(method="POST"))).status == 405
