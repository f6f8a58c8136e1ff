"""What a container of a brought image is given."""

from pathlib import Path
from typing import Any

import pytest

from millrace.ports.runtime import ContainerSpec, Image
from millrace.runtimes.bubblewrap import Bind, SandboxPlan, bubblewrap_options
from millrace.runtimes.sandbox_network import PlatformAddress
from millrace.runtimes.sandbox_plan import etc_files, host_addresses, opt_ml_binds


def spec(tmp_path: Path, **members: Any) -> ContainerSpec:
    return ContainerSpec(
        name="c",
        image=Image(uri="u", name="n", command=()),
        command=(),
        environment={},
        opt_ml=tmp_path,
        on_line=lambda at, line: None,
        **members,
    )


def test_each_folder_of_the_job_is_bound_by_itself(tmp_path: Path) -> None:
    """Files beside them, and an empty code folder, are not."""
    for name in ("model", "input/data/train", "code"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "file").touch()
    binds = opt_ml_binds(spec(tmp_path, read_only=["input/data/train"]))
    assert binds == [
        Bind(source=tmp_path / "input", target="/opt/ml/input"),
        Bind(source=tmp_path / "model", target="/opt/ml/model"),
        Bind(source=tmp_path / "input/data/train", target="/opt/ml/input/data/train", writable=False),
    ]
    (tmp_path / "code" / "train.py").touch()
    assert "/opt/ml/code" in [bind.target for bind in opt_ml_binds(spec(tmp_path))]


def test_every_host_has_a_name_and_an_address() -> None:
    """Its own is one of them."""
    files = etc_files("algo-2", host_addresses(["algo-1", "algo-2"]), ["10.0.2.3"])
    assert files == {
        "hosts": "127.0.0.1\tlocalhost model.aws.local\n::1\tlocalhost ip6-localhost ip6-loopback\n"
        "127.0.1.1\talgo-1\n127.0.1.2\talgo-2\n",
        "hostname": "algo-2\n",
        "resolv.conf": "nameserver 10.0.2.3\n",
    }


def test_a_lone_host_is_the_loopback() -> None:
    """Its name resolves; without a way out there is no name server."""
    files = etc_files("container", {}, [])
    assert "127.0.0.1\tlocalhost model.aws.local container\n" in files["hosts"]
    assert not files["resolv.conf"].startswith("nameserver")


@pytest.mark.parametrize(
    ("url", "inner"),
    [
        ("http://127.0.0.1:4600", "http://127.0.0.1:4600"),
        ("http://0.0.0.0:4600", "http://127.0.0.1:4600"),
        ("http://192.0.2.7:9000", "http://127.0.0.1:9000"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:4600"),
    ],
)
def test_the_platform_keeps_its_port_unless_the_contract_takes_it(url: str, inner: str) -> None:
    """Variables that hold its address hold the inner one; others stay."""
    platform = PlatformAddress.parse(url)
    assert platform.translate({"A": url, "B": "x"}) == {"A": inner, "B": "x"}


def plan(**members: Any) -> SandboxPlan:
    return SandboxPlan(
        **{
            "root": Path("/r"),
            "binds": (),
            "environment": {},
            "working_directory": "/",
            "host_name": "h",
            "identity": (0, 0),
            "proc_covers": (),
            **members,
        }
    )


def options(**members: Any) -> list[str]:
    return bubblewrap_options(plan(**members)).decode().split("\0")


def test_rights_depend_on_the_user() -> None:
    """Root has Docker's capabilities, others none; nobody makes further user namespaces."""
    assert "CAP_CHOWN" in options()
    assert "CAP_SYS_ADMIN" not in options()
    assert "--cap-add" not in options(identity=(1000, 1000))
    assert "--disable-userns" in options()
    assert "--unshare-user" not in options(identity=None)


def test_a_nul_would_end_an_option_early() -> None:
    """So that what follows it were options of the attacker's choice."""
    with pytest.raises(ValueError, match="must not contain NUL"):
        options(environment={"A": "x\0--bind\0/\0/host"})
