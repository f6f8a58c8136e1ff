"""The instructions of a Dockerfile as values: parsed, with their variables not yet filled in."""

from dataclasses import dataclass

__all__ = [
    "Argument",
    "Command",
    "Copy",
    "Dockerfile",
    "Environment",
    "Expose",
    "From",
    "Instruction",
    "Label",
    "Note",
    "Run",
    "SetCommand",
    "SetEntryPoint",
    "SetShell",
    "SetUser",
    "SetWorkingDirectory",
    "Stage",
    "StopSignal",
    "Volume",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Instruction:
    """What every instruction has: the line where it begins, and its text as written."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Command:
    """A program to run: its words, or one text for the shell."""

    words: tuple[str, ...]
    is_shell: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class From(Instruction):
    """FROM: what a stage is built upon."""

    image: str
    alias: str | None
    platform: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Argument(Instruction):
    """ARG: names that the builder may set, with their defaults."""

    pairs: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment(Instruction):
    """ENV."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Label(Instruction):
    """LABEL."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Run(Instruction):
    """RUN."""

    command: Command
    empty_folders: tuple[str, ...] = ()
    """Targets of cache and tmpfs mounts: what is in them is no part of the image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SetCommand(Instruction):
    """CMD."""

    command: Command


@dataclass(frozen=True, kw_only=True, slots=True)
class SetEntryPoint(Instruction):
    """ENTRYPOINT."""

    command: Command


@dataclass(frozen=True, kw_only=True, slots=True)
class SetShell(Instruction):
    """SHELL."""

    words: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Copy(Instruction):
    """COPY, and ADD, which unpacks archives."""

    sources: tuple[str, ...]
    destination: str
    stage: str | None
    """What --from names: a stage or an image; None is the build context."""
    owner: str | None
    mode: str | None
    unpacks: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class SetWorkingDirectory(Instruction):
    """WORKDIR."""

    path: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SetUser(Instruction):
    """USER."""

    user: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Expose(Instruction):
    """EXPOSE: recorded; jobs and endpoints use port 8080 whatever it says."""

    ports: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Volume(Instruction):
    """VOLUME: recorded; every container's file system is its own anyway."""

    paths: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class StopSignal(Instruction):
    """STOPSIGNAL: recorded; the platform stops containers with SIGTERM."""

    signal: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Note(Instruction):
    """HEALTHCHECK and MAINTAINER: recorded, without effect; the platform asks /ping."""

    keyword: str
    value: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """FROM and the instructions up to the next one."""

    index: int
    base: From
    instructions: tuple[Instruction, ...]

    @property
    def name(self) -> str | None:
        """The name after AS, in small letters."""
        return self.base.alias


@dataclass(frozen=True, kw_only=True, slots=True)
class Dockerfile:
    """A whole Dockerfile: the arguments before the first FROM, and the stages."""

    escape: str
    arguments: tuple[Argument, ...]
    stages: tuple[Stage, ...]

    def find_stage(self, name: str, *, before: int) -> Stage | None:
        """Return the stage of that name or number among those before an index, or None."""
        for stage in self.stages[:before]:
            if stage.name == name.lower() or name == str(stage.index):
                return stage
        return None
