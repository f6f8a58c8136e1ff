"""Runtime: containers, whatever isolates them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

__all__ = [
    "Address",
    "Container",
    "ContainerSpec",
    "ExitStatus",
    "Image",
    "ImageCatalog",
    "RootFilesystem",
    "Runtime",
    "RuntimeReport",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class RootFilesystem:
    """What a brought image puts on top of the machine's own root: read-only layer folders, lowest first.

    A layer is a folder as overlayfs has it: a removed file is a character device 0/0 (or an empty file with the
    attribute `user.overlay.whiteout` in a folder marked `user.overlay.opaque=x`), a folder that hides those below it is
    marked `user.overlay.opaque=y`. It is always mounted with `userxattr`, so that layers made by root and by other
    users are alike. Layers must not change while a container runs.
    """

    layers: Sequence[Path]


@dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """A resolved image: what to run when a container of it starts.

    A *host image* is a command on this machine's own interpreter; `honours_base_dir` says that its program takes
    SAGEMAKER_BASE_DIR and SAGEMAKER_BIND_TO_PORT as the contract's `process` runtime needs. A *brought image* has a
    root file system of its own.
    """

    uri: str
    name: str
    command: Sequence[str]
    """Entry point: what every command line of a container begins with; may be empty."""
    environment: Mapping[str, str] = field(default_factory=dict)
    root: RootFilesystem | None = None
    """None for host images."""
    default_arguments: Sequence[str] = ()
    """What follows the entry point where the platform says nothing (CMD)."""
    working_directory: str | None = None
    user: str | None = None
    """Name or number, with or without `:group`; None is root."""
    labels: Mapping[str, str] = field(default_factory=dict)
    digest: str | None = None
    built_in: str | None = None
    """Name of the built-in algorithm, such as "pca"; None for images that users brought."""
    honours_base_dir: bool = True
    single_host: bool = False
    """One container reads the shards of all hosts; built-in algorithms do."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a container's HTTP server listens: a Unix socket's path, or host and port.

    With `handed` nobody can connect there from here, for it is another network: each connection to the Unix socket of
    that path is answered with the descriptor of a socket that is connected to the server.
    """

    host: str = "127.0.0.1"
    port: int = 0
    path: str | None = None
    handed: str | None = None

    def __str__(self) -> str:
        if self.handed is not None:
            return f"handed:{self.handed}"
        return f"unix:{self.path}" if self.path else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Parse what str() prints."""
        if text.startswith("unix:"):
            return cls(path=text[5:])
        if text.startswith("handed:"):
            return cls(handed=text[7:])
        host, _, port = text.rpartition(":")
        return cls(host=host, port=int(port))


@dataclass(frozen=True, kw_only=True, slots=True)
class ContainerSpec:
    """One container to start."""

    name: str
    image: Image
    command: Sequence[str]
    """Entry point and arguments, complete."""
    environment: Mapping[str, str]
    opt_ml: Path
    """Folder on the host that the container sees as /opt/ml."""
    serves: bool = False
    """The program listens for HTTP; the runtime gives it a port of its own."""
    address: Address | None = None
    """Of a container with the same folder that has ended, and whose place this one takes; any will do if None."""
    host_name: str | None = None
    """The container's own host name, such as "algo-1"."""
    hosts: Sequence[str] = ()
    """Names that must resolve in the container, in the order of their addresses; its own is one of them."""
    network: Path | None = None
    """Folder on the host that all containers of one job share: those that name it share a network."""
    network_isolation: bool = False
    """Neither the platform's API nor anything outside can be reached."""
    read_only: Sequence[str] = ()
    """Paths below /opt/ml, relative to it, that the container may only read."""
    mounts: Mapping[str, Path] = field(default_factory=dict)
    """Further folders of the host, by the path at which the container sees them."""
    on_line: Callable[[int, str], None]
    """Called with epoch milliseconds and each line of stdout and stderr, in order of arrival."""


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a container ended; `code` is 128 + signal for one that a signal killed.

    `limit` tells which limit of the platform it was killed for, if it was.
    """

    code: int
    limit: str | None = None

    @property
    def ok(self) -> bool:
        return self.code == 0

    def __str__(self) -> str:
        if self.limit is not None:
            return f"status {self.code} (killed: {self.limit})"
        return f"status {self.code}" + (" (killed)" if self.code == 137 else "")


class Container(Protocol):
    """A started container."""

    @property
    def address(self) -> Address | None:
        """Where it serves; None if it was not asked to."""
        ...

    @property
    def process_id(self) -> int:
        """Process id of its first process, as the host sees it."""
        ...

    async def wait(self) -> ExitStatus:
        """Return once it has ended, all lines delivered; may be called by several tasks."""
        ...

    async def stop(self, grace_seconds: float) -> ExitStatus:
        """Send SIGTERM, after the grace SIGKILL, to all of its processes; return once it has ended.

        One that is cancelled sends SIGKILL at once.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class RuntimeReport:
    """What `millrace doctor` tells about a runtime."""

    name: str
    works: bool
    detail: str


class Runtime(Protocol):
    """Starts containers. A container ends with the process that launched it, even if that one is killed."""

    @property
    def name(self) -> str: ...

    async def launch(self, spec: ContainerSpec) -> Container:
        """Start a container; raises RuntimeUnavailable or ImageUnavailable."""
        ...

    async def end_left_over(self, folder: Path) -> None:
        """End what containers of an earlier launcher, killed or hung, still run in a folder or below.

        To be awaited before their folder is cleared and used again.
        """
        ...

    async def probe(self) -> RuntimeReport:
        """Try whether this runtime works here."""
        ...


class ImageCatalog(Protocol):
    """Finds the image behind a URI."""

    def resolve(self, uri: str) -> Image:
        """Return the image; raises ImageUnavailable, whose text says what would help."""
        ...
