"""Run one command of an image's build: in the layers so far, with what it changes kept as a new layer.

Under the machine's own root the command has Docker's rights over the new layer, so that packages can be installed and
files given to other users. Under any other user it is root of a user namespace with one user: what it writes is that
user's, giving files away fails, and so does changing folders that belong to the machine's root, such as /usr/bin. In
both cases it sees nothing of the machine but what containers see, and has the machine's network.
"""

import asyncio
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from millrace.errors import ImageUnavailable, RuntimeUnavailable
from millrace.folder_removal import remove_folder
from millrace.ports.runtime import ExitStatus
from millrace.runtimes.account_switch import switch_account
from millrace.runtimes.accounts import Account, find_account
from millrace.runtimes.bubblewrap import DEFAULT_PATH, Bind, SandboxPlan
from millrace.runtimes.lines import LineProtocol
from millrace.runtimes.proc_covers import proc_covers
from millrace.runtimes.sandbox_container import NOT_STARTED, FirstWords
from millrace.runtimes.sandbox_process import start_bubblewrap
from millrace.runtimes.sandbox_root import find_link, lay_out_root
from millrace.runtimes.skeleton import Skeleton, list_grafts, open_skeleton
from millrace.runtimes.syscalls import Namespace, become_single_id_root, unshare

__all__ = ["BuildStep", "run_build_step"]

HOST_NAME = "buildkitsandbox"
"""What Docker calls the machine of a build; some installers print it, none needs it."""

_ROOT_ONLY_APT = 'APT::Sandbox::User "root";\n'
"""Apt changes to a user of its own before it loads packages, which a namespace of one user has not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildStep:
    """One RUN instruction, ready to run."""

    layers: Sequence[Path]
    """The image so far, lowest first."""
    upper: Path
    """An empty folder, that becomes the new layer."""
    scratch: Path
    """A folder for this step alone, on the file system of `upper`; it need not exist, and is removed at the end."""
    cache: Path
    """Where the machine's skeleton is kept; the same for all that use one data directory."""
    command: Sequence[str]
    environment: Mapping[str, str]
    """All of it; PATH and HOME are added where they miss."""
    working_directory: str = "/"
    user: str | None = None
    read_only: Sequence[Path] = ()
    """Folders and files of the machine that the command may read at their own paths; links are followed."""
    empty_folders: Sequence[str] = ()
    """Paths in the container without links on the way, that are folders of this step alone and no part of the layer."""


async def run_build_step(step: BuildStep, on_line: Callable[[int, str], None]) -> ExitStatus:
    """Run the command to its end; cancelling kills it and all that it started.

    The new layer is complete once this returns; it is not yet known to be on disk.

    Raises:
        ImageUnavailable: The image has no such user.
        RuntimeUnavailable: A sandbox does not work here; the text says why.
    """
    skeleton = await asyncio.to_thread(open_skeleton, step.cache)
    account = find_account(step.user, [*reversed(step.layers), skeleton.folder])
    step.scratch.mkdir(parents=True, exist_ok=True)
    try:
        return await _run(step, skeleton, account, on_line)
    finally:
        await asyncio.to_thread(_tidy, step)


async def _run(
    step: BuildStep, skeleton: Skeleton, account: Account, on_line: Callable[[int, str], None]
) -> ExitStatus:
    root = lay_out_root(
        step.scratch / "root", layers=step.layers, skeleton=skeleton.folder, grafts=list_grafts(), upper=step.upper
    )
    by_root = os.geteuid() == 0
    plan = SandboxPlan(
        root=root.root,
        binds=_binds(step, skeleton, by_root),
        environment={"PATH": DEFAULT_PATH, "HOME": account.home, **step.environment},
        working_directory=step.working_directory,
        host_name=HOST_NAME,
        identity=None if by_root else (account.user, account.group),
        proc_covers=proc_covers(),
    )
    link = find_link(step.layers, plan.targets)
    if link is not None:
        raise ImageUnavailable(f"{link} is a link, and the build mounts on it: it must be none")
    command = step.command
    if by_root and (account.user, account.group) != (0, 0):
        command = (*switch_account(account), *command)
    said = FirstWords(on_line)
    lines = LineProtocol(said)
    transport = await start_bubblewrap(plan, command, root, enter=_stay_root if by_root else _enter(), lines=lines)
    try:
        code = await asyncio.shield(lines.ended)
        await lines.drained
    finally:
        with suppress(ProcessLookupError):
            transport.kill()
        transport.close()
    if said.is_not_started:
        return ExitStatus(NOT_STARTED)
    return ExitStatus(128 - code if code < 0 else code)


def _stay_root() -> None:
    """Need no user namespace: this is the machine's root."""


def _enter() -> Callable[[], None]:
    user, group = os.geteuid(), os.getegid()

    def enter() -> None:
        unshare(Namespace.USER)
        become_single_id_root(user, group)

    return enter


def _binds(step: BuildStep, skeleton: Skeleton, by_root: bool) -> list[Bind]:
    binds = []
    for name in ("hosts", "resolv.conf"):
        copy = step.scratch / name
        try:
            copy.write_bytes(Path("/etc", name).read_bytes())
        except OSError as exc:
            raise RuntimeUnavailable(f"/etc/{name} can't be read: {exc.strerror}") from exc
        binds.append(Bind(source=copy, target=f"/etc/{name}"))
    if skeleton.interpreter is not None:
        binds.append(Bind(source=skeleton.interpreter, target=str(skeleton.interpreter), writable=False))
    for number, target in enumerate(step.empty_folders):
        folder = step.scratch / f"empty{number}"
        folder.mkdir()
        folder.chmod(0o755)
        binds.append(Bind(source=folder, target=target))
    if not by_root and Path("/etc/apt/apt.conf.d").is_dir():
        settings = step.scratch / "apt.conf"
        settings.write_text(_ROOT_ONLY_APT)
        binds.append(Bind(source=settings, target="/etc/apt/apt.conf.d/99-one-user", writable=False))
    return binds + [Bind(source=it.resolve(), target=str(it.absolute()), writable=False) for it in step.read_only]


def _tidy(step: BuildStep) -> None:
    """Take out of the new layer what only the mounts needed: their empty folders and files."""
    remove_folder(step.scratch)
    targets = [*list_grafts(), "etc/apt/apt.conf.d/99-one-user"]
    targets += [target.lstrip("/") for target in step.empty_folders]
    targets += [str(path.absolute()).lstrip("/") for path in step.read_only]
    for target in targets:
        with suppress(OSError):
            _prune(step.upper, Path(target).parts)


def _prune(upper: Path, parts: Sequence[str]) -> None:
    """Remove an empty file or folder, and folders on the way that are empty then.

    The layer is the command's: its links lead anywhere, so none is followed.
    """
    with ExitStack() as opened:
        folders = [_open_folder(str(upper), None, opened)]
        for part in parts[:-1]:
            try:
                folders.append(_open_folder(part, folders[-1], opened))
            except FileNotFoundError:  # what there is of the way may be there for the mounts only
                parts = parts[: len(folders)]
                break
        _remove_empty(parts[-1], folders[len(parts) - 1])
        for depth in range(len(parts) - 1, 0, -1):
            os.rmdir(parts[depth - 1], dir_fd=folders[depth - 1])


def _open_folder(name: str, parent: int | None, opened: ExitStack) -> int:
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    opened.callback(os.close, descriptor)
    return descriptor


def _remove_empty(name: str, folder: int) -> None:
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISREG(status.st_mode) and status.st_size == 0:
        os.unlink(name, dir_fd=folder)
    else:
        os.rmdir(name, dir_fd=folder)
