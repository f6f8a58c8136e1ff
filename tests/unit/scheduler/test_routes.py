"""Which variant and which instance get a request."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.dataplane.client import Client
from millrace.jobs.endpoint import RoutingStrategy
from millrace.jobs.job import JobStatus
from millrace.ports.endpoints import EndpointNotReady, Invocation, NoSuchContainer, NoSuchVariant, NoWeights
from millrace.ports.runtime import Address
from millrace.scheduler import routes
from millrace.scheduler.routes import Route, Target


def target(number: int = 1) -> Target:
    address = Address(port=number)
    return Target(address=address, client=Client(address))


def route(targets: dict[str, list[Target]], **members: Any) -> Route:
    weights = members.pop("weights", dict.fromkeys(targets, 1.0))
    return Route(
        endpoint="e",
        version=1,
        status=members.pop("status", JobStatus.IN_SERVICE),
        weights=weights,
        targets=targets,
        **members,
    )


def invocation(**members: Any) -> Invocation:
    return Invocation(region="us-east-1", endpoint="e", headers=(), body=b"", **members)


@given(
    st.lists(st.floats(0, 10), min_size=1, max_size=5).filter(any),
    st.floats(0, 1, exclude_max=True),
)
def test_the_share_of_a_variant_is_its_weight_s(weights: list[float], point: float) -> None:
    """The point drawn falls into the variant's part of the sum; weight 0 has no part."""
    names = [f"v{number}" for number in range(len(weights))]
    found = route({name: [target()] for name in names}, weights=dict(zip(names, weights, strict=True)))
    variant, _ = found.pick(invocation(), lambda: point)
    index = names.index(variant)
    assert weights[index] > 0
    below = sum(weights[:index])
    assert below <= point * sum(weights) * (1 + 1e-9)
    assert point * sum(weights) <= (below + weights[index]) * (1 + 1e-9)


def test_a_named_variant_gets_the_request_whatever_its_weight() -> None:
    """TargetVariant wins over weights."""
    found = route({"red": [target()], "blue": [target()]}, weights={"red": 1.0, "blue": 0.0})
    assert found.pick(invocation(variant="blue"), lambda: 0.0)[0] == "blue"


def test_variants_without_instances_leave_their_share_to_the_others() -> None:
    """While a model server is started again the other variants answer."""
    found = route({"red": [], "blue": [target()]}, weights={"red": 100.0, "blue": 1.0})
    assert found.pick(invocation(), lambda: 0.0)[0] == "blue"


@pytest.mark.parametrize(
    ("found", "asked", "error"),
    [
        (route({"v": [target()]}, status=JobStatus.CREATING), invocation(), EndpointNotReady),
        (route({"v": []}), invocation(), EndpointNotReady),
        (route({"v": [target()], "w": []}), invocation(variant="w"), EndpointNotReady),
        (route({"v": [target()], "w": []}, weights={"v": 0.0, "w": 1.0}), invocation(), EndpointNotReady),
        (route({"v": [target()]}), invocation(variant="w"), NoSuchVariant),
        (route({"v": [target()]}, weights={"v": 0.0}), invocation(), NoWeights),
        (route({"v": [target()], "w": [target()]}, weights={"v": 0.0, "w": 0.0}), invocation(), NoWeights),
    ],
)
def test_who_can_not_be_asked_is_told(found: Route, asked: Invocation, error: type[Exception]) -> None:
    """Each reason has its own error."""
    with pytest.raises(error):
        found.pick(asked, lambda: 0.5)


@pytest.mark.parametrize(
    ("asked", "error", "text"),
    [
        (invocation(variant="d"), NoSuchContainer, "must be one of first, second for variant d, got none"),
        (invocation(variant="d", container="third"), NoSuchContainer, "first, second for variant d, got 'third'"),
        (invocation(variant="s", container="first"), NoSuchContainer, "must not be given for variant s, got 'first'"),
        (invocation(container="first"), NoSuchContainer, "must not be given for variant s"),
        (invocation(), NoSuchContainer, "must be one of first, second for variant d"),
        (invocation(variant="w", container="first"), NoSuchVariant, "w"),
    ],
)
@pytest.mark.spec("C §5.7")
def test_a_container_is_named_in_direct_mode_and_nowhere_else(
    asked: Invocation, error: type[Exception], text: str
) -> None:
    """An invocation that names no variant must fit all of them, whichever is drawn."""
    found = route({"d": [target()], "s": [target()]}, containers={"d": ["first", "second"]})
    with pytest.raises(error, match=text):
        found.pick(asked, lambda: 0.0)


def test_a_named_container_of_direct_mode_gets_the_request() -> None:
    """The instance is chosen as for any other request."""
    found = route({"d": [target()], "s": [target()]}, containers={"d": ["first", "second"]})
    assert found.pick(invocation(variant="d", container="second"), lambda: 0.0)[0] == "d"
    assert found.pick(invocation(variant="s"), lambda: 0.0)[0] == "s"


def test_the_instance_with_the_fewest_requests_is_asked() -> None:
    """One that was not reachable is asked last, those with equal load take turns."""
    idle, busy, broken = target(1), target(2), target(3)
    busy.in_flight = 1
    broken.is_broken = True
    found = route({"v": [broken, busy, idle]})
    assert found.pick(invocation(), lambda: 0.0)[1] is idle
    idle.in_flight = 2
    assert found.pick(invocation(), lambda: 0.0)[1] is busy
    others = route({"v": [target(number) for number in range(3)]})
    counts: Counter[str] = Counter()
    for turn in range(1, 10):
        _, chosen = others.pick(invocation(), lambda: 0.0)
        chosen.take(turn)
        chosen.give_back()
        counts[str(chosen.address)] += 1
    assert set(counts.values()) == {3}


def test_random_routing_asks_whomever_the_draw_says() -> None:
    """RoutingStrategy RANDOM does not look at the load."""
    first, second = target(1), target(2)
    first.in_flight = 10
    found = route({"v": [first, second]}, strategies={"v": RoutingStrategy.RANDOM})
    assert found.pick(invocation(), lambda: 0.0)[1] is first
    assert found.pick(invocation(), lambda: 0.999)[1] is second


def test_an_instance_that_was_tried_is_not_tried_again() -> None:
    """Until there is none left."""
    first, second = target(1), target(2)
    found = route({"v": [first, second]})
    assert found.pick(invocation(), lambda: 0.0, [first])[1] is second
    with pytest.raises(EndpointNotReady):
        found.pick(invocation(), lambda: 0.0, [first, second])


def test_a_session_stays_with_its_instance() -> None:
    """As long as that one serves; the sessions remembered are bounded."""
    first, second = target(1), target(2)
    found = route({"v": [first, second]})
    found.bind("s", second)
    second.in_flight = 5
    assert found.pick(invocation(session="s"), lambda: 0.0)[1] is second
    assert found.pick(invocation(session="unknown"), lambda: 0.0)[1] is first
    for number in range(routes.MAX_SESSIONS):
        found.bind(f"other-{number}", first)
    assert "s" not in found.sessions
