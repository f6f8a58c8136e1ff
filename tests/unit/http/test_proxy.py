"""The CONNECT proxy as the SDK's hard-wired addresses reach it."""

import asyncio
import socket
import ssl
import stat
import struct
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from tests.unit.http.live import ACCESS_KEY, running

from millrace.clock import SystemClock
from millrace.http.authority import CertificateAuthority, is_aws_name
from millrace.http.proxy import ConnectProxy
from millrace.protocol.message import Context, Params, Result
from millrace.services import sts
from millrace.testing.keys import MemoryKeyStore


class Uploads:
    """An S3 that keeps one object."""

    def __init__(self) -> None:
        self.content = b""
        self.trailers: dict[str, str] = {}
        self.params: Params = {}

    async def put(self, ctx: Context, params: Params) -> Result:
        self.content = b"".join([piece async for piece in params["Body"]])
        self.trailers = params["Body"].trailers
        self.params = params
        return {"ETag": '"e"'}


@pytest.fixture(scope="module")
def uploads() -> Uploads:
    return Uploads()


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory, uploads: Uploads) -> Iterator[ConnectProxy]:
    keys = MemoryKeyStore([ACCESS_KEY])
    directory = tmp_path_factory.mktemp("state") / "ca"
    with running({"sts": sts.handlers(keys=keys), "s3": {"PutObject": uploads.put}}, keys=keys) as live:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        running_proxy = ConnectProxy(host="127.0.0.1", port=live.port, directory=directory)
        asyncio.run_coroutine_threadsafe(running_proxy.start(), loop).result(20)
        yield running_proxy
        asyncio.run_coroutine_threadsafe(running_proxy.close(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()


def _client(proxy: ConnectProxy, service: str, **options: Any) -> Any:
    address = f"http://127.0.0.1:{proxy.port}"
    return boto3.session.Session().client(
        service,
        aws_access_key_id=ACCESS_KEY.id,
        aws_secret_access_key=ACCESS_KEY.secret,
        region_name="eu-west-1",
        verify=str(proxy.bundle_path),
        config=Config(proxies={"https": address, "http": address}, retries={"total_max_attempts": 1}),
        **options,
    )


@pytest.mark.spec("api-surface 1.3")
def test_hard_wired_addresses_are_served_here(proxy: ConnectProxy) -> None:
    """A client of https://sts.<region>.amazonaws.com, without any endpoint setting, gets Millrace's answer."""
    client = _client(proxy, "sts", endpoint_url="https://sts.eu-west-1.amazonaws.com")
    with closing(client):
        identity = client.get_caller_identity()
    assert identity["Arn"] == "arn:aws:sts::000000000000:assumed-role/Role/millrace"


@pytest.mark.spec("api-surface 5 aws-chunked")
def test_uploads_over_tls_come_decoded_with_their_trailers(proxy: ConnectProxy, uploads: Uploads) -> None:
    """boto3's aws-chunked upload to a virtual host is decoded; the object has no trace of the transfer's coding."""
    content = b"hello" * 100_000
    with closing(_client(proxy, "s3")) as client:
        client.put_object(Bucket="bk", Key="k", Body=content)
    assert uploads.content == content
    assert list(uploads.trailers) == ["x-amz-checksum-crc32"]
    assert (uploads.params["Bucket"], uploads.params["Key"]) == ("bk", "k")
    assert "ContentEncoding" not in uploads.params
    assert uploads.params["ContentLength"] == len(content)


def test_other_names_are_tunnelled_as_they_are(proxy: ConnectProxy) -> None:
    """CONNECT to another host joins the two connections and touches no byte."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as connection:
            connection.sendall(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            far, _ = listener.accept()
            with far:
                assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
                connection.sendall(b"\x00ping")
                assert far.recv(100) == b"\x00ping"
                far.sendall(b"pong\xff")
            received = b""
            while piece := connection.recv(100):
                received += piece
            assert received == b"pong\xff"


@contextmanager
def _tunnel(proxy: ConnectProxy) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Give both ends of a tunnel."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as near,
    ):
        near.sendall(f"CONNECT 127.0.0.1:{listener.getsockname()[1]} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        far, _ = listener.accept()
        with far:
            far.settimeout(20)
            assert near.recv(1000).startswith(b"HTTP/1.1 200 ")
            yield near, far


def test_a_client_that_has_sent_all_still_gets_its_answer(proxy: ConnectProxy) -> None:
    """The end of what the client sends is passed on, and the other direction stays open."""
    with _tunnel(proxy) as (near, far):
        near.sendall(b"ask")
        near.shutdown(socket.SHUT_WR)
        assert b"".join(iter(lambda: far.recv(100), b"")) == b"ask"
        far.sendall(b"answer")
        far.shutdown(socket.SHUT_WR)
        assert b"".join(iter(lambda: near.recv(100), b"")) == b"answer"


def test_a_client_that_is_gone_frees_its_tunnel(proxy: ConnectProxy) -> None:
    """A connection that the client resets is closed at its far end too, though that waits for more."""
    with _tunnel(proxy) as (near, far):
        near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        near.close()  # with a reset, for want of lingering
        assert far.recv(100) == b""


def test_unreachable_names_are_a_bad_gateway(proxy: ConnectProxy) -> None:
    """CONNECT to what does not answer is 502, malformed CONNECT is 400."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = listener.getsockname()[1]
    for target, status in ((f"127.0.0.1:{closed}", b"502"), ("nonsense", b"400"), ("a b:1", b"400")):
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as connection:
            connection.sendall(f"CONNECT {target} HTTP/1.1\r\n\r\n".encode())
            assert connection.recv(1000).split(b" ")[1] == status


def test_plain_requests_are_served_for_aws_names_only(proxy: ConnectProxy) -> None:
    """An absolute-form GET of an AWS name reaches the server, which has no GetObject here; any other is 403."""
    for url, status, expected in (
        ("http://sm-pysdk-t-eu-west-1.s3.eu-west-1.amazonaws.com/telemetry?x-accountId=1", 501, b"GetObject of s3"),
        ("http://example.com/", 403, b"only http://<name>.amazonaws.com/ is served here"),
    ):
        connection = HTTPConnection("127.0.0.1", proxy.port, timeout=20)
        connection.request("GET", url)
        answer = connection.getresponse()
        assert answer.status == status
        assert expected in answer.read()
        connection.close()


def test_certificates_are_checked_by_clients_that_trust_the_authority(proxy: ConnectProxy) -> None:
    """A client with the authority's certificate accepts the name it asked for; one without refuses."""
    for context, accepted in (
        (ssl.create_default_context(cafile=str(proxy.bundle_path)), True),
        (ssl.create_default_context(), False),
    ):
        connection = HTTPSConnection("127.0.0.1", proxy.port, context=context, timeout=20)
        connection.set_tunnel("logs.eu-west-1.amazonaws.com", 443)
        if accepted:
            connection.request("GET", "/")
            assert connection.getresponse().status >= 400
        else:
            with pytest.raises(ssl.SSLCertVerificationError):
                connection.request("GET", "/")
        connection.close()


def test_the_authority_is_kept_and_private(tmp_path: Path) -> None:
    """The key can be read by its owner only, and a second start uses the same authority."""
    first = CertificateAuthority(tmp_path / "ca", clock=SystemClock())
    certificate = first.certificate_path.read_bytes()
    assert stat.S_IMODE((tmp_path / "ca" / "ca.key").stat().st_mode) == 0o600
    CertificateAuthority(tmp_path / "ca", clock=SystemClock())
    assert first.certificate_path.read_bytes() == certificate
    assert certificate in first.bundle_path.read_bytes()


def test_the_authority_vouches_for_aws_names_only(tmp_path: Path) -> None:
    """No certificate is made for another name."""
    authority = CertificateAuthority(tmp_path, clock=SystemClock())
    assert authority.server_context("s3.amazonaws.com") is authority.server_context("s3.amazonaws.com")
    for name in ("example.com", "amazonaws.com.evil.org", "notamazonaws.com", ""):
        assert not is_aws_name(name)
        with pytest.raises(ValueError, match="name must end in"):
            authority.server_context(name)
