"""Where an endpoint's traffic can go: variants by weight, the instances of a variant by load."""

from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from millrace.dataplane.client import Client
from millrace.jobs.endpoint import DataCapture, ExecutionMode, RoutingStrategy
from millrace.jobs.endpoint_lifecycle import serving_instances
from millrace.jobs.job import EndpointJob, JobStatus
from millrace.ports.endpoints import EndpointNotReady, Invocation, NoSuchContainer, NoSuchVariant, NoWeights
from millrace.ports.runtime import Address

__all__ = ["Route", "Target", "rebuilt_route"]

MAX_SESSIONS = 10_000
"""Stateful sessions of one endpoint whose instance is known; the one unused for longest is forgotten."""


@dataclass(eq=False, slots=True)
class Target:
    """An instance, and what is under way there."""

    address: Address
    client: Client
    in_flight: int = 0
    turn: int = 0
    """When it was taken last: instances with equal load take turns."""
    is_broken: bool = False
    """The last request got no connection: others are asked first."""
    is_retired: bool = False
    """The instance is gone; the last request that it still answers closes the connections."""

    def take(self, turn: int) -> None:
        """Count a request in, the `turn`-th of all."""
        self.in_flight += 1
        self.turn = turn

    def give_back(self) -> None:
        """Count a request out."""
        self.in_flight -= 1
        if self.is_retired:
            self.retire()

    def retire(self) -> None:
        """Close the connections, now or when the last request is answered."""
        self.is_retired = True
        if not self.in_flight:
            self.client.close()


@dataclass(eq=False, slots=True)
class Route:
    """An endpoint as it was at one version of its job."""

    endpoint: str
    version: int
    status: JobStatus
    checked_at: float = 0.0
    weights: dict[str, float] = field(default_factory=dict)
    strategies: dict[str, RoutingStrategy] = field(default_factory=dict)
    targets: dict[str, list[Target]] = field(default_factory=dict)
    containers: dict[str, list[str]] = field(default_factory=dict)
    """Of the variants in direct mode: the containers that an invocation may name."""
    capture: DataCapture | None = None
    sessions: "OrderedDict[str, str]" = field(default_factory=OrderedDict)
    """The address of the instance that opened a session, by its id."""

    def all_targets(self) -> list[Target]:
        """Return the instances of all variants."""
        return [target for targets in self.targets.values() for target in targets]

    def pick(
        self, invocation: Invocation, draw: Callable[[], float], tried: Collection[Target] = ()
    ) -> tuple[str, Target]:
        """Choose variant and instance, none of those that were tried.

        Raises:
            NoSuchVariant, NoSuchContainer, NoWeights, EndpointNotReady: There is none; the text says why.
        """
        if self.status not in (JobStatus.IN_SERVICE, JobStatus.UPDATING):
            raise EndpointNotReady(f"Endpoint {self.endpoint} is in status {self.status}.")
        if self.containers or invocation.container is not None:
            self._check_container(invocation)
        if invocation.session is not None and not tried and (bound := self._bound(invocation.session)) is not None:
            return bound
        variant = invocation.variant
        if variant is None:
            variant = self._draw_variant(draw, tried)
        elif variant not in self.weights:
            raise NoSuchVariant(variant, list(self.weights))
        targets = self.targets.get(variant, [])
        if len(targets) > 1 or tried:
            targets = [it for it in targets if it not in tried]
        if not targets:
            raise EndpointNotReady(f"Variant {variant} of endpoint {self.endpoint} has no healthy instance now.")
        if len(targets) == 1:
            return variant, targets[0]
        if self.strategies.get(variant) is RoutingStrategy.RANDOM:
            targets = [it for it in targets if not it.is_broken] or targets
            return variant, targets[min(int(draw() * len(targets)), len(targets) - 1)]
        return variant, min(targets, key=_load)

    def _check_container(self, invocation: Invocation) -> None:
        """Refuse an invocation that does not name a container of a model in direct mode, or names one elsewhere.

        It may go to any variant unless it names one, so it must fit all of them.

        Source:
            containers.md 5.7.
        """
        named = invocation.container
        for variant in self.weights:
            if invocation.variant not in (None, variant):
                continue
            known = self.containers.get(variant)
            if known is None and named is not None:
                raise NoSuchContainer(
                    f"Endpoint {self.endpoint} is not in direct mode: TargetContainerHostname must not be given for "
                    f"variant {variant}, got {named!r}."
                )
            if known is not None and named not in known:
                raise NoSuchContainer(
                    f"Endpoint {self.endpoint} is in direct mode: TargetContainerHostname must be one of "
                    f"{', '.join(known)} for variant {variant}, got {'none' if named is None else repr(named)}."
                )

    def _draw_variant(self, draw: Callable[[], float], tried: Collection[Target]) -> str:
        if len(self.weights) == 1:
            [(name, weight)] = self.weights.items()
            if weight > 0:
                return name
        ready = [
            (name, weight)
            for name, weight in self.weights.items()
            if any(it not in tried for it in self.targets.get(name, ()))
        ]
        if not ready:
            raise EndpointNotReady(f"Endpoint {self.endpoint} has no healthy instance now.")
        weighted = [(name, weight) for name, weight in ready if weight > 0]
        if not weighted:
            if any(self.weights.values()):
                raise EndpointNotReady(f"Endpoint {self.endpoint} has no healthy instance with a weight above 0 now.")
            raise NoWeights(f"All variants of endpoint {self.endpoint} have weight 0: name one as TargetVariant.")
        point = draw() * sum(weight for _, weight in weighted)
        for name, weight in weighted:
            point -= weight
            if point < 0:
                return name
        return weighted[-1][0]

    def _bound(self, session: str) -> tuple[str, Target] | None:
        address = self.sessions.get(session)
        if address is None:
            return None
        for variant, targets in self.targets.items():
            for target in targets:
                if str(target.address) == address:
                    self.sessions.move_to_end(session)
                    return variant, target
        return None

    def bind(self, session: str, target: Target) -> None:
        """Remember which instance opened a session."""
        self.sessions[session] = str(target.address)
        if len(self.sessions) > MAX_SESSIONS:
            self.sessions.popitem(last=False)


def _load(target: Target) -> tuple[bool, int, int]:
    return target.is_broken, target.in_flight, target.turn


def rebuilt_route(job: EndpointJob, old: Route | None) -> tuple[Route, list[Target]]:
    """Return the route of an endpoint as it is now, and the instances that are no longer part of it.

    Instances that stay keep their connections and counts.
    """
    kept = {str(it.address): it for it in old.all_targets()} if old is not None else {}
    targets: dict[str, list[Target]] = {}
    for instance in serving_instances(job):
        address = instance.address or ""
        target = kept.pop(address, None)
        if target is None:
            parsed = Address.parse(address)
            target = Target(address=parsed, client=Client(parsed))
        targets.setdefault(instance.variant, []).append(target)
    route = Route(
        endpoint=job.name,
        version=job.version,
        status=job.status,
        weights={variant.name: variant.weight for variant in job.spec.variants},
        strategies={variant.name: variant.routing for variant in job.spec.variants},
        targets=targets,
        containers={
            variant.name: [it.hostname or "" for it in variant.containers]
            for variant in job.spec.variants
            if variant.execution is ExecutionMode.DIRECT
        },
        capture=job.spec.capture,
        sessions=OrderedDict() if old is None else old.sessions,
    )
    return route, list(kept.values())
