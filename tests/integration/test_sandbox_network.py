"""Networks of sandboxed containers: the way in, and the ways out."""

import asyncio
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace.clock import SystemClock
from millrace.dataplane.client import Client, ConnectionFailed, open_connection
from millrace.dataplane.container import wait_until_healthy
from millrace.errors import AlgorithmFailure
from millrace.ports.runtime import Address, Container
from millrace.runtimes.sandbox_network import Egress, egress_obstacle
from tests.sandbox_rig import PYTHON, Rig, needs_sandbox

pytestmark = needs_sandbox

SERVER = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.answer(b'[""]')
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(b"%s %s %d" % (os.environ["WHO"].encode(), self.headers["Host"].encode(), len(body)))
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer.request_queue_size = 256
http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
"""


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path, egress=Egress.NONE)
    rig.file("/srv/server.py", SERVER)
    return rig


@pytest.fixture
def platform_url() -> Iterator[str]:
    """A stand-in for the platform's API."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(f"platform at {self.headers['Host']}".encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


async def serve(rig: Rig, name: str, *, host: str = "0.0.0.0", port: str = "8080") -> Container:
    environment = {"WHO": name}
    return await rig.launch(PYTHON, "/srv/server.py", host, port, name=name, environment=environment, serves=True)


async def healthy(container: Container) -> Address:
    assert container.address is not None
    await wait_until_healthy(container.address, window_seconds=20, clock=SystemClock(), exited=container.wait())
    return container.address


@pytest.mark.spec("C §12 C-44")
@pytest.mark.spec("C §12 C-45")
async def test_three_servers_on_port_8080_run_side_by_side(rig: Rig) -> None:
    """Each in a network of its own; requests reach the right one, whatever a good ping's body is."""
    containers = [await serve(rig, name) for name in ("red", "green", "blue")]
    for container, who in zip(containers, ("red", "green", "blue"), strict=True):
        async with Client(await healthy(container)) as client:
            for size in (0, 1000, 3_000_000):
                answer = await client.invoke("POST", "/invocations", (), b"x" * size)
                assert answer.body == f"{who} model.aws.local:8080 {size}".encode()
    assert [(await container.stop(60)).code for container in containers] == [143, 143, 143]


async def test_one_connection_carries_many_requests(rig: Rig) -> None:
    """A connection is handed out once and then is an ordinary one, with keep-alive."""
    container = await serve(rig, "red")
    connection = await open_connection(await healthy(container))
    assert connection.transport.get_extra_info("peername") == ("127.0.0.1", 8080)
    connection.abort()
    await container.stop(60)


async def test_a_server_on_the_other_loopback_is_found(rig: Rig) -> None:
    """Some listen on ::1 alone."""
    rig.file(
        "/srv/server.py",
        SERVER.replace("http.server.ThreadingHTTPServer(", "Six(").replace(
            "class Handler",
            "import socket\nclass Six(http.server.ThreadingHTTPServer):\n"
            "    address_family = socket.AF_INET6\nclass Handler",
        ),
    )
    container = await serve(rig, "six", host="::1")
    await healthy(container)
    await container.stop(60)


@pytest.mark.spec("C §12 C-47")
async def test_a_server_on_another_port_is_not_healthy(rig: Rig) -> None:
    """The reason names the port and no folder of the host."""
    container = await serve(rig, "red", port="9090")
    assert container.address is not None
    with pytest.raises(AlgorithmFailure, match="cannot connect to port 8080 of the container: Connection refused"):
        await wait_until_healthy(container.address, window_seconds=0.2, clock=SystemClock())
    await container.stop(60)


async def test_the_door_closes_with_the_container(rig: Rig) -> None:
    """Nobody waits for a server that is gone."""
    container = await serve(rig, "red")
    address = await healthy(container)
    await container.stop(60)
    with pytest.raises(ConnectionFailed) as failed:
        await open_connection(address)
    assert failed.value.absent


async def test_the_platform_is_reached_at_a_loopback_port(tmp_path: Path, platform_url: str) -> None:
    """Under the same port as outside, so that presigned URLs hold; variables name that address."""
    rig = Rig(tmp_path, platform_url=platform_url, egress=Egress.NONE)
    rig.file("/srv/p.py", "import os, urllib.request as u; print(u.urlopen(os.environ['AWS_ENDPOINT_URL']).read())")
    script = f"echo $AWS_ENDPOINT_URL; {PYTHON} /srv/p.py"
    lines = await rig.run(script, environment={"AWS_ENDPOINT_URL": platform_url})
    assert lines == [platform_url, f"b'platform at {platform_url.removeprefix('http://')}'"]


@pytest.mark.spec("C §12 C-70")
async def test_network_isolation_leaves_nothing_but_loopback(tmp_path: Path, platform_url: str) -> None:
    """Neither the platform nor a name nor an address; data folders work."""
    rig = Rig(tmp_path, platform_url=platform_url)
    (rig.opt_ml("c") / "input" / "data").mkdir(parents=True, exist_ok=True)
    (rig.opt_ml("c") / "input" / "data" / "x").write_text("data\n")
    rig.file(
        "/srv/p.py",
        "import os, socket\n"
        "def look(what, call):\n"
        "    try: call(); print(what, 'reached')\n"
        "    except OSError as exc: print(what, type(exc).__name__)\n"
        "port = int(os.environ['URL'].rpartition(':')[2])\n"
        "look('platform', lambda: socket.create_connection(('127.0.0.1', port), 5))\n"
        "look('name', lambda: socket.getaddrinfo('example.com', 80))\n"
        "look('address', lambda: socket.create_connection(('192.0.2.1', 80), 5))\n"
        "print(open('/opt/ml/input/data/x').read().strip())\n",
    )
    image = rig.image()
    container = await rig.launch(
        PYTHON, "/srv/p.py", image=image, environment={"URL": platform_url}, network_isolation=True
    )
    assert (await container.wait()).ok
    assert rig.lines == ["platform ConnectionRefusedError", "name gaierror", "address OSError", "data"]


@pytest.mark.skipif(egress_obstacle() is not None, reason=f"no way out: {egress_obstacle()}")
async def test_other_networks_are_reached_but_not_the_host_s_own_ports(tmp_path: Path, platform_url: str) -> None:
    """What listens on this machine's loopback is for this machine."""
    rig = Rig(tmp_path)
    port = platform_url.rpartition(":")[2]
    look = (
        "import socket, sys\n"
        "try: socket.create_connection(('10.0.2.2', int(sys.argv[1])), 5); print('reached')\n"
        "except OSError as exc: print('refused')\n"
    )
    rig.file("/srv/p.py", look)
    lines = await rig.run(f"cat /etc/resolv.conf; ls /sys/class/net 2>/dev/null; {PYTHON} /srv/p.py {port}")
    assert lines == ["nameserver 10.0.2.3", "refused"]


@pytest.mark.parametrize("egress", [Egress.NONE, Egress.AUTO])
async def test_there_is_an_interface_to_bind_to_by_name(tmp_path: Path, egress: Egress) -> None:
    """The one that resourceconfig.json names, with or without a way out."""
    rig = Rig(tmp_path, egress=egress)
    rig.file("/srv/p.py", "import socket; print(dict((n, i) for i, n in socket.if_nameindex()).keys())")
    assert await rig.run(f"{PYTHON} /srv/p.py") == ["dict_keys(['lo', 'eth0'])"]


@pytest.mark.spec("C §12 C-09")
async def test_hosts_of_one_job_find_and_reach_each_other(rig: Rig) -> None:
    """They share a network, with a name and an address each, and nothing else."""
    rig.file(
        "/srv/p.py",
        "import os, socket\n"
        "own = socket.gethostname()\n"
        "print(own, socket.gethostbyname(own), os.path.exists('/tmp/mark'), flush=True)\n"
        "open('/tmp/mark', 'w').close()\n"
        "server = socket.create_server((own, 7777))\n"
        "other = {'algo-1': 'algo-2', 'algo-2': 'algo-1'}[own]\n"
        "while True:\n"
        "    try: peer = socket.create_connection((other, 7777)); break\n"
        "    except ConnectionRefusedError: pass\n"
        "print(own, 'reached', peer.getpeername()[0], flush=True)\n"
        "server.accept()\n",
    )
    shared = rig.folder / "network"
    hosts = ["algo-1", "algo-2"]
    containers = [
        await rig.launch(PYTHON, "/srv/p.py", name=host, host_name=host, hosts=hosts, network=shared) for host in hosts
    ]
    assert [(await container.wait()).ok for container in containers] == [True, True]
    assert sorted(rig.lines) == [
        "algo-1 127.0.1.1 False",
        "algo-1 reached 127.0.1.2",
        "algo-2 127.0.1.2 False",
        "algo-2 reached 127.0.1.1",
    ]


async def test_many_connections_at_once_are_all_handed_out(rig: Rig) -> None:
    """As many as a transform job opens."""
    container = await serve(rig, "red")
    async with Client(await healthy(container)) as client:
        calls = [client.invoke("POST", "/invocations", (), b"x") for _ in range(200)]
        answers = await asyncio.gather(*calls)
    assert {answer.status for answer in answers} == {200}
    await container.stop(60)
