"""What is wrong with a Dockerfile, by line."""

from collections.abc import Iterable
from dataclasses import dataclass

from millrace.errors import MillraceError, UsageError

__all__ = ["BuildFailed", "DockerfileError", "Problem", "StepFailed"]


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake, or one thing that is not supported, and the line where its instruction begins."""

    line: int
    message: str


class DockerfileError(UsageError):
    """A Dockerfile can't be built; the message lists all problems found, each with its line."""

    def __init__(self, file: str, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(f"{file}:{it.line}: {it.message}" for it in self.problems))


class BuildFailed(MillraceError):
    """An instruction failed; the message names file and line."""


class StepFailed(ValueError):
    """An instruction can't be carried out; the message says why, and the builder adds where."""
