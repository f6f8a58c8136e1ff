"""One runtime out of two: host images run as processes, brought images in the sandbox."""

from enum import Enum
from pathlib import Path

from millrace.errors import ImageUnavailable, RuntimeUnavailable
from millrace.ports.runtime import Container, ContainerSpec, Image, ImageCatalog, RuntimeReport
from millrace.runtimes.process import ProcessRuntime
from millrace.runtimes.sandbox import SandboxRuntime
from millrace.runtimes.sandbox_probe import probe_sandbox

__all__ = ["ChosenRuntime", "RunnableImages", "RuntimeChoice"]


class RuntimeChoice(Enum):
    """Which images run, and how (MILLRACE_RUNTIME)."""

    AUTO = "auto"
    """Brought images in the sandbox, host images as processes."""
    SANDBOX = "sandbox"
    """As auto, but nothing that a request names runs without isolation: of host images only built-in programs."""
    PROCESS = "process"
    """Host images only."""


class ChosenRuntime:
    """Starts each container in the runtime that its image needs."""

    def __init__(self, choice: RuntimeChoice, *, process: ProcessRuntime, sandbox: SandboxRuntime) -> None:
        self._choice = choice
        self._process = process
        self._sandbox = sandbox

    @property
    def name(self) -> str:
        return self._choice.value

    async def launch(self, spec: ContainerSpec) -> Container:
        problem = find_refusal(self._choice, spec.image)
        if problem is not None:
            raise RuntimeUnavailable(problem)
        if spec.image.root is not None:
            return await self._sandbox.launch(spec)
        own = spec.command[: len(spec.image.command)]
        if self._choice is RuntimeChoice.SANDBOX and tuple(own) != tuple(spec.image.command):
            raise RuntimeUnavailable(
                f"image {spec.image.uri} is a program of this machine, and MILLRACE_RUNTIME=sandbox lets no other "
                f"command run in its place; got {spec.command[0]!r}"
            )
        return await self._process.launch(spec)

    async def end_left_over(self, folder: Path) -> None:
        await self._process.end_left_over(folder)  # sandboxes leave the same notes

    async def probe(self) -> RuntimeReport:
        return await self._sandbox.probe() if self._choice is not RuntimeChoice.PROCESS else await self._process.probe()


class RunnableImages:
    """An image catalog that refuses images which nothing here can run, before a job is created with them."""

    def __init__(self, images: ImageCatalog, choice: RuntimeChoice, cache: Path) -> None:
        """Take the catalog of all images, and the folder in which the sandbox is tried."""
        self._images = images
        self._choice = choice
        self._cache = cache

    def resolve(self, uri: str) -> Image:
        image = self._images.resolve(uri)
        problem = find_refusal(self._choice, image)
        if problem is None and image.root is not None:
            finding = probe_sandbox(self._cache)
            if not finding.works:
                problem = f"image {uri} needs the sandbox, which does not work here: {finding.detail}"
        if problem is not None:
            raise ImageUnavailable(problem)
        return image


def find_refusal(choice: RuntimeChoice, image: Image) -> str | None:
    """Return why a setting forbids an image, or None if it does not."""
    if choice is RuntimeChoice.PROCESS and image.root is not None:
        return (
            f"image {image.uri} has a root file system of its own and needs the sandbox, which "
            "MILLRACE_RUNTIME=process switches off; set it to auto"
        )
    if choice is RuntimeChoice.SANDBOX and image.root is None and image.built_in is None:
        return (
            f"image {image.uri} is a command of this machine, which MILLRACE_RUNTIME=sandbox does not run; build it "
            "with `millrace image build`, or set MILLRACE_RUNTIME=auto"
        )
    return None
