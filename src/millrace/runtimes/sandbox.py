"""Containers of brought images, isolated by bubblewrap: files, processes, network and names of their own.

Root in a container is the user that runs Millrace, in a user namespace that knows no other; where that is the machine's
root, it knows all. docs/design/runtimes.md
tells how the parts fit together.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from millrace.errors import ImageUnavailable, RuntimeUnavailable
from millrace.folder_removal import remove_folder
from millrace.ports.runtime import Address, ContainerSpec, RuntimeReport
from millrace.process_groups import end_left_over
from millrace.runtimes.account_switch import switch_account
from millrace.runtimes.accounts import find_account
from millrace.runtimes.bubblewrap import Bind, SandboxPlan
from millrace.runtimes.lent_folders import LentFolder, can_lend, lend_folders
from millrace.runtimes.lines import LineProtocol
from millrace.runtimes.proc_covers import proc_covers
from millrace.runtimes.sandbox_container import SANDBOX_FOLDER, FirstWords, SandboxContainer
from millrace.runtimes.sandbox_limits import SandboxLimits
from millrace.runtimes.sandbox_network import Egress, PlatformAddress, SandboxNetwork
from millrace.runtimes.sandbox_plan import container_variables, etc_files, host_addresses, opt_ml_binds
from millrace.runtimes.sandbox_probe import probe_sandbox
from millrace.runtimes.sandbox_process import start_bubblewrap
from millrace.runtimes.sandbox_root import RootFolder, find_link, lay_out_root
from millrace.runtimes.skeleton import Skeleton, list_grafts, open_skeleton

__all__ = ["SandboxRuntime"]

DRAIN_SECONDS = 5.0
"""How long output is read on after the program's end."""

DEFAULT_HOST_NAME = "container"

_DOOR = "serve.sock"


class SandboxRuntime:
    """Starts containers of images that have a root file system."""

    def __init__(
        self,
        cache: Path,
        *,
        platform_url: str | None = None,
        egress: Egress = Egress.AUTO,
        limits: SandboxLimits | None = None,
        drain_seconds: float = DRAIN_SECONDS,
    ) -> None:
        """Take where the machine's skeleton is kept and what containers may reach.

        Args:
            platform_url: The platform's API as this machine reaches it; None where there is none.
        """
        self._cache = cache
        self._platform = None if platform_url is None else PlatformAddress.parse(platform_url)
        self._egress = egress
        self._limits = limits or SandboxLimits()
        self._drain_seconds = drain_seconds
        self._networks: dict[Path, SandboxNetwork] = {}
        self._members: dict[Path, int] = {}
        self._opening = asyncio.Lock()

    @property
    def name(self) -> str:
        return "sandbox"

    async def launch(self, spec: ContainerSpec) -> "SandboxContainer":
        """Start a container.

        Raises:
            ImageUnavailable: The image can't be run: it has no such user, say.
            RuntimeUnavailable: The kernel refuses a sandbox; the text says what, and what would help.
        """
        if spec.image.root is None:
            raise ImageUnavailable(f"image {spec.image.uri} has no root file system for the sandbox runtime")
        base = spec.opt_ml.parent.parent
        folder = base / SANDBOX_FOLDER
        if folder.exists():
            await asyncio.to_thread(remove_folder, folder)
        try:
            skeleton = open_skeleton(self._cache)
            folder.mkdir(parents=True)
            root = lay_out_root(folder, layers=spec.image.root.layers, skeleton=skeleton.folder, grafts=list_grafts())
        except OSError as exc:
            raise RuntimeUnavailable(f"can't prepare a container's root in {folder}: {exc}") from exc
        where = spec.network or base
        network = await self._join(where, spec, base / _DOOR if spec.serves else None)
        try:
            return await self._start(spec, base, root, skeleton, network, lambda: self._leave(where))
        except BaseException:
            self._leave(where)
            raise

    async def _join(self, where: Path, spec: ContainerSpec, door: Path | None) -> SandboxNetwork:
        async with self._opening:
            if where not in self._networks:
                self._networks[where] = await SandboxNetwork.open(
                    door=door,
                    isolated=spec.network_isolation,
                    platform=self._platform,
                    egress=self._egress,
                    all_ids=os.geteuid() == 0 and can_lend(spec.opt_ml),
                )
        self._members[where] = self._members.get(where, 0) + 1
        return self._networks[where]

    def _leave(self, where: Path) -> None:
        self._members[where] -= 1
        if self._members[where] == 0:
            del self._members[where]
            self._networks.pop(where).close()

    async def _start(
        self,
        spec: ContainerSpec,
        base: Path,
        root: RootFolder,
        skeleton: Skeleton,
        network: SandboxNetwork,
        on_end: Callable[[], None],
    ) -> "SandboxContainer":
        assert spec.image.root is not None
        account = find_account(spec.image.user, [*reversed(spec.image.root.layers), skeleton.folder])
        host_name = spec.host_name or DEFAULT_HOST_NAME
        all_ids = network.has_all_ids
        lent: list[LentFolder] = []
        info, tells_info = os.pipe()
        waits, unblocks = os.pipe()
        try:
            if all_ids and account.user != 0:
                lent = lend_folders([spec.opt_ml, *spec.mounts.values()], account)
            variables = container_variables(spec, account, host_name)
            plan = SandboxPlan(
                root=root.root,
                binds=[
                    *_etc_binds(root.folder, etc_files(host_name, host_addresses(spec.hosts), network.name_servers)),
                    *_interpreter_bind(skeleton),
                    *opt_ml_binds(spec),
                ],
                environment=variables if self._platform is None else self._platform.translate(variables),
                working_directory=spec.image.working_directory or "/",
                host_name=host_name,
                identity=None if all_ids else (account.user, account.group),
                proc_covers=proc_covers(),
                info_descriptor=tells_info,
                block_descriptor=waits,
            )
            link = find_link(spec.image.root.layers, plan.targets)
            if link is not None:
                raise ImageUnavailable(
                    f"image {spec.image.uri}: {link} is a link; what is mounted there must be no link's"
                )
            said = FirstWords(spec.on_line)
            lines = LineProtocol(said)
            transport = await start_bubblewrap(
                plan,
                (*switch_account(account), *spec.command) if all_ids else spec.command,
                root,
                enter=network.enter(),
                lines=lines,
                max_processes=self._limits.processes,
                lent=lent,
            )
            os.close(tells_info)
            tells_info = -1
            container = SandboxContainer(
                transport,
                lines,
                said,
                address=Address(handed=str(base / _DOOR)) if spec.serves else None,
                folder=base,
                drain_seconds=self._drain_seconds,
                on_end=on_end,
            )
            try:
                await container.set_up(info, network, self._limits)
                os.write(unblocks, b"1")
            except BaseException:  # also given up by the caller: nobody would ever stop it
                container.abandon()
                raise
            return container
        finally:
            for folder in lent:
                folder.close()
            for descriptor in (info, tells_info, waits, unblocks):
                if descriptor >= 0:
                    os.close(descriptor)

    async def end_left_over(self, folder: Path) -> None:
        await asyncio.to_thread(end_left_over, folder)

    async def probe(self) -> RuntimeReport:
        finding = await asyncio.to_thread(probe_sandbox, self._cache)
        return RuntimeReport(name=self.name, works=finding.works, detail=finding.detail)


def _etc_binds(folder: Path, files: dict[str, str]) -> list[Bind]:
    binds = []
    for name, text in files.items():
        (folder / name).write_text(text, "utf-8")
        (folder / name).chmod(0o644)
        binds.append(Bind(source=folder / name, target=f"/etc/{name}"))
    return binds


def _interpreter_bind(skeleton: Skeleton) -> list[Bind]:
    place = skeleton.interpreter
    return [] if place is None else [Bind(source=place, target=str(place), writable=False)]
