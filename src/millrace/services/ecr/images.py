"""Tell of images by tag and digest, and take tags away."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from millrace.ports.images import BadImageName, ImageName, ImageStore, TaggedImage
from millrace.protocol.message import Context, Handler, Params, Result
from millrace.services.ecr.faults import ImageNotFound
from millrace.services.ecr.pages import cut_page
from millrace.services.ecr.repositories import Repositories

__all__ = ["ImageHandlers"]

MEDIA_TYPE = "application/vnd.millrace.image.v1+json"
"""What an image's manifest is here: no registry's form, because its lowest layer is this machine."""


class ImageHandlers:
    """The operations on images."""

    def __init__(self, repositories: Repositories, images: ImageStore) -> None:
        self._repositories = repositories
        self._images = images

    def table(self) -> Mapping[str, Handler]:
        """Return the handlers by operation."""
        return {
            "BatchDeleteImage": self.delete,
            "BatchGetImage": self.get,
            "DescribeImages": self.describe,
            "ListImages": self.list,
        }

    async def list(self, ctx: Context, params: Params) -> Result:
        """Tell the tags of a repository and their digests."""
        await self._repositories.find(ctx.region, params)
        tags = self._tags(params)
        page, token = cut_page(tags, params, key=lambda it: it.tag)
        return {"imageIds": [{"imageTag": it.tag, "imageDigest": it.digest} for it in page], "nextToken": token}

    async def describe(self, ctx: Context, params: Params) -> Result:
        """Tell of the images asked for, or of all: size, tags, times."""
        await self._repositories.find(ctx.region, params)
        tags = self._tags(params)
        wanted = params.get("imageIds")
        if wanted:
            digests = []
            for image in wanted:
                digest = self._find(params["repositoryName"], image)
                if digest is None:
                    raise ImageNotFound(
                        f"The image with imageId {_shown(image)} does not exist within the repository with name "
                        f"'{params['repositoryName']}' in the registry with id '{self._repositories.account}'"
                    )
                digests.append(digest)
        else:
            digests = [it.digest for it in tags]
        page, token = cut_page(sorted(set(digests)), params, key=str)
        return {
            "imageDetails": [self._described(params["repositoryName"], it, tags) for it in page],
            "nextToken": token,
        }

    async def get(self, ctx: Context, params: Params) -> Result:
        """Tell the manifests of images."""
        await self._repositories.find(ctx.region, params)
        repository = params["repositoryName"]
        found, failures = [], []
        for image in params["imageIds"]:
            digest = self._find(repository, image)
            manifest = None if digest is None else self._images.find(ImageName(repository=repository, digest=digest))
            if manifest is None:
                failures.append(_failure(image))
                continue
            facts = asdict(manifest)
            facts["created_at"] = manifest.created_at.isoformat()
            found.append(
                {
                    "registryId": self._repositories.account,
                    "repositoryName": repository,
                    "imageId": {**image, "imageDigest": manifest.digest},
                    "imageManifest": json.dumps(facts),
                    "imageManifestMediaType": MEDIA_TYPE,
                }
            )
        return {"images": found, "failures": failures}

    async def delete(self, ctx: Context, params: Params) -> Result:
        """Take tags away, or with a digest all tags of an image. What runs goes on: layers go by `millrace gc`."""
        await self._repositories.find(ctx.region, params)
        repository = params["repositoryName"]
        gone, failures = [], []
        for image in params["imageIds"]:
            digest = self._find(repository, image)
            if digest is None:
                failures.append(_failure(image))
                continue
            tag = image.get("imageTag")
            name = ImageName(repository=repository, tag=tag) if tag else ImageName(repository=repository, digest=digest)
            self._images.untag(name)
            gone.append({**image, "imageDigest": digest})
        return {"imageIds": gone, "failures": failures}

    def _tags(self, params: Params) -> Sequence[TaggedImage]:
        if (params.get("filter") or {}).get("tagStatus") == "UNTAGGED":
            return ()  # an image without a tag is in no repository
        return self._images.list_tags(params["repositoryName"])

    def _find(self, repository: str, image: Mapping[str, str]) -> str | None:
        """Return the digest that an image id means in a repository, or None."""
        tag, digest = image.get("imageTag"), image.get("imageDigest")
        for tagged in self._images.list_tags(repository):
            if (tag is None or tagged.tag == tag) and (digest is None or tagged.digest == digest):
                return tagged.digest if tag or digest else None
        return None

    def _described(self, repository: str, digest: str, tags: Sequence[TaggedImage]) -> dict[str, Any]:
        own = [it for it in tags if it.digest == digest]
        try:
            manifest = self._images.find(ImageName(repository=repository, digest=digest))
        except BadImageName:
            manifest = None
        return {
            "registryId": self._repositories.account,
            "repositoryName": repository,
            "imageDigest": digest,
            "imageTags": [it.tag for it in own],
            "imageSizeInBytes": 0 if manifest is None else manifest.size,
            "imagePushedAt": max(it.pushed_at for it in own) if own else None,
            "imageManifestMediaType": MEDIA_TYPE,
        }


def _failure(image: Mapping[str, str]) -> dict[str, Any]:
    if not image.get("imageTag") and not image.get("imageDigest"):
        return {
            "imageId": image,
            "failureCode": "MissingDigestAndTag",
            "failureReason": "Invalid request parameters: both tag and digest cannot be null",
        }
    return {"imageId": image, "failureCode": "ImageNotFound", "failureReason": "Requested image not found"}


def _shown(image: Mapping[str, str]) -> str:
    digest, tag = (f"'{image[key]}'" if image.get(key) else "'null'" for key in ("imageDigest", "imageTag"))
    return f"{{imageDigest:{digest}, imageTag:{tag}}}"
