"""What can be known of instructions before any of them runs. Pure, and without what the store holds."""

from collections.abc import Iterator, Sequence

from millrace.images.instructions import (
    Argument,
    Copy,
    Environment,
    Expose,
    From,
    Instruction,
    Label,
    SetUser,
    SetWorkingDirectory,
    StopSignal,
    Volume,
)
from millrace.images.recorded import BadRecord, check_port, check_signal
from millrace.images.substitution import BadWord, expand

__all__ = ["find_problem", "is_folder_name"]


def find_problem(instruction: Instruction, *, escape: str) -> str | None:
    """Return what makes an instruction fail whatever its variables are worth, or None."""
    try:
        for word in _expanded_words(instruction):
            expand(word, _anything, escape=escape)
        return _find_in_fixed_words(instruction, escape)
    except (BadRecord, BadWord) as exc:
        return str(exc)


def is_folder_name(destination: str) -> bool:
    """Whether COPY takes a destination for a folder by its text alone."""
    return destination.endswith(("/", "/.")) or destination in (".", "..")


def _anything(_: str) -> str:
    """Be the value of each variable: so `${x:?}` finds one, and what is wrong with a word is its form."""
    return "x"


def _expanded_words(instruction: Instruction) -> Iterator[str]:
    match instruction:
        case From(image=image, platform=platform):
            yield from _given(image, platform)
        case Argument(pairs=pairs):
            yield from _given(*(default for _, default in pairs))
        case Environment(pairs=values) | Label(pairs=values):
            for pair in values:
                yield from pair
        case Copy(sources=sources, destination=destination, stage=stage, owner=owner, mode=mode):
            yield from _given(*sources, destination, stage, owner, mode)
        case Expose(ports=words) | Volume(paths=words):
            yield from words
        case SetWorkingDirectory(path=word) | SetUser(user=word) | StopSignal(signal=word):
            yield word
        case _:
            pass


def _given(*words: str | None) -> Sequence[str]:
    return [word for word in words if word is not None]


def _find_in_fixed_words(instruction: Instruction, escape: str) -> str | None:
    """Check what has no variables."""
    match instruction:
        case Copy(sources=sources, destination=destination) if len(sources) > 1 and "$" not in destination:
            plain = expand(destination, _anything, escape=escape)
            if not is_folder_name(plain):
                return f"several sources need a destination that ends in /, got {plain}"
        case Copy(stage=""):
            return "--from needs the name of a stage or image"
        case Expose(ports=ports):
            for port in ports:
                if "$" not in port:
                    check_port(expand(port, _anything, escape=escape))
        case StopSignal(signal=signal) if "$" not in signal:
            check_signal(expand(signal, _anything, escape=escape))
        case _:
            pass
    return None
