"""Start a model's containers and wait until they are healthy; what transform jobs and endpoints have in common.

A model has one container or several, which form a chain. Either way it is asked at one address.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from millrace.agents.backends import AgentBackends
from millrace.agents.breaking_off import unless_stopped
from millrace.agents.chain import Chain, Link
from millrace.agents.chain_server import serve_chain
from millrace.agents.log_stream import LogStream
from millrace.agents.model_data import bring_model
from millrace.clock import Clock
from millrace.dataplane.container import wait_until_healthy
from millrace.errors import AlgorithmFailure, ClientFailure, ImageUnavailable, JobFailure, RuntimeUnavailable
from millrace.folder_removal import remove_folder
from millrace.jobs.endpoint import ModelContainer, ModelData
from millrace.ports.runtime import Address, Container, ContainerSpec, Image

__all__ = [
    "ContainerPlan",
    "ServedContainer",
    "ServedModel",
    "exit_failure",
    "plan_containers",
    "serve_model",
]

log = logging.getLogger(__name__)

T = TypeVar("T")

CONTAINERS_FOLDER = "containers"
"""Where the folders of a model's several containers are, by number: names could be longer than a socket's path."""

ACCEPTS_PORT_LABEL = "com.amazonaws.sagemaker.capabilities.accept-bind-to-port"

SANDBOX_PORTS = {"SAGEMAKER_BIND_TO_PORT": "8080", "SAGEMAKER_SAFE_PORT_RANGE": "9000-9999"}
"""What an image with that label is told where its container has a network, and so all ports, to itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ContainerPlan:
    """A container to start. `name` is its host name in a chain, None if it is the model's only one."""

    name: str | None
    model: ModelContainer
    environment: Mapping[str, str]
    stream: LogStream


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedContainer:
    """A started container."""

    name: str | None
    container: Container
    address: Address
    stream: LogStream

    @property
    def last_words(self) -> str:
        """What a failure text adds about the container's last log lines; nothing if it said nothing."""
        return "; last log lines: " + " | ".join(self.stream.tail) if self.stream.tail else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedModel:
    """A model's started containers, and where the model as a whole is asked."""

    containers: list[ServedContainer]
    address: Address
    launch_again: Callable[[ServedContainer], Awaitable[ServedContainer]]

    async def start_again(self, ended: ServedContainer) -> None:
        """Start a container that has ended in its own place: with the same files, at the same address.

        Raises:
            ClientFailure: It can't be started.
        """
        place = self.containers.index(ended)
        self.containers[place] = await self.launch_again(ended)

    async def wait(self) -> ServedContainer:
        """Return the first container that ends."""
        containers = list(self.containers)
        waiting = [asyncio.create_task(it.container.wait()) for it in containers]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            return next(it for it, task in zip(containers, waiting, strict=True) if task.done())
        finally:
            for task in waiting:
                task.cancel()

    async def wait_until_healthy(self, *, window_seconds: float, clock: Clock) -> None:
        """Return once every container answers /ping with 200.

        Raises:
            AlgorithmFailure: One does not within the window; its last log lines are told.
        """

        async def wait(it: ServedContainer) -> None:
            try:
                await wait_until_healthy(it.address, window_seconds=window_seconds, clock=clock)
            except AlgorithmFailure as failure:
                raise AlgorithmFailure(f"{failure}{it.last_words}", container=it.name) from failure

        await _all(wait(it) for it in self.containers)


async def plan_containers(
    models: Sequence[ModelContainer],
    *,
    region: str,
    name: str,
    group: str,
    stream: str,
    backends: AgentBackends,
    environment: Callable[[Mapping[str, str]], Mapping[str, str]] = dict,
) -> list[ContainerPlan]:
    """Return how a model's containers are to be started.

    Args:
        models: Of one model, in order.
        region: Of the job or endpoint.
        name: Of the job or endpoint: what the containers' temporary keys are made for.
        group: The log group.
        stream: Name of the log stream; several containers have one each, below that name.
        backends: Where keys and log streams come from.
        environment: Makes a container's variables of the platform's and the model's, of which the model's win.

    Source:
        containers.md 5.1, 5.6.
    """
    platform = {
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        **({"AWS_ENDPOINT_URL": backends.endpoint_url} if backends.endpoint_url else {}),
        **await backends.mint_credentials(name),
    }
    plans = []
    for number, model in enumerate(models, start=1):
        own = None if len(models) == 1 else model.hostname or f"container-{number}"
        plans.append(
            ContainerPlan(
                name=own,
                model=model,
                environment=environment({**platform, **model.environment}),
                stream=LogStream(backends.logs, group, stream if own is None else f"{stream}/{own}"),
            )
        )
    return plans


@asynccontextmanager
async def serve_model(
    plans: Sequence[ContainerPlan],
    folder: Path,
    *,
    name: str,
    chain: Callable[[Sequence[Link]], Chain],
    backends: AgentBackends,
    grace_seconds: float,
    download_timeout_seconds: float | None = None,
) -> AsyncIterator[ServedModel]:
    """Unpack the model and run its containers with `serve` while the block runs; they are stopped at the end.

    Several containers start at the same time, each with a folder of its own, and are asked through a chain.

    Raises:
        ClientFailure: An image or model data are not to be had, or data not within `download_timeout_seconds`.
        StopWanted: The session's stop came while model data were brought.
        LeaseLost: Another attempt has taken over before the containers were started.
    """
    await backends.runtime.end_left_over(folder)
    remove_folder(folder / "opt")
    remove_folder(folder / CONTAINERS_FOLDER)
    folders = [folder] if len(plans) == 1 else [folder / CONTAINERS_FOLDER / str(n) for n in range(1, len(plans) + 1)]
    images = await _all(
        _bring(plan, place, backends, download_timeout_seconds) for plan, place in zip(plans, folders, strict=True)
    )
    await backends.session.check_lease()  # bringing the model took a while: the folder may be another attempt's
    launches = [
        partial(_launch, plan, image, place, name, backends)
        for plan, image, place in zip(plans, images, folders, strict=True)
    ]
    starting = [asyncio.create_task(launch()) for launch in launches]

    async def launch_again(ended: ServedContainer) -> ServedContainer:
        number = next(number for number, plan in enumerate(plans) if plan.name == ended.name)
        starting.append(asyncio.create_task(launches[number](at=ended.address)))
        return await asyncio.shield(starting[-1])

    try:
        containers = await _all(asyncio.shield(task) for task in starting)
        async with _asked_at_one_address(containers, folder, chain) as address:
            yield ServedModel(containers=containers, address=address, launch_again=launch_again)
    finally:
        # Also those that were still starting when another one could not: nobody else would stop them.
        await asyncio.wait(starting)
        started = [task.result() for task in starting if not task.cancelled() and task.exception() is None]
        await asyncio.gather(*(it.container.stop(grace_seconds) for it in started))
        for plan in plans:
            plan.stream.flush()


@asynccontextmanager
async def _asked_at_one_address(
    containers: Sequence[ServedContainer], folder: Path, chain: Callable[[Sequence[Link]], Chain]
) -> AsyncIterator[Address]:
    if len(containers) == 1:
        yield containers[0].address
        return
    links = [Link(name=it.name or "", address=it.address) for it in containers]
    async with serve_chain(chain(links), folder) as address:
        yield address


async def _all(work: Iterable[Coroutine[Any, Any, T] | asyncio.Future[T]]) -> list[T]:
    """Return all results; once one fails, cancel the others and raise what it raised."""
    tasks = [asyncio.ensure_future(it) for it in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            if task in done:
                task.result()
        return [task.result() for task in tasks]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in tasks:
            _ = task.cancelled() or task.exception()  # else the loop complains of those that nobody was told of


async def _bring(plan: ContainerPlan, folder: Path, backends: AgentBackends, seconds: float | None) -> Image:
    """Put a container's model data into its folder and return its image."""
    opt_ml = folder / "opt" / "ml"
    (opt_ml / "model").mkdir(parents=True)
    model = plan.model
    try:
        image = backends.images.resolve(model.resolved_image or model.image)
        async with _within(seconds, model.data):
            bringing = bring_model(backends.objects, model.data, opt_ml / "model", link=image.built_in is not None)
            await unless_stopped(bringing, backends.session.stop)
    except (ImageUnavailable, ClientFailure) as exc:
        raise ClientFailure(str(exc), container=plan.name) from exc
    return image


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


async def _launch(
    plan: ContainerPlan, image: Image, folder: Path, name: str, backends: AgentBackends, at: Address | None = None
) -> ServedContainer:
    in_chain = plan.name is not None
    own_ports = SANDBOX_PORTS if in_chain and image.root is not None and _accepts_port(image) else {}
    try:
        container = await backends.runtime.launch(
            ContainerSpec(
                name=f"{name}-{plan.name}" if in_chain else name,
                image=image,
                command=(*image.command, "serve"),
                environment={**plan.environment, **own_ports},
                opt_ml=folder / "opt" / "ml",
                serves=True,
                address=at,
                network_isolation=plan.model.network_isolation,
                on_line=plan.stream.write,
            )
        )
    except (ImageUnavailable, RuntimeUnavailable) as exc:
        raise ClientFailure(str(exc), container=plan.name) from exc
    assert container.address is not None
    return ServedContainer(name=plan.name, container=container, address=container.address, stream=plan.stream)


def _accepts_port(image: Image) -> bool:
    return image.labels.get(ACCEPTS_PORT_LABEL, "").lower() == "true"


async def exit_failure(ended: ServedContainer, doing: str) -> JobFailure:
    """Return the failure of a container that ended by itself, with the last of what it said."""
    status = await ended.container.wait()
    return AlgorithmFailure(f"Model container exited with {status} {doing}{ended.last_words}", container=ended.name)
