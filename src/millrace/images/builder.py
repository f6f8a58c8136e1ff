"""Build an image: carry out a Dockerfile's instructions; each that changes files makes a layer, kept by content.

A layer's key is made of what it stands on and of all that goes into it: the command and its variables, or the bytes
that are copied. Who builds the same again finds the layer and runs nothing.
"""

import json
import platform
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from millrace.errors import ImageUnavailable, MillraceError, RuntimeUnavailable
from millrace.images.bases import Base, BaseRefused, find_base
from millrace.images.copying import CannotCopy, LayerWriter, Ownership, copy_entries, digest_of, plan_copy
from millrace.images.instructions import Copy, Dockerfile, From, Instruction, Run, SetWorkingDirectory, Stage
from millrace.images.patterns import IgnoreRules
from millrace.images.pip_settings import PipSettings
from millrace.images.state import PREDEFINED, BuildState, apply
from millrace.images.substitution import BadWord, expand
from millrace.images.view import View, clean_path
from millrace.ports.images import BadImageName, ImageName, ImageStep, Manifest
from millrace.runtimes.accounts import find_account
from millrace.runtimes.sandbox_build import BuildStep, run_build_step
from millrace.runtimes.skeleton import list_grafts, open_skeleton
from millrace.store.image_files import ImageFiles

__all__ = ["BuildFailed", "BuildRequest", "Builder", "Reporter"]

PYTHON_LAYER_FORMAT = 1
"""To be counted up when the layer with Python is made otherwise."""


class BuildFailed(MillraceError):
    """An instruction failed; the message names file and line."""


class _StepFailed(ValueError):
    """The command of a RUN did not end with 0."""


class Reporter(Protocol):
    """Is told how a build goes."""

    def step(self, number: int, total: int, text: str, *, cached: bool) -> None:
        """An instruction begins, or was found in the cache."""
        ...

    def line(self, text: str) -> None:
        """A command printed a line."""
        ...

    def warn(self, text: str) -> None:
        """Something is not quite as asked for."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildRequest:
    """What is to be built."""

    context: Path
    file: str
    """Name of the Dockerfile, for messages."""
    rules: IgnoreRules
    arguments: Mapping[str, str]
    use_cache: bool = True
    target: str | None = None
    """Name or number of the stage that becomes the image; None is the last."""


class Builder:
    """Builds images into a store."""

    def __init__(self, store: ImageFiles, *, cache: Path, pip: PipSettings, reporter: Reporter) -> None:
        """Take the store, the folder of the sandbox's skeleton, and what a RUN gets of the building user's settings."""
        self._store = store
        self._cache = cache
        self._pip = pip
        self._reporter = reporter

    async def build(self, dockerfile: Dockerfile, request: BuildRequest) -> Manifest:
        """Carry out what the target needs and keep the image.

        Raises:
            BuildFailed: An instruction failed.
        """
        target = _find_target(dockerfile, request)
        needed = _find_needed(dockerfile, target)
        before_from = _expand_before_from(dockerfile, request)
        total = sum(1 + len(stage.instructions) for stage in needed)
        finished: dict[int, BuildState] = {}
        number = 0
        for stage in needed:
            state = await self._begin(stage, dockerfile, finished, before_from, request, number + 1, total)
            number += 1
            for instruction in stage.instructions:
                number += 1
                where = _Place(instruction, number, total)
                try:
                    await self._carry_out(state, where, dockerfile, finished, stage, before_from, request)
                except (BadWord, CannotCopy, ImageUnavailable, RuntimeUnavailable, _StepFailed) as exc:
                    raise BuildFailed(f"{request.file}:{instruction.line}: {instruction.text}: {exc}") from exc
            finished[stage.index] = state
        state = finished[target.index]
        return self._store.add(base=state.base, layers=state.layers, config=state.config, steps=state.steps)

    async def _begin(
        self,
        stage: Stage,
        dockerfile: Dockerfile,
        finished: Mapping[int, BuildState],
        before_from: Mapping[str, str],
        request: BuildRequest,
        number: int,
        total: int,
    ) -> BuildState:
        base = stage.base
        try:
            image = expand(base.image, before_from.get, escape=dockerfile.escape)
            _check_platform(base, before_from, dockerfile.escape)
            earlier = dockerfile.find_stage(image, before=stage.index)
            if earlier is not None:
                self._reporter.step(number, total, base.text, cached=True)
                state = finished[earlier.index]
                return replace(state, layers=[*state.layers], steps=[*state.steps], arguments={}, has_own_command=False)
            return await self._begin_on_image(image, base, dockerfile.escape, request, number, total)
        except (BadWord, BaseRefused, ImageUnavailable, RuntimeUnavailable, _StepFailed) as exc:
            raise BuildFailed(f"{request.file}:{base.line}: {base.text}: {exc}") from exc

    async def _begin_on_image(
        self, image: str, base: From, escape: str, request: BuildRequest, number: int, total: int
    ) -> BuildState:
        manifest = self._find_own(image)
        if manifest is not None:
            self._reporter.step(number, total, base.text, cached=True)
            return BuildState(
                base=manifest.base,
                config=manifest.config,
                escape=escape,
                layers=[*manifest.layers],
                steps=[*manifest.steps],
            )
        found = find_base(image)
        if found is None:
            raise BaseRefused(
                f"there is no image {image} here: FROM takes python, debian and ubuntu, which stand for this machine, "
                "and images that `millrace image build` made (see `millrace image list`)"
            )
        if found.warning:
            self._reporter.warn(f"{request.file}:{base.line}: {found.warning}")
        state = BuildState(base=found.name, config=found.config, escape=escape)
        if not found.has_python:
            self._reporter.step(number, total, base.text, cached=True)
            state.steps.append(ImageStep(text=base.text))
            return state
        await self._add_python(state, found, base, number, total)
        return state

    def _find_own(self, image: str) -> Manifest | None:
        try:
            return self._store.find(ImageName.parse(image))
        except BadImageName:
            return None

    async def _add_python(self, state: BuildState, base: Base, instruction: From, number: int, total: int) -> None:
        """Add the layer with a Python of the image's own: an environment at /usr/local on the machine's interpreter."""
        prefix = Path(sys.base_prefix).resolve()
        where = _Place(instruction, number, total)
        if prefix == Path("/usr/local"):  # it is there already, and writable in the image
            self._reporter.step(number, total, instruction.text, cached=True)
            state.steps.append(ImageStep(text=instruction.text))
            return
        interpreter = prefix / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
        command = (str(interpreter), "-m", "venv", "/usr/local")
        key = _key("python", PYTHON_LAYER_FORMAT, sys.version, str(prefix))
        await self._run_as_layer(
            state, where, key, command, environment=base.config.environment, user=None, use_cache=True
        )

    async def _carry_out(
        self,
        state: BuildState,
        where: "_Place",
        dockerfile: Dockerfile,
        finished: dict[int, BuildState],
        stage: Stage,
        before_from: Mapping[str, str],
        request: BuildRequest,
    ) -> None:
        match where.instruction:
            case Run():
                await self._run(state, where, request)
            case Copy():
                await self._copy(state, where, dockerfile, finished, stage, request)
            case SetWorkingDirectory():
                self._set_working_directory(state, where)
            case _:
                apply(state, where.instruction, given=request.arguments, before_from=before_from)
                self._reporter.step(where.number, where.total, where.instruction.text, cached=True)

    async def _run(self, state: BuildState, where: "_Place", request: BuildRequest) -> None:
        assert isinstance(where.instruction, Run)
        command = state.words(where.instruction.command)
        environment = state.run_environment()
        proxies = {name: value for name, value in request.arguments.items() if name.upper() in PREDEFINED}
        config = state.config
        key = _key("run", state.layers, command, environment, config.working_directory, config.user)
        await self._run_as_layer(
            state,
            where,
            key,
            command,
            environment={**proxies, **environment},
            user=config.user,
            use_cache=request.use_cache,
        )

    async def _run_as_layer(
        self,
        state: BuildState,
        where: "_Place",
        key: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        user: str | None,
        use_cache: bool,
    ) -> None:
        with self._store.making(key):
            known = self._store.find_step(key)
            is_cached = known is not None and use_cache
            self._reporter.step(where.number, where.total, where.instruction.text, cached=is_cached)
            if known is None or not is_cached:
                known = await self._run_in_sandbox(
                    state, where, key, command, environment=environment, user=user, again=known is not None
                )
        self._add_layer(state, where, *known)

    async def _run_in_sandbox(
        self,
        state: BuildState,
        where: "_Place",
        key: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        user: str | None,
        again: bool,
    ) -> tuple[str, int]:
        with self._store.draft() as draft:
            upper = draft / "upper"
            upper.mkdir()
            status = await run_build_step(
                BuildStep(
                    layers=[self._store.layer_folder(layer) for layer in state.layers],
                    upper=upper,
                    scratch=draft / "scratch",
                    cache=self._cache,
                    command=command,
                    environment={**self._pip.environment, **environment},
                    working_directory=state.config.working_directory or "/",
                    user=user,
                    read_only=self._pip.read_only,
                ),
                lambda _, text: self._reporter.line(text),
            )
            if not status.ok:
                raise _StepFailed(f"the command ended with {status}")
            return self._store.keep_layer(key, upper, again=again)

    async def _copy(
        self,
        state: BuildState,
        where: "_Place",
        dockerfile: Dockerfile,
        finished: dict[int, BuildState],
        stage: Stage,
        request: BuildRequest,
    ) -> None:
        copy = where.instruction
        assert isinstance(copy, Copy)
        sources = [state.expand(source) for source in copy.sources]
        destination = state.expand(copy.destination)
        if len(sources) > 1 and not destination.endswith(("/", "/.")) and destination != ".":
            raise CannotCopy(f"several sources need a destination that ends in /, got {destination}")
        owner = self._owner(state, copy)
        layers = [self._store.layer_folder(layer) for layer in state.layers]
        skeleton, grafts = open_skeleton(self._cache).folder, list_grafts()
        target = state.path(destination)
        into_folder = (
            target.endswith("/")
            or destination in (".", "./")
            or len(sources) > 1
            or View(layers, skeleton=skeleton, grafts=grafts).is_folder(clean_path(target))
        )
        if copy.stage is None:
            view, rules, facts = View([request.context]), request.rules, ""
        else:
            source_layers = self._layers_of(copy.stage, state, dockerfile, finished, stage)
            folders = [self._store.layer_folder(layer) for layer in source_layers]
            view, rules = View(folders, skeleton=skeleton, grafts=grafts), IgnoreRules()
            facts = _key(source_layers, [str(it) for it in sources])
        entries = plan_copy(view, sources, into_folder=into_folder, unpacks=copy.unpacks, rules=rules)
        content = facts or digest_of(entries)
        key = _key("copy", state.layers, content, target, into_folder, owner.user, owner.group, owner.mode)
        with self._store.making(key):
            known = self._store.find_step(key)
            self._reporter.step(where.number, where.total, copy.text, cached=known is not None)
            if known is None:
                with self._store.draft() as draft:
                    upper = draft / "upper"
                    upper.mkdir()
                    writer = LayerWriter(upper, layers, skeleton=skeleton, grafts=grafts, owner=owner)
                    copy_entries(writer, entries, clean_path(target), owner)
                    known = self._store.keep_layer(key, upper)
        self._add_layer(state, where, *known)

    def _owner(self, state: BuildState, copy: Copy) -> Ownership:
        mode = None
        if copy.mode is not None:
            text = state.expand(copy.mode)
            if not text or len(text) > 4 or any(digit not in "01234567" for digit in text):
                raise CannotCopy(f"--chmod must be an octal number such as 755, got {text!r}")
            mode = int(text, 8)
        if copy.owner is None:
            return Ownership(mode=mode)
        name = state.expand(copy.owner)
        roots = [self._store.layer_folder(layer) for layer in reversed(state.layers)]
        account = find_account(name, [*roots, open_skeleton(self._cache).folder])
        # a user without a group: "will use the same numeric UID as the GID"
        return Ownership(user=account.user, group=account.group if ":" in name else account.user, mode=mode)

    def _layers_of(
        self,
        name: str,
        state: BuildState,
        dockerfile: Dockerfile,
        finished: Mapping[int, BuildState],
        stage: Stage,
    ) -> Sequence[str]:
        name = state.expand(name)
        earlier = dockerfile.find_stage(name, before=stage.index)
        if earlier is not None:
            return finished[earlier.index].layers
        manifest = self._find_own(name)
        if manifest is None:
            raise CannotCopy(f"--from={name} is neither an earlier stage nor an image here")
        return manifest.layers

    def _set_working_directory(self, state: BuildState, where: "_Place") -> None:
        assert isinstance(where.instruction, SetWorkingDirectory)
        path = state.path(state.expand(where.instruction.path)).rstrip("/") or "/"
        state.config = replace(state.config, working_directory=path)
        layers = [self._store.layer_folder(layer) for layer in state.layers]
        skeleton, grafts = open_skeleton(self._cache).folder, list_grafts()
        view = View(layers, skeleton=skeleton, grafts=grafts)
        status = view.lstat(view.resolve(clean_path(path)))
        if status is not None:
            if not stat.S_ISDIR(status.st_mode):
                raise CannotCopy(f"{path} is no folder")
            self._reporter.step(where.number, where.total, where.instruction.text, cached=True)
            state.steps.append(ImageStep(text=where.instruction.text))
            return
        key = _key("folder", state.layers, path)
        with self._store.making(key):
            known = self._store.find_step(key)
            self._reporter.step(where.number, where.total, where.instruction.text, cached=known is not None)
            if known is None:
                with self._store.draft() as draft:
                    upper = draft / "upper"
                    upper.mkdir()
                    writer = LayerWriter(upper, layers, skeleton=skeleton, grafts=grafts, owner=Ownership())
                    writer.make_folder(clean_path(path))
                    known = self._store.keep_layer(key, upper)
        self._add_layer(state, where, *known)

    def _add_layer(self, state: BuildState, where: "_Place", layer: str, size: int) -> None:
        state.layers.append(layer)
        state.steps.append(ImageStep(text=where.instruction.text, layer=layer, size=size))


@dataclass(frozen=True, slots=True)
class _Place:
    """One instruction and where the build stands with it."""

    instruction: Instruction
    number: int
    total: int


def _find_target(dockerfile: Dockerfile, request: BuildRequest) -> Stage:
    if request.target is None:
        return dockerfile.stages[-1]
    found = dockerfile.find_stage(request.target, before=len(dockerfile.stages))
    if found is None:
        raise BuildFailed(f"{request.file}: there is no stage {request.target!r}")
    return found


def _find_needed(dockerfile: Dockerfile, target: Stage) -> list[Stage]:
    """Return the stages that the target stands on or copies from, in their order."""
    needed = {target.index}
    for stage in reversed(dockerfile.stages[: target.index + 1]):
        if stage.index not in needed:
            continue
        names = [stage.base.image, *(it.stage for it in stage.instructions if isinstance(it, Copy) and it.stage)]
        for name in names:
            earlier = dockerfile.find_stage(name, before=stage.index)
            if earlier is not None:
                needed.add(earlier.index)
            elif "$" in name:  # whatever it may turn out to be
                needed.update(range(stage.index))
    return [stage for stage in dockerfile.stages if stage.index in needed]


def _expand_before_from(dockerfile: Dockerfile, request: BuildRequest) -> dict[str, str]:
    values = dict(_platform_arguments())
    for argument in dockerfile.arguments:
        for name, default in argument.pairs:
            try:
                value = request.arguments.get(name)
                if value is None and default is not None:
                    value = expand(default, values.get, escape=dockerfile.escape)
            except BadWord as exc:
                raise BuildFailed(f"{request.file}:{argument.line}: {argument.text}: {exc}") from exc
            if value is not None:
                values[name] = value
    return values


def _platform_arguments() -> Mapping[str, str]:
    machine = platform.machine()
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
    ours = f"linux/{architecture}"
    return {
        **{f"{side}PLATFORM": ours for side in ("TARGET", "BUILD")},
        **{f"{side}OS": "linux" for side in ("TARGET", "BUILD")},
        **{f"{side}ARCH": architecture for side in ("TARGET", "BUILD")},
    }


def _check_platform(base: From, before_from: Mapping[str, str], escape: str) -> None:
    if base.platform is None:
        return
    asked = expand(base.platform, before_from.get, escape=escape)
    ours = before_from["TARGETPLATFORM"]
    if asked not in (ours, "linux", ours.partition("/")[2]):
        raise BaseRefused(f"--platform={asked} is asked for, and this machine is {ours}")


def _key(*facts: object) -> str:
    return sha256(json.dumps(facts, sort_keys=True, default=list).encode()).hexdigest()
