"""What containers are told: command, resources."""

from pathlib import Path

import pytest

from millrace.agents.job_config import container_command, on_this_machine, resource_config
from millrace.errors import ClientFailure
from millrace.jobs.hosts import HOMOGENEOUS, InstanceGroup
from millrace.ports.runtime import Image

IMAGE = Image(uri="i:1", name="i", command=("python", "main.py"), default_arguments=("--all",))
BARE = Image(uri="bare:1", name="bare", command=())


@pytest.mark.spec("C §12 C-01")
@pytest.mark.spec("C §12 C-02")
@pytest.mark.spec("C §12 C-03")
@pytest.mark.parametrize(
    ("entrypoint", "arguments", "command"),
    [
        ((), (), ("python", "main.py", "train")),
        (("sh", "-c"), (), ("sh", "-c")),
        ((), ("--x",), ("python", "main.py", "--x")),
        (("sh", "-c"), ("ls",), ("sh", "-c", "ls")),
    ],
)
def test_commands_follow_dockers_rules(
    entrypoint: tuple[str, ...], arguments: tuple[str, ...], command: tuple[str, ...]
) -> None:
    """An entry point drops the image's and what is added to it, arguments drop the latter."""
    assert container_command(IMAGE, entrypoint, arguments, default=("train",)) == command


def test_an_image_without_entry_point_runs_what_is_added() -> None:
    """`train` is found on its PATH; with nothing added nothing can run."""
    assert container_command(BARE, (), (), default=("train",)) == ("train",)
    with pytest.raises(ClientFailure, match="image bare:1 has neither ENTRYPOINT nor CMD"):
        container_command(BARE, (), (), default=BARE.default_arguments)


def test_paths_of_the_contract_are_told_as_they_are_here() -> None:
    """To programs that see no /opt/ml of their own; what only looks alike is left."""
    command = ("python3", "/opt/ml/processing/code/a.py", "--in=/opt/ml/x", "/opt/mlx")
    assert on_this_machine(command, Path("/data/1/opt/ml")) == (
        "python3",
        "/data/1/opt/ml/processing/code/a.py",
        "--in=/opt/ml/x",
        "/opt/mlx",
    )


@pytest.mark.spec("C §12 C-09")
def test_hosts_are_sorted_as_text_within_their_groups() -> None:
    """Each host is told its own group and type."""
    groups = [
        InstanceGroup(name="big", instance_type="ml.p3.2xlarge", count=2),
        InstanceGroup(name="small", instance_type="ml.m5.large", count=10),
    ]
    config = resource_config(groups, "algo-10")
    assert config["hosts"] == sorted(f"algo-{number}" for number in range(1, 13))
    assert config["hosts"][:3] == ["algo-1", "algo-10", "algo-11"]
    assert (config["current_host"], config["current_group_name"], config["current_instance_type"]) == (
        "algo-10",
        "small",
        "ml.m5.large",
    )
    assert [it["hosts"][:2] for it in config["instance_groups"]] == [  # type: ignore[attr-defined]
        ["algo-1", "algo-2"],
        ["algo-10", "algo-11"],
    ]


def test_one_host_is_told_what_the_sdks_driver_reads() -> None:
    """The group of a job without groups has the service's name."""
    group = InstanceGroup(name=HOMOGENEOUS, instance_type="ml.m5.large", count=1)
    assert resource_config([group], "algo-1") == {
        "current_host": "algo-1",
        "current_instance_type": "ml.m5.large",
        "current_group_name": "homogeneousCluster",
        "hosts": ["algo-1"],
        "instance_groups": [
            {"instance_group_name": "homogeneousCluster", "instance_type": "ml.m5.large", "hosts": ["algo-1"]}
        ],
        "network_interface_name": "eth0",
    }
