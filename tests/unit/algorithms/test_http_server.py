import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from millrace_algorithms.serving.address import Address
from millrace_algorithms.serving.http_server import HttpServer
from millrace_algorithms.serving.invocation import Answer, Invocation
from millrace_algorithms.serving.limits import Limits


@dataclass
class Client:
    """Speaks raw bytes to a server of this process that answers with the body in reverse."""

    address: str

    def exchange(self, *pieces: bytes, shut: bool = True) -> bytes:
        """Send the pieces, one packet each, and return all that comes back until the server closes."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(30)
            sock.connect(self.address)
            for piece in pieces:
                sock.sendall(piece)
            if shut:
                sock.shutdown(socket.SHUT_WR)
            received = b""
            while chunk := sock.recv(65536):
                received += chunk
            return received


def reverse(invocation: Invocation) -> Answer:
    return Answer(body=invocation.body()[::-1], content_type=invocation.accept or "text/plain")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    path = str(tmp_path / "s.sock")
    server = HttpServer(
        Address(path=path).listen(16),
        reverse,
        parameters=Answer(body=b"{}", content_type="application/json"),
        limits=Limits(body_bytes=100, header_bytes=300, pipelined_requests=2),
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    yield Client(path)
    server.stop()
    thread.join()
    server.close()


def test_a_stop_may_come_at_any_time(tmp_path: Path) -> None:
    """Again, as often as anybody likes, and when all is closed: a platform repeats its signal."""
    server = HttpServer(
        Address(path=str(tmp_path / "s.sock")).listen(16), reverse, parameters=Answer(body=b"{}"), limits=Limits()
    )
    for _ in range(2000):
        server.stop()
    assert server.run()
    server.close()
    server.stop()


def post(body: bytes, *headers: str) -> bytes:
    lines = ["POST /invocations HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def bodies(received: bytes) -> list[bytes]:
    """Return the bodies of a sequence of answers."""
    found = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        (length,) = [int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length: ")]
        found.append(rest[:length])
        received = rest[length:]
    return found


@pytest.mark.spec("containers §5.3")
def test_ping_is_healthy(client: Client) -> None:
    """With an empty body."""
    assert client.exchange(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 200 OK\r\n")


def test_an_invocation_is_answered(client: Client) -> None:
    """With the type that the model chose."""
    received = client.exchange(post(b"abc", "Accept: text/csv"))
    assert received == b"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\nContent-Length: 3\r\n\r\ncba"


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_pipelined_requests_are_answered_in_order(client: Client, size: int) -> None:
    """More of them than are read ahead, cut anywhere."""
    sent = b"".join(post(b"%d" % (10 + i)) for i in range(9))
    received = client.exchange(*[sent[i : i + size] for i in range(0, len(sent), size)])
    assert bodies(received) == [(b"%d" % (10 + i))[::-1] for i in range(9)]


def test_chunked_bodies_are_read(client: Client) -> None:
    """Batch jobs with MaxPayloadInMB=0 send them."""
    head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert bodies(client.exchange(head, b"2\r\nab\r\n", b"1\r\nc\r\n0\r\n\r\n")) == [b"cba"]


def test_a_connection_closes_when_asked(client: Client) -> None:
    """And what was sent after that request is not answered."""
    received = client.exchange(post(b"ab", "Connection: close") + post(b"cd"), shut=False)
    assert bodies(received) == [b"ba"]
    assert b"Connection: close" in received


def test_expectations_are_met(client: Client) -> None:
    """A client that waits for 100 gets it before the answer."""
    received = client.exchange(post(b"ab", "Expect: 100-continue"))
    assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    ("sent", "status", "text"),
    [
        (post(b"x" * 101), b"413", b"payload must be at most 100 bytes"),
        (b"POST /invocations HTTP/1.1\r\nContent-Length: 999999999999\r\n\r\n", b"413", b"at most 100 bytes"),
        (
            b"POST /invocations HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n" + b"x" * 101 + b"\r\n0\r\n\r\n",
            b"413",
            b"at most 100 bytes",
        ),
        (b"GET /ping HTTP/1.1\r\nX: " + b"x" * 400 + b"\r\n\r\n", b"431", b"headers must be at most 300 bytes"),
        (b"nonsense\r\n\r\n", b"400", b"malformed HTTP request"),
        (b"GET /nowhere HTTP/1.1\r\n\r\n", b"404", b"no such path: /nowhere"),
        (b"GET /invocations HTTP/1.1\r\n\r\n", b"405", b"/invocations allows POST"),
        (post(b"ab", "Connection: upgrade", "Upgrade: h2c"), b"501", b"upgrading"),
        (b"GET /ping HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", b"200", b"Connection: close"),
    ],
)
def test_bad_requests_get_an_answer(client: Client, sent: bytes, status: bytes, text: bytes) -> None:
    """With the rule in words, and the server goes on."""
    received = client.exchange(sent)
    assert received.startswith(b"HTTP/1.1 " + status)
    assert text in received
    assert bodies(client.exchange(post(b"ab"))) == [b"ba"]


def test_paths_may_have_a_query(client: Client) -> None:
    """Some clients add one."""
    assert client.exchange(b"HEAD /ping?x=1 HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 200")
    assert bodies(client.exchange(b"GET /execution-parameters HTTP/1.1\r\nHost: x\r\n\r\n")) == [b"{}"]


def test_a_client_that_goes_away_disturbs_nobody(client: Client) -> None:
    """Neither in the middle of a request nor before its answer."""
    for sent in (b"POST /invoc", post(b"abcd")[:-2], post(b"abcd")):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.connect(client.address)
            sock.sendall(sent)
    assert bodies(client.exchange(post(b"ab"))) == [b"ba"]
