"""What a processing job was asked to do, with every default filled in, and how it ended."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from millrace.errors import ClientFailure
from millrace.jobs.channel import Channel
from millrace.jobs.hosts import InstanceGroup, host_names
from millrace.names import ObjectPrefix

__all__ = [
    "EXIT_MESSAGE_BYTES",
    "PROCESSING_ROOT",
    "ProcessingInput",
    "ProcessingOutcome",
    "ProcessingOutput",
    "ProcessingSpec",
    "UploadMode",
    "exit_message",
    "last_lines",
]

PROCESSING_ROOT = "/opt/ml/processing/"
"""Inputs and outputs lie below it."""

EXIT_MESSAGE_BYTES = 1024
MAX_LOG_LINES = 3
"""How many of the last log lines a FailureReason quotes."""


class UploadMode(StrEnum):
    """When an output is stored."""

    END_OF_JOB = "EndOfJob"
    CONTINUOUS = "Continuous"


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessingInput:
    """Objects that are brought to the containers: a channel, and its folder relative to PROCESSING_ROOT."""

    channel: Channel
    folder: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessingOutput:
    """A folder, relative to PROCESSING_ROOT, whose files are stored below a prefix."""

    name: str
    folder: str
    target: ObjectPrefix
    mode: UploadMode = UploadMode.END_OF_JOB


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessingSpec:
    """What the client asked for; inputs and outputs that the application manages itself are not in it."""

    image: str
    group: InstanceGroup
    role: str = ""
    entrypoint: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    inputs: tuple[ProcessingInput, ...] = ()
    outputs: tuple[ProcessingOutput, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    network_isolation: bool = False
    max_runtime_seconds: int = 86_400

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names of all hosts, algo-1 first."""
        return host_names((self.group,))


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessingOutcome:
    """How a processing job's containers ended. `failure_reason` is the whole FailureReason, or None."""

    failure_reason: str | None = None
    stopped: bool = False
    exit_message: str | None = None


def exit_message(said: Mapping[str, bytes]) -> str | None:
    """Return the ExitMessage out of what each host left in /opt/ml/output/message, None if nothing.

    Args:
        said: The first bytes of the file by host, EXIT_MESSAGE_BYTES or more if there are as many.

    Raises:
        ClientFailure: A message is no UTF-8.

    Source:
        containers.md 4.5: the first KB; those of several hosts follow each other and are cut to one KB.
    """
    texts = []
    room = EXIT_MESSAGE_BYTES
    for host, content in said.items():
        text = _decode(host, content)
        texts.append(_cut(text, room))
        room -= len(texts[-1].encode())
    return "".join(texts) or None


def last_lines(tail: Sequence[str]) -> str:
    """Return the text of a FailureReason for a container that said what is wrong in its log only."""
    text = "See job logs for more information"
    lines = " | ".join(list(tail)[-MAX_LOG_LINES:])
    return f"{text}; the last lines are: {lines}" if lines else text


def _decode(host: str, content: bytes) -> str:
    whole = len(content) < EXIT_MESSAGE_BYTES
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as exc:
        if not whole and exc.start >= len(content) - 3 and exc.reason == "unexpected end of data":
            return content[: exc.start].decode("utf-8")  # the cut went through a character
        raise ClientFailure(
            f"/opt/ml/output/message of {host} must be UTF-8, got byte 0x{content[exc.start]:02x} at {exc.start}"
        ) from None


def _cut(text: str, room: int) -> str:
    """Return as many characters as fit into a number of bytes."""
    return text.encode()[:room].decode("utf-8", "ignore")
