"""Which stages of a Dockerfile a build needs, and what the ARGs before the first FROM are worth."""

import platform
from collections.abc import Iterator, Mapping

from millrace.images.instructions import Argument, Copy, Dockerfile, From, Stage
from millrace.images.problems import BuildFailed
from millrace.images.state import PREDEFINED
from millrace.images.substitution import BadWord, expand

__all__ = ["find_needed", "find_stray_arguments", "find_target", "global_arguments", "is_own_platform"]


def find_target(dockerfile: Dockerfile, target: str | None, *, file: str) -> Stage:
    """Return the stage that becomes the image: the last, if none is named. Raises BuildFailed."""
    if target is None:
        return dockerfile.stages[-1]
    found = dockerfile.find_stage(target, before=len(dockerfile.stages))
    if found is None:
        known = ", ".join(stage.name or str(stage.index) for stage in dockerfile.stages)
        raise BuildFailed(f"{file}: there is no stage {target!r}; its stages are {known}")
    return found


def find_needed(dockerfile: Dockerfile, target: Stage) -> list[Stage]:
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


def global_arguments(dockerfile: Dockerfile, given: Mapping[str, str], *, file: str) -> dict[str, str]:
    """Return the values of the ARGs before the first FROM, and those that describe the platform.

    Raises:
        BuildFailed: A default can't be filled in.
    """
    values = dict(_platform_arguments())
    for argument in dockerfile.arguments:
        for name, default in argument.pairs:
            try:
                value = given.get(name)
                if value is None and default is not None:
                    value = expand(default, values.get, escape=dockerfile.escape)
            except BadWord as exc:
                raise BuildFailed(f"{file}:{argument.line}: {argument.text}: {exc}") from exc
            if value is not None:
                values[name] = value
    return values


def find_stray_arguments(dockerfile: Dockerfile, given: Mapping[str, str]) -> list[str]:
    """Return the names of given values that no ARG takes."""
    taken = {name for argument in _arguments(dockerfile) for name, _ in argument.pairs}
    return sorted(name for name in given if name not in taken and name.upper() not in PREDEFINED)


def _arguments(dockerfile: Dockerfile) -> Iterator[Argument]:
    yield from dockerfile.arguments
    for stage in dockerfile.stages:
        yield from (it for it in stage.instructions if isinstance(it, Argument))


def is_own_platform(base: From, values: Mapping[str, str], *, escape: str) -> bool:
    """Whether `FROM --platform` names this machine's, or nothing. Raises BadWord."""
    if base.platform is None:
        return True
    asked = expand(base.platform, values.get, escape=escape)
    ours = values["TARGETPLATFORM"]
    return asked in (ours, f"{ours}/v8", "linux", ours.partition("/")[2])


def _platform_arguments() -> Mapping[str, str]:
    machine = platform.machine()
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
    ours = f"linux/{architecture}"
    return {
        **{f"{side}PLATFORM": ours for side in ("TARGET", "BUILD")},
        **{f"{side}OS": "linux" for side in ("TARGET", "BUILD")},
        **{f"{side}ARCH": architecture for side in ("TARGET", "BUILD")},
    }
