"""What a container is kept from: the agent's descriptors, the machine's settings and devices, its clouds' keys."""

import asyncio
import errno
import socket
from pathlib import Path

import pytest
import uvloop

from millrace.relayed import RELAY_ADDRESS
from millrace.runtimes.sandbox_network import Egress
from tests.sandbox_rig import PYTHON, Rig, needs_sandbox

pytestmark = needs_sandbox

LIST_DESCRIPTORS = "import os; print(sorted(os.listdir('/proc/self/fd')))"


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, egress=Egress.NONE)


def test_a_container_has_no_descriptor_of_its_launcher(tmp_path: Path) -> None:
    """Whatever is open there, and on the event loop that agents have, which closes nothing by itself."""

    async def list_descriptors() -> list[str]:
        rig = Rig(tmp_path, egress=Egress.NONE)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.set_inheritable(True)
            return await rig.run(f'{PYTHON} -c "{LIST_DESCRIPTORS}"')

    assert uvloop.run(list_descriptors()) == ["['0', '1', '2', '3']"]  # the last is the listing's own


async def test_settings_of_the_machine_can_only_be_read(rig: Rig) -> None:
    """Root in a container of the machine's root has the number that the kernel asks for there."""
    paths = ("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/domainname", "/proc/sys/vm/swappiness", "/proc/irq")
    rig.file("/srv/look.py", f"import os\nprint([os.access(path, os.W_OK) for path in {paths}])\n")
    assert await rig.run(f"{PYTHON} /srv/look.py; cat /proc/sys/kernel/ostype") == [f"{[False] * 4}", "Linux"]


async def test_what_proc_tells_of_the_whole_machine_is_hidden(rig: Rig) -> None:
    """Memory, keys and timers; what this kernel has of them."""
    hidden = [name for name in ("kcore", "keys", "timer_list", "sched_debug") if Path("/proc", name).exists()]
    assert await rig.run("; ".join(f"wc -c < /proc/{name}" for name in hidden)) == ["0"] * len(hidden)
    assert await rig.run("ls /proc/acpi /proc/scsi 2>/dev/null | grep -v : || true") in ([], [""])


async def test_devices_of_the_machine_can_be_used_but_not_changed(rig: Rig) -> None:
    """The machine's root owns them; in a container of its own it must not give them away."""
    before = Path("/dev/null").stat()
    lines = await rig.run("echo x > /dev/null && echo used; chmod 666 /dev/null 2>/dev/null || echo refused")
    assert lines == ["used", "refused"]
    assert Path("/dev/null").stat() == before


async def test_the_first_process_tells_nothing_of_the_platform(rig: Rig) -> None:
    """Its variables can be read by the program."""
    assert await rig.run("tr '\\0' '\\n' < /proc/1/environ") == []


@pytest.mark.parametrize("egress", list(Egress))
async def test_the_cloud_s_keys_are_out_of_reach(tmp_path: Path, egress: Egress) -> None:
    """Link-local addresses lead nowhere, with or without a way out to other networks."""
    rig = Rig(tmp_path, egress=egress)
    look = "import socket; print(socket.socket().connect_ex(('169.254.169.254', 80)))"
    assert await rig.run(f'{PYTHON} -c "{look}"') == [str(errno.EHOSTUNREACH)]


async def test_what_is_carried_to_the_platform_comes_from_an_address_of_its_own(tmp_path: Path) -> None:
    """So that it does not count as a program of this machine, for which metrics are."""
    callers: list[str] = []

    def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        callers.append(writer.get_extra_info("peername")[0])
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    rig = Rig(tmp_path, egress=Egress.NONE, platform_url=f"http://127.0.0.1:{port}")
    look = f"import socket; print(socket.create_connection(('127.0.0.1', {port})).recv(1))"
    assert await rig.run(f'{PYTHON} -c "{look}"') == ["b''"]
    assert callers == [RELAY_ADDRESS]
    server.close()
    await server.wait_closed()
