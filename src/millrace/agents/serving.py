"""Start a model's container and wait until it is healthy; what transform jobs and endpoints have in common."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from millrace.agents.archives import unpack
from millrace.agents.backends import AgentBackends
from millrace.agents.log_stream import LogStream
from millrace.agents.objects import download, iter_objects
from millrace.agents.placement import Placement
from millrace.errors import AlgorithmFailure, ClientFailure, ImageUnavailable, RuntimeUnavailable
from millrace.folder_removal import remove_folder
from millrace.jobs.endpoint import ModelContainer, ModelData
from millrace.names import ObjectPrefix, ObjectRef, relative_key
from millrace.ports.objects import NoSuchBucket, NoSuchKey, ObjectStore
from millrace.ports.runtime import Address, Container, ContainerSpec

__all__ = ["ServedModel", "bring_model", "exit_failure", "last_words", "serve_model", "serving_environment"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedModel:
    """A started model server."""

    container: Container
    address: Address
    stream: LogStream


@asynccontextmanager
async def serve_model(
    model: ModelContainer,
    folder: Path,
    *,
    name: str,
    environment: Mapping[str, str],
    stream: LogStream,
    backends: AgentBackends,
    grace_seconds: float,
    download_timeout_seconds: float | None = None,
) -> AsyncIterator[ServedModel]:
    """Unpack the model and run its container with `serve` while the block runs; it is stopped at the end.

    Raises:
        ClientFailure: Image or model data are not to be had, or the data not within `download_timeout_seconds`.
        LeaseLost: Another attempt has taken over before the container was started.
    """
    opt_ml = folder / "opt" / "ml"
    await backends.runtime.end_left_over(folder)
    remove_folder(folder / "opt")
    (opt_ml / "model").mkdir(parents=True)
    try:
        image = backends.images.resolve(model.resolved_image or model.image)
        async with _within(download_timeout_seconds, model.data):
            await bring_model(backends.objects, model.data, opt_ml / "model", link=image.built_in is not None)
        await backends.session.check_lease()  # bringing the model took a while: the folder may be another attempt's
        container = await backends.runtime.launch(
            ContainerSpec(
                name=name,
                image=image,
                command=(*image.command, "serve"),
                environment=environment,
                opt_ml=opt_ml,
                serves=True,
                network_isolation=model.network_isolation,
                on_line=stream.write,
            )
        )
    except (ImageUnavailable, RuntimeUnavailable) as exc:
        raise ClientFailure(str(exc)) from exc
    assert container.address is not None
    try:
        yield ServedModel(container=container, address=container.address, stream=stream)
    finally:
        await container.stop(grace_seconds)
        stream.flush()


@asynccontextmanager
async def _within(seconds: float | None, data: ModelData | None) -> AsyncIterator[None]:
    """Bound the time in which model data are brought."""
    deadline = asyncio.timeout(seconds)
    try:
        async with deadline:
            yield
    except TimeoutError as exc:
        if not deadline.expired():
            raise
        uri = "none" if data is None else data.uri
        raise ClientFailure(
            f"model data {uri} must be there within {seconds:g} seconds (ModelDataDownloadTimeoutInSeconds), "
            "but the download takes longer"
        ) from exc


async def bring_model(objects: ObjectStore, data: ModelData | None, folder: Path, *, link: bool) -> None:
    """Put a model's files into its folder.

    Raises:
        ClientFailure: They are not there, or a key can't be a file name below the folder.

    Source:
        containers.md 5.2.
    """
    if data is None:
        return
    placement = Placement(folder)
    if data.is_prefix:
        source = ObjectPrefix.parse(data.uri)
        async for info in iter_objects(objects, source):
            target = placement.place(info.ref, relative_key(source.prefix, info.ref.key))
            await download(objects, info.ref, target, link=link)
        return
    ref = ObjectRef.parse(data.uri)
    if not data.is_gzip:
        await download(objects, ref, placement.place(ref, ref.key.rpartition("/")[2]), link=link)
        return
    try:
        local = await objects.open_local(ref)
    except (NoSuchKey, NoSuchBucket) as exc:
        raise ClientFailure(f"model data {ref} does not exist") from exc
    if local is not None:
        _, _, descriptor = local
    else:
        archive = folder.parent / "model.tar.gz"
        await download(objects, ref, archive, link=False)
        descriptor = os.open(archive, os.O_RDONLY)
        archive.unlink()
    with os.fdopen(descriptor, "rb") as source_file:
        await asyncio.to_thread(unpack, source_file, folder, name=f"model data {ref}")


async def serving_environment(
    model: ModelContainer, *, region: str, name: str, backends: AgentBackends
) -> dict[str, str]:
    """Return a model server's variables; the model's own win over the platform's.

    Args:
        name: Of the job or endpoint: what its temporary keys are made for.

    Source:
        containers.md 5.1.
    """
    return {
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        **({"AWS_ENDPOINT_URL": backends.endpoint_url} if backends.endpoint_url else {}),
        **await backends.mint_credentials(name),
        **model.environment,
    }


async def exit_failure(served: ServedModel, doing: str) -> AlgorithmFailure:
    """Return the failure of a container that ended by itself, with the last of what it said."""
    status = await served.container.wait()
    return AlgorithmFailure(f"Model container exited with {status} {doing}{last_words(served)}")


def last_words(served: ServedModel) -> str:
    """Return what a failure text adds about the container's last log lines; nothing if it said nothing."""
    return "; last log lines: " + " | ".join(served.stream.tail) if served.stream.tail else ""
