"""Decide what a container of a brought image sees: binds, variables, names. Pure but for looking at its own folder."""

from collections.abc import Mapping, Sequence

from millrace.ports.runtime import ContainerSpec
from millrace.runtimes.accounts import Account
from millrace.runtimes.bubblewrap import DEFAULT_PATH, Bind

__all__ = ["container_variables", "etc_files", "host_addresses", "opt_ml_binds"]

SERVING_NAME = "model.aws.local"
"""What the service calls a model server in the Host header."""


def container_variables(spec: ContainerSpec, account: Account, host_name: str) -> dict[str, str]:
    """Return a container's environment: Docker's own variables, the image's, the platform's and user's."""
    return {
        "PATH": DEFAULT_PATH,
        "HOME": account.home,
        "HOSTNAME": host_name,
        **spec.image.environment,
        **spec.environment,
    }


def host_addresses(names: Sequence[str]) -> dict[str, str]:
    """Return an address for each host of a job: all of 127.0.0.0/8 is local to the network that they share."""
    return {name: f"127.0.1.{number}" for number, name in enumerate(names, start=1)}


def etc_files(host_name: str, addresses: Mapping[str, str], name_servers: Sequence[str]) -> dict[str, str]:
    """Return the files of /etc that are a container's own, by name."""
    hosts = {"127.0.0.1": ["localhost", SERVING_NAME], "::1": ["localhost", "ip6-localhost", "ip6-loopback"]}
    for name in dict.fromkeys((*addresses, host_name)):
        hosts.setdefault(addresses.get(name, "127.0.0.1"), []).append(name)
    return {
        "hosts": "".join(f"{address}\t{' '.join(names)}\n" for address, names in hosts.items()),
        "hostname": f"{host_name}\n",
        "resolv.conf": "".join(f"nameserver {address}\n" for address in name_servers)
        or "# no name server: this container reaches no other network\n",
    }


def opt_ml_binds(spec: ContainerSpec) -> list[Bind]:
    """Return the folders of /opt/ml that are the job's, each by itself: an image may ship files beside them.

    An empty `code` is not the job's: images have their programs there.
    """
    folders = [it for it in sorted(spec.opt_ml.iterdir()) if it.is_dir() and (it.name != "code" or any(it.iterdir()))]
    return [
        *(Bind(source=folder, target=f"/opt/ml/{folder.name}") for folder in folders),
        *(Bind(source=source, target=path) for path, source in sorted(spec.mounts.items())),
        *(Bind(source=spec.opt_ml / it, target=f"/opt/ml/{it}", writable=False) for it in spec.read_only),
    ]
