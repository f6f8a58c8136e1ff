"""Carry out RUN, and make the layer with Python that `FROM python` stands for."""

import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from millrace.images.bases import Base
from millrace.images.instructions import Run
from millrace.images.making import LayerMaker, Place, key_of
from millrace.images.pip_settings import PipSettings
from millrace.images.problems import StepFailed
from millrace.images.state import PREDEFINED, BuildState
from millrace.images.view import clean_path
from millrace.ports.images import ImageStep
from millrace.runtimes.sandbox_build import BuildStep, run_build_step

__all__ = ["Running", "check_can_make_python"]

PYTHON_LAYER_FORMAT = 2
"""To be counted up when the layer with Python is made otherwise."""

_LOCAL = Path("/usr/local")
_LOCAL_FOLDERS = ("bin", "etc", "games", "include", "lib", "sbin", "share", "src")


class Running:
    """Runs commands of one build, each in the layers before it."""

    def __init__(self, maker: LayerMaker, pip: PipSettings) -> None:
        self._maker = maker
        self._pip = pip

    async def run(self, state: BuildState, place: Place, given: Mapping[str, str], *, use_cache: bool) -> None:
        """Run a command.

        Args:
            given: All --build-arg values; of those without an ARG only the proxies' count.

        Raises:
            StepFailed: It did not end with 0.
        """
        assert isinstance(place.instruction, Run)
        config = state.config
        command = state.words(place.instruction.command)
        environment = state.run_environment()
        proxies = {name: value for name, value in given.items() if name.upper() in PREDEFINED}
        view = self._maker.view(state.layers)
        # with links followed inside the image: what makes the mounts follows them from the machine's root
        targets = [state.path(state.expand(it)) for it in place.instruction.empty_folders]
        folders = [f"/{view.resolve(clean_path(it))}" for it in targets]
        if "/" in folders:
            raise StepFailed("RUN --mount: a target must not be /")
        facts = [folders] if folders else []
        key = key_of("run", state.layers, command, environment, config.working_directory, config.user, *facts)

        async def fill(draft: Path) -> None:
            await self._in_sandbox(state, draft, command, {**proxies, **environment}, user=config.user, folders=folders)

        await self._maker.make(state, place, key, fill, use_cache=use_cache)

    async def add_python(self, state: BuildState, place: Place, base: Base) -> None:
        """Add a Python of the image's own: an environment at /usr/local on the machine's interpreter."""
        prefix = Path(sys.base_prefix).resolve()
        if prefix == _LOCAL:  # it is there already, and can be written to in the image
            self._maker.report(place)
            state.steps.append(ImageStep(text=place.instruction.text))
            return
        interpreter = prefix / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
        command = (str(interpreter), "-m", "venv", str(_LOCAL))

        async def fill(draft: Path) -> None:
            check_can_make_python(importlib.util.find_spec("ensurepip") is not None)
            if not prefix.is_relative_to(_LOCAL):
                _make_own_local(draft / "upper")
            await self._in_sandbox(state, draft, command, base.config.environment, user=None)

        key = key_of("python", PYTHON_LAYER_FORMAT, sys.version, str(prefix))
        await self._maker.make(state, place, key, fill)

    async def _in_sandbox(
        self,
        state: BuildState,
        draft: Path,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        user: str | None,
        folders: Sequence[str] = (),
    ) -> None:
        step = BuildStep(
            layers=self._maker.folders(state.layers),
            upper=draft / "upper",
            scratch=draft / "scratch",
            cache=self._maker.cache,
            command=command,
            environment={**self._pip.environment, **environment},
            working_directory=state.config.working_directory or "/",
            user=user,
            read_only=self._pip.read_only,
            empty_folders=folders,
        )
        status = await run_build_step(step, lambda _, text: self._maker.reporter.line(text))
        if not status.ok:
            raise StepFailed(f"the command ended with {status}")


def check_can_make_python(has_ensurepip: bool) -> None:
    """Raise StepFailed if this machine's Python can't make an environment with pip: Debian packs that by itself."""
    if not has_ensurepip:
        package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
        raise StepFailed(
            "FROM python needs the module ensurepip, which this machine's Python has not: install the package "
            f"{package} (apt-get install {package}), or use FROM debian"
        )


def _make_own_local(upper: Path) -> None:
    """Give a layer a /usr/local that hides the machine's.

    The machine's belongs to its root: builds by others could write nothing into its folders.
    """
    local = upper / _LOCAL.relative_to("/")
    local.mkdir(parents=True)
    os.setxattr(local, "user.overlay.opaque", b"y")
    for name in _LOCAL_FOLDERS:
        (local / name).mkdir()
