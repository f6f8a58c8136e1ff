"""Make, find and delete repositories. One that only holds images that somebody built is there too."""

import secrets
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from millrace.ports.documents import DocumentExists, DocumentStore, NoSuchDocument
from millrace.ports.images import ImageName, ImageStore, TaggedImage
from millrace.protocol.message import Context, Handler, Params, Result
from millrace.services.ecr.faults import (
    InvalidParameter,
    RepositoryExists,
    RepositoryNotEmpty,
    RepositoryNotFound,
)
from millrace.services.ecr.pages import cut_page

__all__ = ["Repositories", "RepositoryHandlers"]

KIND = "ecr-repository"
TOKEN_HOURS = 12


class Repositories:
    """What is known of repositories: documents of those that were made, tags of those that images were built for."""

    def __init__(self, documents: DocumentStore, images: ImageStore, *, account: str) -> None:
        self.documents = documents
        self.images = images
        self.account = account

    async def find(self, region: str, params: Params) -> Mapping[str, Any]:
        """Return the facts of the repository that a request names.

        Raises:
            RepositoryNotFound: There is none, or another registry than ours is named.
        """
        name = params["repositoryName"]
        registry = params.get("registryId") or self.account
        document = await self.documents.find(KIND, region, name) if registry == self.account else None
        if document is not None:
            return document.content
        tags = self.images.list_tags(name) if registry == self.account else ()
        if not tags:
            raise RepositoryNotFound(
                f"The repository with name '{name}' does not exist in the registry with id '{registry}'"
            )
        return _facts_of_built(name, tags)

    async def list(self, region: str) -> Sequence[Mapping[str, Any]]:
        """Return the facts of all repositories, by name."""
        built: dict[str, list[TaggedImage]] = {}
        for tagged in self.images.list_tags():
            built.setdefault(tagged.repository, []).append(tagged)
        found = {name: _facts_of_built(name, tags) for name, tags in built.items()}
        found.update({it.name: it.content for it in await self.documents.list(KIND, region)})
        return [found[name] for name in sorted(found)]

    async def change(
        self, region: str, params: Params, change: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    ) -> Mapping[str, Any]:
        """Store what `change` makes of a repository's facts, and return that. Raises RepositoryNotFound."""
        known = await self.find(region, params)
        name = params["repositoryName"]
        document = await self.documents.change(KIND, region, name, lambda content: change(content or known))
        return document.content

    def arn(self, region: str, name: str) -> str:
        """Return a repository's ARN."""
        return f"arn:aws:ecr:{region}:{self.account}:repository/{name}"

    def described(self, region: str, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return a repository as the API tells it."""
        name = facts["name"]
        return {
            "repositoryArn": self.arn(region, name),
            "registryId": self.account,
            "repositoryName": name,
            "repositoryUri": f"{self.account}.dkr.ecr.{region}.amazonaws.com/{name}",
            "createdAt": datetime.fromtimestamp(facts["created_at"], UTC),
            "imageTagMutability": facts.get("tag_mutability", "MUTABLE"),
            "imageScanningConfiguration": {"scanOnPush": facts.get("scan_on_push", False)},
            "encryptionConfiguration": facts.get("encryption") or {"encryptionType": "AES256"},
        }


def _facts_of_built(name: str, tags: Sequence[TaggedImage]) -> Mapping[str, Any]:
    return {"name": name, "created_at": min(it.pushed_at for it in tags).timestamp()}


class RepositoryHandlers:
    """The operations on repositories as a whole."""

    def __init__(self, repositories: Repositories) -> None:
        self._repositories = repositories

    def table(self) -> Mapping[str, Handler]:
        """Return the handlers by operation."""
        return {
            "CreateRepository": self.create,
            "DeleteRepository": self.delete,
            "DescribeRepositories": self.describe,
            "DescribeRegistry": self.describe_registry,
            "GetAuthorizationToken": self.authorize,
        }

    async def create(self, ctx: Context, params: Params) -> Result:
        """Make a repository."""
        name = params["repositoryName"]
        repositories = self._repositories
        facts = {
            "name": name,
            "created_at": datetime.now(UTC).timestamp(),
            "tag_mutability": params.get("imageTagMutability", "MUTABLE"),
            "scan_on_push": bool((params.get("imageScanningConfiguration") or {}).get("scanOnPush")),
            "encryption": params.get("encryptionConfiguration"),
            "tags": {tag["Key"]: tag.get("Value", "") for tag in params.get("tags") or ()},
        }
        try:
            document = await repositories.documents.put(KIND, ctx.region, name, facts, create=True)
        except DocumentExists:
            raise RepositoryExists(
                f"The repository with name '{name}' already exists in the registry with id '{repositories.account}'"
            ) from None
        return {"repository": repositories.described(ctx.region, document.content)}

    async def describe(self, ctx: Context, params: Params) -> Result:
        """Tell of the named repositories, or of all."""
        repositories = self._repositories
        names = params.get("repositoryNames")
        if names:
            if params.get("nextToken") or params.get("maxResults"):
                raise InvalidParameter("maxResults and nextToken can't be given together with repositoryNames")
            found = [await repositories.find(ctx.region, {**params, "repositoryName": name}) for name in names]
            return {"repositories": [repositories.described(ctx.region, facts) for facts in found]}
        listed = await repositories.list(ctx.region)
        page, token = cut_page(listed, params, key=lambda facts: str(facts["name"]))
        return {"repositories": [repositories.described(ctx.region, facts) for facts in page], "nextToken": token}

    async def delete(self, ctx: Context, params: Params) -> Result:
        """Delete a repository; with `force` its images too."""
        name = params["repositoryName"]
        repositories = self._repositories
        facts = await repositories.find(ctx.region, params)
        tags = repositories.images.list_tags(name)
        if tags and not params.get("force"):
            raise RepositoryNotEmpty(
                f"The repository with name '{name}' in registry with id '{repositories.account}' cannot be deleted "
                "because it still contains images"
            )
        for tagged in tags:
            repositories.images.untag(ImageName(repository=name, tag=tagged.tag))
        with suppress(NoSuchDocument):  # it was only there by its images
            await repositories.documents.delete(KIND, ctx.region, name)
        return {"repository": repositories.described(ctx.region, facts)}

    async def describe_registry(self, ctx: Context, params: Params) -> Result:
        """Tell of the one registry."""
        return {"registryId": self._repositories.account, "replicationConfiguration": {"rules": []}}

    async def authorize(self, ctx: Context, params: Params) -> Result:
        """Return a password for `docker login`.

        It opens nothing: no registry listens for it. Scripts that build with `millrace image build` ask for one.
        """
        password = secrets.token_urlsafe(32)
        return {
            "authorizationData": [
                {
                    "authorizationToken": b64encode(f"AWS:{password}".encode()).decode(),
                    "expiresAt": datetime.now(UTC) + timedelta(hours=TOKEN_HOURS),
                    "proxyEndpoint": f"https://{self._repositories.account}.dkr.ecr.{ctx.region}.amazonaws.com",
                }
            ]
        }
