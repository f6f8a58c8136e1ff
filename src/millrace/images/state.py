"""An image while it is built: configuration, variables, layers; and what instructions without files do to it."""

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from millrace.images.instructions import (
    Argument,
    Command,
    Environment,
    Expose,
    Instruction,
    Label,
    Note,
    SetCommand,
    SetEntryPoint,
    SetShell,
    SetUser,
    StopSignal,
    Volume,
)
from millrace.images.recorded import check_port, check_signal
from millrace.images.substitution import BadWord, expand
from millrace.ports.images import ImageConfig, ImageStep

__all__ = ["BuildState", "apply"]

PREDEFINED = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
"""Build arguments that need no ARG, in capitals or small letters; they never count for the cache."""


@dataclass(kw_only=True)
class BuildState:
    """One stage, as far as it has come."""

    base: str
    config: ImageConfig
    escape: str = "\\"
    layers: list[str] = field(default_factory=list)
    steps: list[ImageStep] = field(default_factory=list)
    arguments: dict[str, str] = field(default_factory=dict)
    """ARGs declared so far that have a value."""
    has_own_command: bool = False
    """CMD was given here, and is not inherited."""

    def look_up(self, name: str) -> str | None:
        """Return a variable's value: ENV wins over ARG."""
        value = self.config.environment.get(name)
        return self.arguments.get(name) if value is None else value

    def expand(self, word: str) -> str:
        """Fill in the variables of a word. Raises BadWord."""
        return expand(word, self.look_up, escape=self.escape)

    def run_environment(self) -> dict[str, str]:
        """Return the variables that a RUN sees."""
        return {**self.arguments, **self.config.environment}

    def path(self, text: str) -> str:
        """Return a path with `WORKDIR` before it if it is relative; a slash at the end stays."""
        joined = posixpath.normpath(posixpath.join("/", self.config.working_directory or "/", text))
        joined = "/" + joined.lstrip("/")
        return f"{joined}/" if text.endswith(("/", "/.")) and joined != "/" else joined

    def words(self, command: Command) -> tuple[str, ...]:
        """Return a command's words, with the shell before a text for it."""
        return (*self.config.shell, command.words[0]) if command.is_shell else command.words


def apply(
    state: BuildState,
    instruction: Instruction,
    *,
    given: Mapping[str, str],
    before_from: Mapping[str, str],
) -> bool:
    """Carry out an instruction that changes no files; return False if it is none.

    Args:
        given: The builder's --build-arg values.
        before_from: Values of the ARGs before the first FROM, which a stage sees where it names them.

    Raises:
        BadWord: Its variables can't be filled in.
        BadRecord: A port or signal is none.
    """
    config = state.config
    match instruction:
        case Argument(pairs=pairs):
            for name, default in pairs:
                value = given.get(name)
                if value is None:
                    value = before_from.get(name) if default is None else state.expand(default)
                if value is not None:
                    state.arguments[name] = value
        case Environment(pairs=pairs):
            values = {state.expand(name): state.expand(value) for name, value in pairs}
            if "" in values or any("=" in name for name in values):
                raise BadWord(f"ENV: a variable's name must not be empty nor hold =, got {list(values)}")
            state.config = replace(config, environment={**config.environment, **values})
        case Label(pairs=pairs):
            labels = {state.expand(name): state.expand(value) for name, value in pairs}
            state.config = replace(config, labels={**config.labels, **labels})
        case Expose(ports=ports):
            exposed = [state.expand(port) for port in ports]
            for port in exposed:
                check_port(port)
            state.config = replace(config, exposed_ports=_added(config.exposed_ports, exposed))
        case Volume(paths=paths):
            state.config = replace(config, volumes=_added(config.volumes, [state.expand(path) for path in paths]))
        case StopSignal(signal=signal):
            stop_signal = state.expand(signal)
            check_signal(stop_signal)
            state.config = replace(config, stop_signal=stop_signal)
        case SetUser(user=user):
            state.config = replace(config, user=state.expand(user))
        case SetShell(words=words):
            state.config = replace(config, shell=words)
        case SetCommand(command=command):
            state.has_own_command = True
            state.config = replace(config, command=state.words(command))
        case SetEntryPoint(command=command):
            # "If CMD is defined from the base image, setting ENTRYPOINT will reset CMD to an empty value."
            kept = config.command if state.has_own_command else ()
            state.config = replace(config, entry_point=state.words(command), command=kept)
        case Note():
            pass
        case _:
            return False
    state.steps.append(ImageStep(text=instruction.text))
    return True


def _added(known: Sequence[str], new: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*known, *new]))
