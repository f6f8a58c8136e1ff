"""What this process counts as it happens: requests, invocations of endpoints, writes, agents.

A label's values are bounded: operations are those of the tables that are served, statuses are numbers, and beyond
MAX_VARIANTS variants of endpoints all others are counted together.
"""

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector

from millrace.http.exchange import UNKNOWN, Exchange
from millrace.metrics.timed_series import TimedSeries, Timings

__all__ = ["MAX_VARIANTS", "ServerMetrics"]

MAX_VARIANTS = 200
"""Variants of endpoints that have series of their own, for each status; others are counted under "other"."""

WRITE_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0)

_INVOCATIONS = frozenset({"InvokeEndpoint", "InvokeEndpointWithResponseStream"})
_VARIANT_HEADER = "x-amzn-invoked-production-variant"
_OTHER = "other"


class ServerMetrics:
    """The series of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self.registry)
        self._requests = TimedSeries(
            ("millrace_requests", "API requests answered."),
            ("millrace_request_duration_seconds", "Time from a request's headers to the last byte of its answer."),
            ("service", "operation"),
        )
        self._invocations = TimedSeries(
            ("millrace_endpoint_invocations", "Invocations of endpoints answered."),
            (
                "millrace_endpoint_invocation_duration_seconds",
                "Time of invocations of endpoints, as their callers see it.",
            ),
            ("endpoint", "variant"),
        )
        self.registry.register(self._requests)
        self.registry.register(self._invocations)
        self._write_seconds = Histogram(
            "millrace_store_write_duration_seconds",
            "Time of transactions that write to the state store, with the wait for their turn.",
            buckets=WRITE_SECONDS,
            registry=self.registry,
        )
        self._agents_started = Counter(
            "millrace_agents_started",
            "Agents that this server started.",
            registry=self.registry,
        )
        self._agents_lost = Counter(
            "millrace_agents_lost",
            "Agents that ended without a word or fell silent; each time another attempt begins or the job fails.",
            registry=self.registry,
        )
        self._takeovers = Counter(
            "millrace_lease_takeovers",
            "Attempts that this server started in the place of an earlier one.",
            registry=self.registry,
        )
        self._known_requests: dict[tuple[str, str, int], Timings] = {}
        self._known_invocations: dict[tuple[str, str, int], Timings] = {}
        self._variants: set[tuple[str, str]] = set()

    def count_exchange(self, exchange: Exchange) -> None:
        """Count one request, and the invocation that it was."""
        key = (exchange.service, exchange.operation, exchange.status)
        known = self._known_requests.get(key)
        if known is None:
            known = self._known_requests[key] = self._requests.timings(key[:2], exchange.status)
        known.add(exchange.seconds)
        if exchange.operation in _INVOCATIONS and exchange.labels:
            self._count_invocation(exchange)

    def _count_invocation(self, exchange: Exchange) -> None:
        endpoint = exchange.labels.get("EndpointName", UNKNOWN)
        variant = next((value for name, value in exchange.headers if name.lower() == _VARIANT_HEADER), "")
        if exchange.status < 500 and not variant and exchange.status != 424:
            endpoint = UNKNOWN  # refused before an endpoint was found: any name may stand there
        key = (endpoint, variant, exchange.status)
        known = self._known_invocations.get(key)
        if known is None:
            known = self._new_invocation(endpoint, variant, exchange.status)
        known.add(exchange.seconds)

    def _new_invocation(self, endpoint: str, variant: str, status: int) -> Timings:
        if (endpoint, variant) not in self._variants:
            if len(self._variants) >= MAX_VARIANTS:
                endpoint = variant = _OTHER
            self._variants.add((endpoint, variant))
        known = self._known_invocations[endpoint, variant, status] = self._invocations.timings(
            (endpoint, variant), status
        )
        return known

    def count_write(self, seconds: float) -> None:
        """Count one writing transaction."""
        self._write_seconds.observe(seconds)

    def count_agent_start(self, attempt: int) -> None:
        """Count an agent that was started for an attempt of an instance."""
        self._agents_started.inc()
        if attempt > 1:
            self._takeovers.inc()

    def count_agent_loss(self) -> None:
        """Count an instance whose agent is gone."""
        self._agents_lost.inc()
