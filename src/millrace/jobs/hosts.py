"""The hosts that a training or processing job asks for, and their names."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["HOMOGENEOUS", "InstanceGroup", "host_names", "hosts_of_groups"]

HOMOGENEOUS = "homogeneousCluster"
"""What the service calls the one group of a job that names none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceGroup:
    """Hosts of one instance type."""

    name: str
    instance_type: str
    count: int


def host_names(groups: Sequence[InstanceGroup]) -> tuple[str, ...]:
    """Return the names of all hosts, algo-1 first; sort them as text where the contract asks for that."""
    return tuple(f"algo-{number}" for number in range(1, sum(group.count for group in groups) + 1))


def hosts_of_groups(groups: Sequence[InstanceGroup], chosen: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the hosts in the groups of some names, of all hosts if none is named."""
    numbered = iter(host_names(groups))
    members = [(group.name, next(numbered)) for group in groups for _ in range(group.count)]
    return tuple(host for group, host in members if not chosen or group in chosen)
