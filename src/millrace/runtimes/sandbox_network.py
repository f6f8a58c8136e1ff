"""A network of their own for the containers of one job: loopback, the way in, and the ways out.

It lives as long as this process holds its descriptors. The way in is `door`, from where connections to the server's
port are handed out. Ways out are the platform's API, carried by this process, and other places through slirp4netns
where that works; a job with network isolation has neither.
"""

import asyncio
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from urllib.parse import urlsplit

from millrace.errors import RuntimeUnavailable
from millrace.runtimes.descriptors import readable
from millrace.runtimes.network_helper import CONTAINER_PORT, READY, NetworkWish, run_helper
from millrace.runtimes.relay import Relay
from millrace.runtimes.syscalls import Namespace, die_with_parent, setns

__all__ = ["Egress", "PlatformAddress", "SandboxNetwork", "egress_obstacle"]

INTERFACE = "eth0"
SLIRP = "slirp4netns"
EGRESS_SECONDS = 10.0
"""How long slirp4netns may take to be ready; it takes some 20 ms."""

_NAME_SERVER = "10.0.2.3"
"""Where slirp4netns answers for the machine's own name servers."""

_OWN_ADDRESS = "10.0.2.100"
"""The address that slirp4netns gives; without it the interface has the same."""

_OTHER_PORT = 4600
_MESSAGE_BYTES = 4096
_BACKLOG = 4096


class Egress(Enum):
    """Whether containers reach other places than the platform (MILLRACE_SANDBOX_EGRESS)."""

    AUTO = "auto"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class PlatformAddress:
    """The platform's API as this machine reaches it and as containers do."""

    url: str
    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> "PlatformAddress":
        """Take the address apart; a host that stands for all addresses is the loopback's."""
        parts = urlsplit(url)
        host = parts.hostname or "127.0.0.1"
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        return cls(url, host, parts.port or 80)

    @property
    def inner_port(self) -> int:
        """The same port, so that presigned URLs hold inside and outside; unless the container's server has it."""
        return self.port if self.port != CONTAINER_PORT else _OTHER_PORT

    def translate(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return variables with the address as it is in containers where they have ours."""
        inner = f"http://127.0.0.1:{self.inner_port}"
        return {name: inner if value == self.url else value for name, value in environment.items()}


def egress_obstacle() -> str | None:
    """Return why containers reach no other places than the platform, or None if they do."""
    if shutil.which(SLIRP) is None:
        return f"{SLIRP} is not installed: `apt-get install {SLIRP}` (or `dnf install {SLIRP}`)"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "/dev/net/tun is not there or not for this user: `modprobe tun; chmod 666 /dev/net/tun` as root"
    return None


class SandboxNetwork:
    """A network, its helper process, and what carries connections out of it."""

    def __init__(self, helper: int, control: socket.socket) -> None:
        self._helper = helper
        self._control = control
        self._process = os.pidfd_open(helper)
        self._user = -1
        self._network = -1
        self._relay: Relay | None = None
        self._slirp: subprocess.Popen[bytes] | None = None
        self._slirp_hold = -1
        self._asking = asyncio.Lock()
        self.has_egress = False
        self.has_all_ids = False

    @classmethod
    async def open(
        cls,
        *,
        door: Path | None,
        isolated: bool,
        platform: PlatformAddress | None,
        egress: Egress,
        all_ids: bool = False,
    ) -> "SandboxNetwork":
        """Make a network.

        Args:
            all_ids: Whether its user namespace has all users, not only ours; only for the machine's root.

        Raises:
            RuntimeUnavailable: The kernel refuses; the text says what.
        """
        wants_egress = not isolated and egress is Egress.AUTO and egress_obstacle() is None
        wish = NetworkWish(
            platform_port=None if isolated or platform is None else platform.inner_port,
            interface=None if wants_egress else (INTERFACE, _OWN_ADDRESS),
            all_ids=all_ids,
        )
        network = cls._fork(wish, door)
        network.has_all_ids = all_ids
        try:
            listening = await network._await_ready()
            if listening is not None:
                assert platform is not None
                network._relay = Relay(platform.host, platform.port)
                await network._relay.open(listening)
            if wants_egress:
                await network._open_egress()
        except BaseException:
            network.close()
            raise
        return network

    @classmethod
    def _fork(cls, wish: NetworkWish, door: Path | None) -> "SandboxNetwork":
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listening = None if door is None else _listen(door)
        parent = os.getpid()
        with theirs:
            helper = os.fork()
            if helper == 0:
                run_helper(theirs, listening, wish, parent)
        if listening is not None:
            listening.close()
        return cls(helper, ours)

    async def _await_ready(self) -> socket.socket | None:
        await readable(self._control)
        message, descriptors, _, _ = socket.recv_fds(self._control, _MESSAGE_BYTES, 1)
        if message != READY:
            why = message[1:].decode("utf-8", "replace") or "its process was killed"
            raise RuntimeUnavailable(f"the kernel refuses a network of its own to a container: {why}")
        listening = socket.socket(fileno=descriptors[0]) if descriptors else None
        self._user = os.open(f"/proc/{self._helper}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        self._network = os.open(f"/proc/{self._helper}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        return listening

    async def _open_egress(self) -> None:
        """Start slirp4netns; without it the network goes on."""
        ready, says_ready = os.pipe()
        hold, self._slirp_hold = os.pipe()  # it ends when our end is closed, as by our own end
        try:
            self._slirp = self._start_slirp(says_ready, hold)
            os.close(says_ready)
            says_ready = -1
            with suppress(TimeoutError):
                async with asyncio.timeout(EGRESS_SECONDS):
                    await readable(ready)
                    self.has_egress = os.read(ready, 1) == b"1"
        except OSError as exc:
            raise RuntimeUnavailable(f"can't start {SLIRP}: {exc}") from exc
        finally:
            for descriptor in (ready, says_ready, hold):
                if descriptor >= 0:
                    os.close(descriptor)

    def _start_slirp(self, says_ready: int, hold: int) -> "subprocess.Popen[bytes]":
        prefix = f"/proc/{self._helper}/ns"
        return subprocess.Popen(
            [
                *(SLIRP, "--configure", "--mtu=65520", "--disable-host-loopback", "--enable-sandbox"),
                *(f"--ready-fd={says_ready}", f"--exit-fd={hold}"),
                *(f"--userns-path={prefix}/user", "--netns-type=path", f"{prefix}/net", INTERFACE),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(says_ready, hold),
            start_new_session=True,
            preexec_fn=die_with_parent(os.getpid()),
        )

    @property
    def name_servers(self) -> tuple[str, ...]:
        """Addresses for a container's resolv.conf."""
        return (_NAME_SERVER,) if self.has_egress else ()

    def enter(self) -> Callable[[], None]:
        """Return what a forked child calls to be root of this network's user namespace, in this network."""
        user, network = self._user, self._network

        def enter() -> None:
            setns(user, Namespace.USER)
            setns(network, Namespace.NETWORK)

        return enter

    async def choose_process_ids(self, init: int) -> int | None:
        """Give a container, named by its first process, ids of its own; return its program's, None if not possible."""
        async with self._asking:
            self._control.send(b"%d" % init)
            await readable(self._control)
            return int(self._control.recv(64) or b"0") or None

    def close(self) -> None:
        """End what belongs to the network; containers in it must have ended."""
        if self._relay is not None:
            self._relay.close()
        self._control.close()
        with suppress(ProcessLookupError):
            os.kill(self._helper, 9)
        with suppress(ChildProcessError):
            os.waitpid(self._helper, 0)
        if self._slirp is not None:
            self._slirp.kill()
            self._slirp.wait()
        for descriptor in (self._process, self._user, self._network, self._slirp_hold):
            if descriptor >= 0:
                os.close(descriptor)


def _listen(path: Path) -> socket.socket:
    """Listen on a Unix socket, whatever the length of its path."""
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX)
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        listening.bind(f"/proc/self/fd/{folder}/{path.name}")
        listening.listen(_BACKLOG)
    finally:
        os.close(folder)
    return listening
