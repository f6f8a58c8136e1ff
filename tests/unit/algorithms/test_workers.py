"""Large payloads over a Unix socket, which workers read from the client's connection and answer there."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from millrace_algorithms.serving.address import Address
from millrace_algorithms.serving.http_server import HttpServer
from millrace_algorithms.serving.invocation import Answer, Invocation
from millrace_algorithms.serving.limits import Limits
from millrace_algorithms.serving.workers import fork_workers

LARGE = b"0123456789" * 100_000
LIMITS = Limits(inline_bytes=100, receive_bytes=1000)


def evaluate(invocation: Invocation) -> Answer:
    """Tell which process answers, and give the body back in reverse, as often as the caller asks."""
    chunks = iter(invocation.chunks)
    first = next(chunks, b"")
    if first.startswith(b"die"):
        os._exit(1)
    if first.startswith(b"refuse"):
        return Answer(status=400, body=b"refused at once")
    body = first + b"".join(chunks)
    return Answer(body=body[::-1] * int(invocation.accept or 1), content_type=f"x/{os.getpid()}")


@contextmanager
def serving(path: str, limits: Limits, *, workers: int = 2) -> Iterator[None]:
    """Run a server whose workers evaluate in other processes."""
    forked = fork_workers(workers, limits, evaluate)
    server = HttpServer(
        Address(path=path).listen(16), evaluate, workers=forked, parameters=Answer(body=b"{}"), limits=limits
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield
    finally:
        server.stop()
        thread.join()
        server.close()


@pytest.fixture
def address(tmp_path: Path) -> str:
    return str(tmp_path / "s.sock")


@contextmanager
def connected(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(30)
        sock.connect(address)
        yield sock


def post(body: bytes, *headers: str, path: str = "/invocations") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def answer_of(sock: socket.socket) -> tuple[int, str, bytes]:
    """Return status, content type and body of the next answer."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = sock.recv(1)
        assert piece, "the connection was closed before an answer"
        received += piece
    status, *lines = received.decode().split("\r\n")
    headers = dict(line.split(": ") for line in lines if line)
    body = b""
    while len(body) < int(headers["Content-Length"]):
        body += sock.recv(int(headers["Content-Length"]) - len(body))
    return int(status.split()[1]), headers["Content-Type"], body


def test_a_large_payload_is_answered_by_a_worker_and_the_connection_goes_on(address: str) -> None:
    """With small and large payloads in turn, each whole."""
    with serving(address, LIMITS), connected(address) as sock:
        processes = []
        for body in (LARGE, b"small", LARGE[::-1], b"small", LARGE[:101]):
            sock.sendall(post(body))
            status, content_type, answered = answer_of(sock)
            assert (status, answered) == (200, body[::-1])
            processes.append(content_type)
        assert processes[1] == processes[3] == f"x/{os.getpid()}"
        assert f"x/{os.getpid()}" not in (processes[0], processes[2], processes[4])


def test_answers_keep_the_order_of_pipelined_payloads(address: str) -> None:
    """A large one between small ones, all of them sent before the first is answered."""
    bodies = [b"a", LARGE, b"b", LARGE[:5000], b"c"]
    with serving(address, LIMITS), connected(address) as sock:
        sender = threading.Thread(target=lambda: sock.sendall(b"".join(post(body) for body in bodies)))
        sender.start()
        answers = [answer_of(sock)[2] for _ in bodies]
        sender.join()
    assert answers == [body[::-1] for body in bodies]


def test_more_clients_than_workers_are_all_answered(address: str) -> None:
    """Those that have to wait are not read from before a worker is idle."""
    with serving(address, LIMITS):
        answers: dict[int, bytes] = {}

        def ask(number: int) -> None:
            with connected(address) as sock:
                sock.sendall(post(b"%d" % number + LARGE))
                answers[number] = answer_of(sock)[2]

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == {number: LARGE[::-1] + b"%d" % number for number in range(6)}


def test_what_a_refused_payload_has_left_is_not_taken_for_a_request(address: str) -> None:
    """The model answered at its first mistake; the rest of the body is read and thrown away."""
    with serving(address, LIMITS), connected(address) as sock:
        sock.sendall(post(b"refuse" + LARGE))
        assert answer_of(sock)[::2] == (400, b"refused at once")
        sock.sendall(post(LARGE))
        assert answer_of(sock)[2] == LARGE[::-1]


def test_a_large_answer_waits_for_its_reader_without_a_worker(address: str) -> None:
    """The only worker answers others while a client leaves its answer in the socket."""
    limits = Limits(inline_bytes=100, receive_bytes=1000, answer_stall_seconds=0.01)
    with serving(address, limits, workers=1), connected(address) as slow, connected(address) as other:
        slow.sendall(post(LARGE, "Accept: 20"))
        other.sendall(post(LARGE))
        assert answer_of(other)[2] == LARGE[::-1]
        assert answer_of(slow)[2] == LARGE[::-1] * 20
        slow.sendall(post(LARGE))
        assert answer_of(slow)[2] == LARGE[::-1]


def test_a_body_that_does_not_come_is_not_waited_for_forever(address: str) -> None:
    """408, the end of that connection, and a worker that is free again."""
    limits = Limits(inline_bytes=100, receive_bytes=1000, body_stall_seconds=0.01)
    with serving(address, limits, workers=1), connected(address) as stalled, connected(address) as other:
        stalled.sendall(post(LARGE)[:-1])
        assert answer_of(stalled)[::2] == (408, b"nothing of the body came for 0.01 seconds")
        other.sendall(post(LARGE))
        assert answer_of(other)[2] == LARGE[::-1]


def test_a_client_that_goes_away_leaves_its_worker_to_others(address: str) -> None:
    """In the middle of its body, and before it has read its answer."""
    with serving(address, LIMITS, workers=1):
        for sent in (post(LARGE)[:-1], post(LARGE, "Accept: 20")):
            with connected(address) as sock:
                sock.sendall(sent)
        with connected(address) as sock:
            sock.sendall(post(LARGE))
            assert answer_of(sock)[2] == LARGE[::-1]


def test_a_worker_that_dies_in_the_middle_of_a_body_costs_one_answer(address: str) -> None:
    """Its client is told, and the others are answered by those that live."""
    with serving(address, LIMITS):
        with connected(address) as sock:
            sock.sendall(post(b"die" + LARGE[:200_000]))
            status, _, body = answer_of(sock)
            assert (status, body) == (500, b"the process that evaluated the payload died; is there enough memory?")
        with connected(address) as sock:
            sock.sendall(post(LARGE))
            assert answer_of(sock)[2] == LARGE[::-1]


def test_a_last_request_is_answered_and_the_connection_closed(address: str) -> None:
    """As its head asked."""
    with serving(address, LIMITS), connected(address) as sock:
        sock.sendall(post(LARGE, "Connection: close"))
        assert answer_of(sock)[2] == LARGE[::-1]
        assert sock.recv(1) == b""


def test_large_bodies_to_other_paths_are_refused_without_a_worker(address: str) -> None:
    """And the connection goes on."""
    with serving(address, LIMITS), connected(address) as sock:
        sock.sendall(post(LARGE, path="/nowhere"))
        assert answer_of(sock)[::2] == (404, b"no such path: /nowhere")
        sock.sendall(post(LARGE))
        assert answer_of(sock)[2] == LARGE[::-1]


def test_bodies_in_chunks_are_evaluated_by_workers_too(address: str) -> None:
    """Their length is not known before they end, so the server reads them."""
    head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with serving(address, LIMITS), connected(address) as sock:
        sock.sendall(head + b"%x\r\n" % len(LARGE) + LARGE + b"\r\n0\r\n\r\n")
        status, content_type, answered = answer_of(sock)
        assert (status, answered) == (200, LARGE[::-1])
        assert content_type != f"x/{os.getpid()}"
