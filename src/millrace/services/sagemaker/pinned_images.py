"""Have containers run the image that a tag stands for now, whatever it stands for later."""

from dataclasses import replace

from millrace.jobs.endpoint import ModelContainer
from millrace.ports.runtime import Image

__all__ = ["pinned"]


def pinned(container: ModelContainer, image: Image) -> ModelContainer:
    """Return a container with its image by digest, if that has one.

    Source:
        containers.md 10.1: tags are resolved when the endpoint is created, and kept for scale-out.
    """
    if image.digest is None:
        return container
    path, slash, last = container.image.partition("@")[0].rpartition("/")
    return replace(container, resolved_image=f"{path}{slash}{last.partition(':')[0]}@{image.digest}")
