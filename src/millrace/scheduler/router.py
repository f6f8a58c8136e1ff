"""Carry invocations to the instances of endpoints.

Routes are read from the store when an endpoint is first called and again after it moved; between, an invocation costs
no query. Variants are drawn by weight, of a variant's instances the one with the fewest requests in flight is taken.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from millrace.dataplane import client
from millrace.dataplane.client import Client, ConnectionFailed, InvocationTimeout
from millrace.jobs.endpoint_lifecycle import serving_instances
from millrace.jobs.job import EndpointJob, Job, JobKind, JobStatus
from millrace.ports.endpoints import (
    AnswerTooLarge,
    EndpointNotReady,
    Invocation,
    InvocationAnswer,
    NoSuchEndpoint,
    NoSuchVariant,
)
from millrace.ports.jobs import JobStore, NoSuchJob
from millrace.ports.runtime import Address

__all__ = ["StoreRouter"]

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""Bytes of a container's answer that are held. SageMaker carries 6 MB (containers.md 5.3); more does no harm."""

ROUTE_SECONDS = 1.0
"""How long a route is trusted: another server on the same store may have moved the endpoint."""


@dataclass
class _Target:
    address: Address
    client: Client
    in_flight: int = 0
    is_broken: bool = False
    """The last request got no connection: others are asked first."""
    is_retired: bool = False
    """The instance is gone; the last request that it still answers closes the connections."""

    def retire(self) -> None:
        """Close the connections, now or when the last request is answered."""
        self.is_retired = True
        if not self.in_flight:
            self.client.close()


@dataclass
class _Route:
    version: int
    checked_at: float
    status: JobStatus
    weights: dict[str, float] = field(default_factory=dict)
    targets: dict[str, list[_Target]] = field(default_factory=dict)


class StoreRouter:
    """An EndpointRouter over the job store."""

    def __init__(self, jobs: JobStore, *, draw: Callable[[], float] = random.random) -> None:
        self._jobs = jobs
        self._draw = draw
        self._routes: dict[tuple[str, str], _Route] = {}

    async def invoke(self, invocation: Invocation) -> InvocationAnswer:
        route = await self._route(invocation.region, invocation.endpoint)
        variant = self._pick_variant(route, invocation)
        target = min(route.targets[variant], key=lambda it: (it.is_broken, it.in_flight))
        target.in_flight += 1
        try:
            answer = await target.client.invoke(
                "POST",
                "/invocations",
                invocation.headers,
                invocation.body,
                timeout_seconds=invocation.timeout_seconds,
                max_answer_bytes=MAX_ANSWER_BYTES,
            )
        except client.AnswerTooLarge as exc:
            raise AnswerTooLarge(str(exc)) from exc
        except InvocationTimeout as exc:
            raise TimeoutError(str(exc)) from exc
        except ConnectionFailed as exc:
            target.is_broken = True
            route.checked_at = float("-inf")
            raise ConnectionError(str(exc)) from exc
        finally:
            target.in_flight -= 1
            if target.is_retired:
                target.retire()
        target.is_broken = False
        return InvocationAnswer(status=answer.status, headers=answer.headers, body=answer.body, variant=variant)

    def forget(self, job: Job) -> None:
        """Read an endpoint's route anew at its next call: it moved."""
        if isinstance(job, EndpointJob):
            route = self._routes.get((job.region, job.name))
            if route is not None:
                route.checked_at = float("-inf")

    def close(self) -> None:
        """Drop all connections."""
        for route in self._routes.values():
            for target in [target for targets in route.targets.values() for target in targets]:
                target.retire()
        self._routes.clear()

    async def _route(self, region: str, name: str) -> _Route:
        route = self._routes.get((region, name))
        now = time.monotonic()
        if route is not None and now - route.checked_at < ROUTE_SECONDS:
            return route
        try:
            job = await self._jobs.get(JobKind.ENDPOINT, region, name)
        except NoSuchJob:
            gone = self._routes.pop((region, name), None)
            for target in [] if gone is None else [it for targets in gone.targets.values() for it in targets]:
                target.retire()
            raise NoSuchEndpoint(name) from None
        assert isinstance(job, EndpointJob)
        if route is None or route.version != job.version:
            route = _rebuilt(job, route)
            self._routes[region, name] = route
        route.checked_at = now
        return route

    def _pick_variant(self, route: _Route, invocation: Invocation) -> str:
        if route.status not in (JobStatus.IN_SERVICE, JobStatus.UPDATING):
            raise EndpointNotReady(f"Endpoint {invocation.endpoint} is in status {route.status}.")
        if invocation.variant is not None:
            if invocation.variant not in route.weights:
                raise NoSuchVariant(invocation.variant, list(route.weights))
            if not route.targets.get(invocation.variant):
                raise EndpointNotReady(f"Variant {invocation.variant} has no healthy instance now.")
            return invocation.variant
        ready = [(name, weight) for name, weight in route.weights.items() if route.targets.get(name)]
        total = sum(weight for _, weight in ready)
        if not ready:
            raise EndpointNotReady(f"Endpoint {invocation.endpoint} has no healthy instance now.")
        point = self._draw() * total
        for name, weight in ready:
            point -= weight
            if point < 0:
                return name
        return ready[-1][0]


def _rebuilt(job: EndpointJob, old: _Route | None) -> _Route:
    """Return the route of an endpoint as it is now; connections to instances that stay are kept."""
    kept = {str(it.address): it for targets in old.targets.values() for it in targets} if old is not None else {}
    targets: dict[str, list[_Target]] = {}
    for instance in serving_instances(job):
        address = instance.address or ""
        target = kept.pop(address, None) or _new_target(Address.parse(address))
        targets.setdefault(instance.variant, []).append(target)
    for target in kept.values():
        target.retire()
    return _Route(
        version=job.version,
        checked_at=0.0,
        status=job.status,
        weights={variant.name: variant.weight for variant in job.spec.variants},
        targets=targets,
    )


def _new_target(address: Address) -> _Target:
    return _Target(address=address, client=Client(address))
