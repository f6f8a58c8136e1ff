"""Put together what finds and runs containers, for servers, agents and commands alike."""

from collections.abc import Mapping

from millrace.built_in_images import find_built_in
from millrace.ports.runtime import ImageCatalog
from millrace.runtimes.choice import ChosenRuntime, RunnableImages, RuntimeChoice
from millrace.runtimes.images import HOST_IMAGES_FILE, HostImages
from millrace.runtimes.process import ProcessRuntime
from millrace.runtimes.sandbox import SandboxRuntime
from millrace.runtimes.sandbox_limits import SandboxLimits
from millrace.runtimes.sandbox_network import Egress
from millrace.settings import Settings
from millrace.store.image_files import ImageFiles

__all__ = ["all_images", "container_runtime", "runnable_images"]


def all_images(settings: Settings, *, holds: bool = False) -> ImageCatalog:
    """Return the catalog of all images that a data directory has.

    Args:
        holds: Whether this process runs what it resolves: brought images then stay whole until it ends.
    """
    return HostImages(
        settings.data_dir / HOST_IMAGES_FILE,
        find_built_in=find_built_in,
        brought=ImageFiles(settings.images_dir),
        holds=holds,
    )


def runnable_images(settings: Settings, *, holds: bool = False) -> RunnableImages:
    """Return the same catalog, which refuses what can't run here: for those who promise to run it, mostly later."""
    return RunnableImages(all_images(settings, holds=holds), RuntimeChoice(settings.runtime), settings.sandbox_dir)


def container_runtime(
    settings: Settings, environ: Mapping[str, str], *, platform_url: str | None = None
) -> ChosenRuntime:
    """Return what runs containers.

    Args:
        environ: From this, host images are handed PATH and its like.
        platform_url: The platform's API as this machine reaches it; None where there is none.
    """
    sandbox = SandboxRuntime(
        settings.sandbox_dir,
        platform_url=platform_url,
        egress=Egress(settings.sandbox_egress),
        limits=SandboxLimits(
            memory_bytes=settings.container_memory_bytes or None, processes=settings.container_processes or None
        ),
    )
    return ChosenRuntime(RuntimeChoice(settings.runtime), process=ProcessRuntime(environ), sandbox=sandbox)
