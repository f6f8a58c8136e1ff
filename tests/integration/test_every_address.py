"""A server that listens on every address of the machine, of IPv4 and IPv6."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from botocore.exceptions import ClientError

from millrace.commands.environment import client_environment
from tests.integration.platform import Platform


@pytest.fixture
def everywhere(tmp_path: Path) -> Iterator[Platform]:
    """A server with `--host ::`."""
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")
    server = Platform(tmp_path / "data", host="::").start()
    yield server
    server.stop()


def test_ipv4_clients_of_an_ipv6_socket_are_ipv4_clients(everywhere: Platform) -> None:
    """What the server tells is an address to connect to; who comes by IPv4 is known by an IPv4 address."""
    port = urlsplit(everywhere.address.url).port
    assert everywhere.address.url == f"http://127.0.0.1:{port}"
    environment = client_environment(everywhere.settings, everywhere.address, proxy=False)
    assert environment["AWS_ENDPOINT_URL"] == everywhere.address.url
    assert f"ready on http://[::]:{port}, " in (everywhere.settings.data_dir / "server.log").read_text()
    for host in ("127.0.0.1", "[::1]"):  # metrics are for programs of this machine
        with urlopen(f"http://{host}:{port}/_millrace/metrics") as answer:
            assert answer.status == 200
    s3 = everywhere.client("s3")
    s3.create_bucket(Bucket="shop")
    s3.put_object(Bucket="shop", Key="k", Body=b"x")
    statement = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::shop/*",
        "Condition": {"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}},
    }
    s3.put_bucket_policy(Bucket="shop", Policy=json.dumps({"Statement": statement}))
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.get_object(Bucket="shop", Key="k")
