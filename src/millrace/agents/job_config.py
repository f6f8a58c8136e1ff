"""What training and processing containers are told alike: command, variables, resource configuration. Pure.

Source: containers.md 2.1, 2.3.3, 2.4, 4.1, 4.2.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from millrace.errors import ClientFailure
from millrace.jobs.hosts import InstanceGroup, host_names
from millrace.ports.runtime import Image

__all__ = ["container_command", "on_this_machine", "platform_environment", "resource_config"]

NETWORK_INTERFACE = "eth0"
_OPT_ML = "/opt/ml/"


def container_command(
    image: Image, entrypoint: Sequence[str], arguments: Sequence[str], *, default: Sequence[str]
) -> tuple[str, ...]:
    """Return what is run, by Docker's override rules: an entry point given drops the image's, and its arguments.

    Args:
        default: The arguments if neither is given.

    Raises:
        ClientFailure: Nothing says what is to be run.
    """
    command = (*entrypoint, *arguments) if entrypoint else (*image.command, *(arguments or default))
    if not command:
        raise ClientFailure(
            f"image {image.uri} has neither ENTRYPOINT nor CMD, and the job names no ContainerEntrypoint"
        )
    return command


def on_this_machine(command: Sequence[str], opt_ml: Path) -> tuple[str, ...]:
    """Return a command for a host image, which sees no /opt/ml of its own: such paths are told as they are here."""
    return tuple(f"{opt_ml}/{word.removeprefix(_OPT_ML)}" if word.startswith(_OPT_ML) else word for word in command)


def platform_environment(
    region: str, host: str, *, endpoint_url: str | None, credentials: Mapping[str, str]
) -> dict[str, str]:
    """Return the variables that every container of a job gets."""
    return {
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "CURRENT_HOST": host,
        **({"AWS_ENDPOINT_URL": endpoint_url, "S3_ENDPOINT_URL": endpoint_url} if endpoint_url else {}),
        **credentials,
    }


def resource_config(groups: Sequence[InstanceGroup], host: str) -> dict[str, object]:
    """Return the content of resourceconfig.json for one host; names are sorted as text."""
    names = host_names(groups)
    numbered = iter(names)
    told: list[dict[str, object]] = []
    mine = groups[0]
    for group in groups:
        hosts = [next(numbered) for _ in range(group.count)]
        if host in hosts:
            mine = group
        told.append({"instance_group_name": group.name, "instance_type": group.instance_type, "hosts": sorted(hosts)})
    return {
        "current_host": host,
        "current_instance_type": mine.instance_type,
        "current_group_name": mine.name,
        "hosts": sorted(names),
        "instance_groups": told,
        "network_interface_name": NETWORK_INTERFACE,
    }
