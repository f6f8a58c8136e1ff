"""Amazon ECR over the image store: repositories, tags and digests of what `millrace image build` made.

There is no registry behind it that `docker push` could reach: images come by `millrace image build`.
"""

from collections.abc import Mapping

from millrace.ports.documents import DocumentStore
from millrace.ports.images import ImageStore
from millrace.protocol.message import Handler
from millrace.services.ecr.images import ImageHandlers
from millrace.services.ecr.repositories import Repositories, RepositoryHandlers
from millrace.services.ecr.settings import SettingHandlers

__all__ = ["handlers"]


def handlers(*, documents: DocumentStore, images: ImageStore, account: str) -> Mapping[str, Handler]:
    """Return the service's handlers by operation."""
    repositories = Repositories(documents, images, account=account)
    return {
        **RepositoryHandlers(repositories).table(),
        **ImageHandlers(repositories, images).table(),
        **SettingHandlers(repositories).table(),
    }
