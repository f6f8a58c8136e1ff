"""Read a Dockerfile into instructions; all problems are told at once, each with its line."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from millrace.images.checks import find_problem
from millrace.images.instructions import (
    Argument,
    Command,
    Copy,
    Dockerfile,
    Environment,
    Expose,
    From,
    Instruction,
    Label,
    Note,
    Run,
    SetCommand,
    SetEntryPoint,
    SetShell,
    SetUser,
    SetWorkingDirectory,
    Stage,
    StopSignal,
    Volume,
)
from millrace.images.lines import LogicalLine, logical_lines
from millrace.images.mounts import BadMount, parse_mount
from millrace.images.problems import DockerfileError, Problem
from millrace.images.substitution import BadWord, split_words

__all__ = ["parse_dockerfile"]

_FLAG = re.compile(r"--([a-z][a-z-]*)(?:=(\S*))?(?:\s+|$)")
_STAGE_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_.-]*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class _Refused(ValueError):
    """An instruction that can't be built; the message says why."""


@dataclass(frozen=True, slots=True)
class _Line:
    """One instruction, cut into keyword, flags and the rest."""

    number: int
    text: str
    flags: Mapping[str, str | None]
    mounts: tuple[str, ...]
    rest: str
    escape: str

    def facts(self) -> dict[str, object]:
        return {"line": self.number, "text": self.text}


def parse_dockerfile(text: str, *, file: str = "Dockerfile") -> Dockerfile:
    """Return a Dockerfile's stages.

    Raises:
        DockerfileError: Something in it is wrong or not supported; all such lines are named.

    Source:
        The Dockerfile reference.
    """
    cut = logical_lines(text)
    problems = list(cut.problems)
    before: list[Argument] = []
    stages: list[Stage] = []
    current: list[Instruction] = []
    base: From | None = None
    for line in cut.lines:
        try:
            instruction = _parse(line, cut.escape)
        except (_Refused, BadMount, BadWord) as exc:
            problems.append(Problem(line.number, str(exc)))
            continue
        problem = find_problem(instruction, escape=cut.escape)
        if problem is not None:
            problems.append(Problem(line.number, problem))
        if isinstance(instruction, From):
            if base is not None:
                stages.append(Stage(index=len(stages), base=base, instructions=tuple(current)))
            base, current = instruction, []
        elif base is not None:
            current.append(instruction)
        elif isinstance(instruction, Argument):
            before.append(instruction)
        elif not any(_is_from(problem, cut.lines) for problem in problems):
            problems.append(Problem(line.number, "the first instruction must be FROM; only ARG may stand before it"))
    if base is not None:
        stages.append(Stage(index=len(stages), base=base, instructions=tuple(current)))
    elif not problems:
        problems.append(Problem(1, "there is no FROM instruction"))
    problems += _find_stage_problems(stages)
    if problems:
        raise DockerfileError(file, problems)
    return Dockerfile(escape=cut.escape, arguments=tuple(before), stages=tuple(stages))


def _is_from(problem: Problem, lines: Sequence[LogicalLine]) -> bool:
    """Whether the problem is one of a FROM, which explains why what follows has no stage."""
    return any(line.number == problem.line and line.text[:5].upper() == "FROM " for line in lines)


def _find_stage_problems(stages: Sequence[Stage]) -> list[Problem]:
    found = []
    for stage in stages:
        if stage.name is not None and any(it.name == stage.name for it in stages[: stage.index]):
            found.append(Problem(stage.base.line, f"two stages are called {stage.name!r}"))
        for instruction in stage.instructions:
            named = (instruction.stage or "") if isinstance(instruction, Copy) else ""
            if re.fullmatch("[0-9]+", named) and named not in map(str, range(stage.index)):
                found.append(Problem(instruction.line, f"--from={named}: there is no earlier stage of that number"))
    return found


def _parse(line: LogicalLine, escape: str) -> Instruction:
    keyword, rest = [*line.text.split(None, 1), ""][:2]
    keyword = keyword.upper()
    if "\0" in line.text:
        raise _Refused(f"{keyword} holds a NUL character")
    known = _PARSERS.get(keyword)
    if known is None:
        if keyword in _REFUSED:
            raise _Refused(_REFUSED[keyword])
        raise _Refused(f"unknown instruction {keyword}; known are {', '.join(sorted([*_PARSERS, *_REFUSED]))}")
    allowed, parse = known
    flags, mounts, rest = _take_flags(keyword, rest.strip(), allowed)
    if not rest:
        raise _Refused(f"{keyword} needs an argument")
    return parse(_Line(line.number, line.text, flags, mounts, rest, escape))


def _take_flags(keyword: str, rest: str, allowed: Sequence[str]) -> tuple[dict[str, str | None], tuple[str, ...], str]:
    flags: dict[str, str | None] = {}
    mounts = []
    while rest.startswith("--"):
        match = _FLAG.match(rest)
        if match is None:
            raise _Refused(f"{keyword}: can't read the flag {rest.split()[0]!r}")
        name = match[1]
        if name not in allowed:
            hint = f": {_FLAG_HINTS[name]}" if name in _FLAG_HINTS else ""
            takes = f"; {keyword} takes {', '.join(f'--{it}' for it in allowed)}" if allowed else ""
            raise _Refused(f"{keyword} --{name} is not supported{hint}{takes}")
        flags[name] = match[2]
        if name == "mount":  # the one flag that is repeated
            mounts.append(match[2] or "")
        rest = rest[match.end() :]
    return flags, tuple(mounts), rest.strip()


def _from(line: _Line) -> From:
    words = line.rest.split()
    if len(words) not in (1, 3) or (len(words) == 3 and words[1].upper() != "AS"):
        raise _Refused(f"FROM must be `FROM image` or `FROM image AS name`, got {line.rest!r}")
    alias = words[2] if len(words) == 3 else None
    if alias is not None and not _STAGE_NAME.fullmatch(alias):
        raise _Refused(f"a stage's name must be a letter and letters, digits, _ . or -, got {alias!r}")
    return From(
        line=line.number,
        text=line.text,
        image=words[0],
        alias=None if alias is None else alias.lower(),
        platform=line.flags.get("platform"),
    )


def _argument(line: _Line) -> Argument:
    pairs: list[tuple[str, str | None]] = []
    for word in split_words(line.rest, escape=line.escape):
        name, separator, default = word.partition("=")
        if not _NAME.fullmatch(name):
            raise _Refused(f"ARG names must be letters, digits and _, not beginning with a digit, got {name!r}")
        pairs.append((name, default if separator else None))
    return Argument(line=line.number, text=line.text, pairs=tuple(pairs))


def _pairs(line: _Line, keyword: str) -> tuple[tuple[str, str], ...]:
    """Return `name=value` words, or the old form, where all that follows the first name is the value."""
    words = split_words(line.rest, escape=line.escape)
    if "=" not in words[0]:
        name, value = [*line.rest.split(None, 1), ""][:2]
        if not value.strip():
            raise _Refused(f"{keyword} must be name=value, got {line.rest!r}")
        return ((name, value.strip()),)
    pairs = []
    for word in words:
        name, separator, value = word.partition("=")
        if not separator or not name:
            raise _Refused(f"{keyword} must be name=value, got {word!r}")
        pairs.append((name, value))
    return tuple(pairs)


def _environment(line: _Line) -> Environment:
    return Environment(line=line.number, text=line.text, pairs=_pairs(line, "ENV"))


def _label(line: _Line) -> Label:
    return Label(line=line.number, text=line.text, pairs=_pairs(line, "LABEL"))


def _command(line: _Line) -> Command:
    words = _json_words(line.rest)
    if words is None:
        return Command((line.rest,), is_shell=True)
    return Command(words, is_shell=False)


def _json_words(text: str) -> tuple[str, ...] | None:
    """Return the words of an exec form; anything that is not quite one is a command for the shell, as Docker has it."""
    if not text.startswith("["):
        return None
    try:
        words = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        return None
    if any("\0" in word or re.search("[\ud800-\udfff]", word) for word in words):
        raise _Refused(f"no program can be given NUL or half a character, got {text!r}")
    return tuple(words)


def _run(line: _Line) -> Run:
    command = _command(line)
    if not command.words:
        raise _Refused("RUN needs a command, got []")
    folders = tuple(map(parse_mount, line.mounts))
    return Run(line=line.number, text=line.text, command=command, empty_folders=folders)


def _cmd(line: _Line) -> SetCommand:
    return SetCommand(line=line.number, text=line.text, command=_command(line))


def _entry_point(line: _Line) -> SetEntryPoint:
    return SetEntryPoint(line=line.number, text=line.text, command=_command(line))


def _shell(line: _Line) -> SetShell:
    words = _json_words(line.rest)
    if not words:
        raise _Refused(f'SHELL must be a JSON list such as ["/bin/bash", "-c"], got {line.rest!r}')
    return SetShell(line=line.number, text=line.text, words=words)


def _copying(keyword: str) -> Callable[[_Line], Copy]:
    def copy(line: _Line) -> Copy:
        if line.flags.get("link") not in (None, "true", "false"):  # it changes only how other builders keep layers
            raise _Refused(f"{keyword} --link must be true or false, got {line.flags['link']!r}")
        words = _json_words(line.rest) or tuple(split_words(line.rest, escape=line.escape))
        if len(words) < 2:
            raise _Refused(f"{keyword} needs at least one source and a destination, got {line.rest!r}")
        if keyword == "ADD":
            for word in words[:-1]:
                if re.match(r"(?:https?|ftp|git|ssh)://|git@", word):
                    raise _Refused(f"ADD of a URL is not supported: fetch {word} in a RUN instruction, or beforehand")
        return Copy(
            line=line.number,
            text=line.text,
            sources=words[:-1],
            destination=words[-1],
            stage=line.flags.get("from"),
            owner=line.flags.get("chown"),
            mode=line.flags.get("chmod"),
            unpacks=keyword == "ADD",
        )

    return copy


def _working_directory(line: _Line) -> SetWorkingDirectory:
    return SetWorkingDirectory(line=line.number, text=line.text, path=line.rest)


def _user(line: _Line) -> SetUser:
    return SetUser(line=line.number, text=line.text, user=line.rest)


def _expose(line: _Line) -> Expose:
    return Expose(line=line.number, text=line.text, ports=tuple(split_words(line.rest, escape=line.escape)))


def _volume(line: _Line) -> Volume:
    words = _json_words(line.rest) or tuple(split_words(line.rest, escape=line.escape))
    return Volume(line=line.number, text=line.text, paths=words)


def _stop_signal(line: _Line) -> StopSignal:
    return StopSignal(line=line.number, text=line.text, signal=line.rest)


def _note(keyword: str) -> Callable[[_Line], Note]:
    return lambda line: Note(line=line.number, text=line.text, keyword=keyword, value=line.rest)


_PARSERS: Mapping[str, tuple[tuple[str, ...], Callable[[_Line], Instruction]]] = {
    "FROM": (("platform",), _from),
    "ARG": ((), _argument),
    "ENV": ((), _environment),
    "LABEL": ((), _label),
    "RUN": (("mount",), _run),
    "CMD": ((), _cmd),
    "ENTRYPOINT": ((), _entry_point),
    "SHELL": ((), _shell),
    "COPY": (("from", "chown", "chmod", "link"), _copying("COPY")),
    "ADD": (("chown", "chmod", "link"), _copying("ADD")),
    "WORKDIR": ((), _working_directory),
    "USER": ((), _user),
    "EXPOSE": ((), _expose),
    "VOLUME": ((), _volume),
    "STOPSIGNAL": ((), _stop_signal),
    "HEALTHCHECK": (("interval", "timeout", "start-period", "start-interval", "retries"), _note("HEALTHCHECK")),
    "MAINTAINER": ((), _note("MAINTAINER")),
}

_REFUSED = {"ONBUILD": "ONBUILD is not supported: write the instruction into the Dockerfiles that build on this image"}

_FLAG_HINTS = {
    "parents": "name the folders in the destination",
    "network": "builds have the machine's network",
    "security": "builds run without privileges",
}
