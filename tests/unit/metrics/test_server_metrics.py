"""What the server counts of requests, and how many series that can become."""

from typing import Any

from prometheus_client import generate_latest

from millrace.http.exchange import UNKNOWN, Exchange
from millrace.metrics import ServerMetrics
from millrace.metrics.server_metrics import MAX_VARIANTS


def _exchange(operation: str = "GetObject", status: int = 200, **changes: Any) -> Exchange:
    exchange = Exchange("id", "GET", b"/", "s3", operation, {}, status, (), 0.003)
    return exchange._replace(**changes)


def _invocation(endpoint: str, variant: str = "AllTraffic", status: int = 200) -> Exchange:
    headers = (("x-amzn-invoked-production-variant", variant),) if variant else ()
    return _exchange(
        "InvokeEndpoint", status, service="sagemaker-runtime", labels={"EndpointName": endpoint}, headers=headers
    )


def test_requests_are_counted_and_timed_by_operation() -> None:
    """Each request adds to its counter and to the buckets of its latency."""
    metrics = ServerMetrics()
    metrics.count_exchange(_exchange())
    metrics.count_exchange(_exchange(seconds=4.0))
    metrics.count_exchange(_exchange(status=404))
    value = metrics.registry.get_sample_value
    labels = {"service": "s3", "operation": "GetObject"}
    assert value("millrace_requests_total", {**labels, "status": "200"}) == 2
    assert value("millrace_requests_total", {**labels, "status": "404"}) == 1
    assert value("millrace_request_duration_seconds_bucket", {**labels, "le": "0.005"}) == 2
    assert value("millrace_request_duration_seconds_count", labels) == 3


def test_invocations_are_counted_by_endpoint_and_variant() -> None:
    """The variant is the one that answered."""
    metrics = ServerMetrics()
    metrics.count_exchange(_invocation("shop-model"))
    metrics.count_exchange(_invocation("shop-model", variant="", status=424))
    value = metrics.registry.get_sample_value
    labels = {"endpoint": "shop-model", "variant": "AllTraffic"}
    assert value("millrace_endpoint_invocations_total", {**labels, "status": "200"}) == 1
    assert value("millrace_endpoint_invocation_duration_seconds_count", labels) == 1
    labels["variant"] = ""
    assert value("millrace_endpoint_invocations_total", {**labels, "status": "424"}) == 1


def test_names_that_no_endpoint_has_make_no_series() -> None:
    """A client that asks for a million endpoints that are not there fills no memory."""
    metrics = ServerMetrics()
    for number in range(1000):
        metrics.count_exchange(_invocation(f"no-{number}", variant="", status=400))
    labels = {"endpoint": UNKNOWN, "variant": "", "status": "400"}
    assert metrics.registry.get_sample_value("millrace_endpoint_invocations_total", labels) == 1000


def test_beyond_a_bound_variants_are_counted_together() -> None:
    """The page stays of a size that can be scraped, however many endpoints come and go."""
    metrics = ServerMetrics()
    for _ in range(2):
        for number in range(MAX_VARIANTS + 50):
            metrics.count_exchange(_invocation(f"endpoint-{number}"))
    labels = {"endpoint": "other", "variant": "other", "status": "200"}
    assert metrics.registry.get_sample_value("millrace_endpoint_invocations_total", labels) == 100
    assert generate_latest(metrics.registry).count(b"\nmillrace_endpoint_invocations_total{") == MAX_VARIANTS + 1


def test_a_second_attempt_is_a_takeover() -> None:
    """Agents started, agents lost, and attempts in the place of earlier ones."""
    metrics = ServerMetrics()
    metrics.count_agent_start(1)
    metrics.count_agent_loss()
    metrics.count_agent_start(2)
    value = metrics.registry.get_sample_value
    assert value("millrace_agents_started_total") == 2
    assert value("millrace_agents_lost_total") == 1
    assert value("millrace_lease_takeovers_total") == 1
