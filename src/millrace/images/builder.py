"""Build an image: carry out a Dockerfile's instructions; each that changes files makes a layer, kept by content.

A layer's key is made of what it stands on and of all that goes into it: the command and its variables, or the bytes
that are copied. Who builds the same again finds the layer and runs nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from millrace.errors import ImageUnavailable, RuntimeUnavailable
from millrace.images.bases import Base, BaseRefused, find_base
from millrace.images.instructions import Copy, Dockerfile, From, Run, SetWorkingDirectory, Stage
from millrace.images.making import LayerMaker, Place, Reporter
from millrace.images.pip_settings import PipSettings
from millrace.images.placing import BuildContext, Placing
from millrace.images.problems import BuildFailed, DockerfileError, Problem, StepFailed
from millrace.images.recorded import BadRecord
from millrace.images.running import Running
from millrace.images.stages import (
    find_needed,
    find_stray_arguments,
    find_target,
    global_arguments,
    is_own_platform,
)
from millrace.images.state import BuildState, apply
from millrace.images.substitution import BadWord, expand
from millrace.ports.images import BadImageName, ImageName, ImageStep, Manifest
from millrace.store.image_files import ImageFiles

__all__ = ["BuildRequest", "Builder"]


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildRequest:
    """What is to be built."""

    context: BuildContext
    file: str
    """Name of the Dockerfile, for messages."""
    arguments: Mapping[str, str]
    use_cache: bool = True
    target: str | None = None
    """Name or number of the stage that becomes the image; None is the last."""
    names: Sequence[ImageName] = ()
    """Tags that the image gets."""


class Builder:
    """Builds images into a store."""

    def __init__(self, store: ImageFiles, *, cache: Path, pip: PipSettings, reporter: Reporter) -> None:
        """Take the store, the folder of the sandbox's skeleton, and what a RUN gets of the building user's settings."""
        self._store = store
        self._maker = LayerMaker(store, cache=cache, reporter=reporter)
        self._running = Running(self._maker, pip)

    async def build(self, dockerfile: Dockerfile, request: BuildRequest) -> Manifest:
        """Carry out what the target needs, keep the image and tag it.

        Raises:
            BuildFailed: An instruction failed.
            DockerfileError: FROM or --from names what is not there; nothing has run.
        """
        with self._store.building():
            manifest = await _Build(self._store, self._maker, self._running, dockerfile, request).run()
            for name in request.names:
                self._store.tag(name, manifest.digest)
            return manifest


class _Build:
    """One build under way."""

    def __init__(
        self, store: ImageFiles, maker: LayerMaker, running: Running, dockerfile: Dockerfile, request: BuildRequest
    ) -> None:
        self._store = store
        self._maker = maker
        self._running = running
        self._dockerfile = dockerfile
        self._request = request
        self._finished: dict[int, BuildState] = {}
        self._globals = global_arguments(dockerfile, request.arguments, file=request.file)

    async def run(self) -> Manifest:
        for name in find_stray_arguments(self._dockerfile, self._request.arguments):
            self._maker.reporter.warn(f"--build-arg {name}: no ARG of {self._request.file} takes it")
        target = find_target(self._dockerfile, self._request.target, file=self._request.file)
        needed = find_needed(self._dockerfile, target)
        self._check_names(needed)
        total = sum(1 + len(stage.instructions) for stage in needed)
        number = 0
        for stage in needed:
            state: BuildState | None = None
            placing = Placing(self._maker, self._request.context, partial(self._layers_of, stage))
            for instruction in (stage.base, *stage.instructions):
                number += 1
                place = Place(instruction, number, total)
                try:
                    if state is None:
                        state = await self._begin(stage, place)
                    else:
                        await self._carry_out(state, place, placing)
                except (BadRecord, BadWord, BaseRefused, ImageUnavailable, RuntimeUnavailable, StepFailed) as exc:
                    raise self._failed(place, str(exc)) from exc
                except OSError as exc:  # a full disk, a layer's folder that its owner may not enter
                    raise self._failed(place, _told(exc)) from exc
            assert state is not None
            self._finished[stage.index] = state
        state = self._finished[target.index]
        return self._store.add(base=state.base, layers=state.layers, config=state.config, steps=state.steps)

    def _failed(self, place: Place, why: str) -> BuildFailed:
        return BuildFailed(f"{self._request.file}:{place.instruction.line}: {place.instruction.text}: {why}")

    async def _begin(self, stage: Stage, place: Place) -> BuildState:
        escape = self._dockerfile.escape
        image = expand(stage.base.image, self._globals.get, escape=escape)
        earlier = self._dockerfile.find_stage(image, before=stage.index)
        if earlier is not None:
            self._maker.report(place)
            state = self._finished[earlier.index]
            # "automatically inherited by child stages", says Docker of ARGs
            return replace(
                state,
                layers=[*state.layers],
                steps=[*state.steps],
                arguments={**state.arguments},
                has_own_command=False,
            )
        manifest = self._find_own(image)
        if manifest is None:
            return await self._begin_on_machine(image, place)
        self._maker.report(place)
        return BuildState(
            base=manifest.base,
            config=manifest.config,
            escape=escape,
            layers=[*manifest.layers],
            steps=[*manifest.steps],
        )

    async def _begin_on_machine(self, image: str, place: Place) -> BuildState:
        base = self._get_base(image)
        for warning in base.warnings:
            self._maker.reporter.warn(f"{self._request.file}:{place.instruction.line}: {warning}")
        state = BuildState(base=base.name, config=base.config, escape=self._dockerfile.escape)
        if base.has_python:
            await self._running.add_python(state, place, base)
        else:
            self._maker.report(place)
            state.steps.append(ImageStep(text=place.instruction.text))
        return state

    async def _carry_out(self, state: BuildState, place: Place, placing: Placing) -> None:
        match place.instruction:
            case Run():
                arguments, use_cache = self._request.arguments, self._request.use_cache
                await self._running.run(state, place, arguments, use_cache=use_cache)
            case Copy():
                await placing.copy(state, place)
            case SetWorkingDirectory():
                await placing.set_working_directory(state, place)
            case _:
                apply(state, place.instruction, given=self._request.arguments, before_from=self._globals)
                self._maker.report(place)

    def _check_names(self, needed: Sequence[Stage]) -> None:
        """Tell all that FROM and --from name in vain, before anything runs. Raises DockerfileError."""
        problems = []
        for stage in needed:
            for instruction in (stage.base, *stage.instructions):
                try:
                    if isinstance(instruction, From):
                        self._check_base(stage)
                    elif isinstance(instruction, Copy) and instruction.stage and "$" not in instruction.stage:
                        self._check_source(stage, instruction.stage)
                except (BadWord, BaseRefused, StepFailed) as exc:
                    problems.append(Problem(instruction.line, f"{instruction.text}: {exc}"))
        if problems:
            raise DockerfileError(self._request.file, problems)

    def _check_base(self, stage: Stage) -> None:
        image = expand(stage.base.image, self._globals.get, escape=self._dockerfile.escape)
        if not is_own_platform(stage.base, self._globals, escape=self._dockerfile.escape):
            ours = self._globals["TARGETPLATFORM"]
            raise BaseRefused(f"--platform={stage.base.platform} is asked for, and this machine is {ours}")
        if self._dockerfile.find_stage(image, before=stage.index) is None and self._find_own(image) is None:
            self._get_base(image)

    def _check_source(self, stage: Stage, name: str) -> None:
        if self._dockerfile.find_stage(name, before=stage.index) or self._find_own(name) or find_base(name):
            return
        raise StepFailed(f"--from={name} is neither an earlier stage nor an image here")

    def _get_base(self, image: str) -> Base:
        base = find_base(image)
        if base is None:
            raise BaseRefused(
                f"there is no image {image} here: FROM takes python, debian and ubuntu, which stand for this machine, "
                "and images that `millrace image build` made (see `millrace image list`)"
            )
        return base

    def _find_own(self, image: str) -> Manifest | None:
        try:
            return self._store.find(ImageName.parse(image))
        except BadImageName:
            return None

    async def _layers_of(self, stage: Stage, name: str, place: Place) -> Sequence[str]:
        """Return the layers of what `--from` names in a stage; a base's are made as for FROM. Raises StepFailed."""
        earlier = self._dockerfile.find_stage(name, before=stage.index)
        if earlier is not None:
            return self._finished[earlier.index].layers
        manifest = self._find_own(name)
        if manifest is not None:
            return manifest.layers
        if find_base(name) is None:
            raise StepFailed(f"--from={name} is neither an earlier stage nor an image here")
        line = place.instruction.line
        base = From(line=line, text=f"FROM {name}", image=name, alias=None, platform=None)
        return (await self._begin_on_machine(name, replace(place, instruction=base))).layers


def _told(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)
