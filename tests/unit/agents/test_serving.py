"""A model's files stay in the model's folder, its containers in their attempt."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from tests.unit.agents.endless_model import EndlessModel

from millrace.agents.backends import AgentBackends
from millrace.agents.breaking_off import StopWanted
from millrace.agents.chain import Chain, ChainLimits, Link, named_failure
from millrace.agents.model_data import bring_model
from millrace.agents.serving import ServedModel, exit_failure, plan_containers, serve_model
from millrace.agents.session import DetachedSession, Session
from millrace.clock import SystemClock
from millrace.errors import AlgorithmFailure, ClientFailure, ImageUnavailable, LeaseLost
from millrace.jobs.endpoint import ModelContainer, ModelData
from millrace.names import ObjectRef
from millrace.ports.runtime import Address, Image
from millrace.runtimes.process import ProcessRuntime
from millrace.store.filesystem import FilesystemObjects
from millrace.store.log_files import LogFiles
from millrace.testing.clock import ManualClock


@pytest.fixture
async def objects(tmp_path: Path) -> FilesystemObjects:
    store = FilesystemObjects(tmp_path / "objects", durable=False)
    await store.create_bucket("shop", region="us-east-1", owner="0")
    return store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "w" / "opt" / "ml" / "model"
    path.mkdir(parents=True)
    return path


async def put(objects: FilesystemObjects, key: str) -> None:
    writer = await objects.open_writer(ObjectRef("shop", key))
    await writer.write(b"weights")
    await writer.commit()


async def test_a_prefix_becomes_a_folder(objects: FilesystemObjects, folder: Path) -> None:
    """Each object under its relative name."""
    await put(objects, "model/weights.bin")
    await put(objects, "model/code/inference.py")
    data = ModelData(uri="s3://shop/model/", is_prefix=True, is_gzip=False)
    await bring_model(objects, data, folder, link=True)
    assert (folder / "weights.bin").read_bytes() == (folder / "code" / "inference.py").read_bytes() == b"weights"


@pytest.mark.parametrize("climb", ["../../../../pwned", "{outside}/pwned", "code/../../pwned"])
async def test_a_key_that_leads_out_of_the_model_folder_is_refused(
    objects: FilesystemObjects, folder: Path, tmp_path: Path, climb: str
) -> None:
    """Nothing is written there, and the failure names the object."""
    await put(objects, "model/" + climb.format(outside=tmp_path))
    data = ModelData(uri="s3://shop/model/", is_prefix=True, is_gzip=False)
    with pytest.raises(ClientFailure, match=r"s3://shop/model/.*can't be a file name"):
        await bring_model(objects, data, folder, link=False)
    assert list(tmp_path.rglob("pwned")) == [path for path in tmp_path.rglob("pwned") if "objects" in path.parts]


async def test_a_single_file_keeps_to_the_folder_too(objects: FilesystemObjects, folder: Path) -> None:
    """Also if the last part of its key is a way up."""
    await put(objects, "model/..")
    with pytest.raises(ClientFailure, match="can't be a file name"):
        await bring_model(
            objects, ModelData(uri="s3://shop/model/..", is_prefix=False, is_gzip=False), folder, link=False
        )


@pytest.mark.parametrize("times", [1, 2])
async def test_unpacking_that_is_cancelled_ends_and_leaves_nothing(tmp_path: Path, folder: Path, times: int) -> None:
    """Once that is told, the archive is closed and the folder gone; also if it is cancelled again meanwhile."""
    store = EndlessModel(tmp_path / "objects")
    bringing = asyncio.create_task(bring_model(store, store.data, folder, link=False))
    await store.under_way.wait()
    assert (folder / "weights.bin").exists()
    for _ in range(times):
        bringing.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await bringing
    assert not folder.exists()
    await store.closed()


async def test_data_that_fail_to_come_leave_nothing(objects: FilesystemObjects, folder: Path) -> None:
    """Nor a folder with what there was before the damage."""
    await put(objects, "model.tar.gz")
    data = ModelData(uri="s3://shop/model.tar.gz", is_prefix=False, is_gzip=True)
    with pytest.raises(ClientFailure, match=r"is not a valid \.tar\.gz archive"):
        await bring_model(objects, data, folder, link=False)
    assert not folder.exists()


class Superseded(DetachedSession):
    """The standing of an agent that hung until another attempt took over."""

    async def check_lease(self) -> None:
        raise LeaseLost("attempt 1 is closed")


class Images:
    """Knows images by the command that a container of them runs."""

    def __init__(self, **commands: tuple[str, ...]) -> None:
        self._commands = commands

    def resolve(self, uri: str) -> Image:
        if uri not in self._commands:
            raise ImageUnavailable(f"no image {uri}")
        return Image(uri=uri, name=uri, command=self._commands[uri])


async def no_credentials(name: str) -> dict[str, str]:
    return {"AWS_ACCESS_KEY_ID": f"key of {name}"}


def chain(links: Sequence[Link]) -> Chain:
    return Chain(
        links, limits=ChainLimits(answer_bytes=1024, held_bytes=1024, seconds=60.0), failure_body=named_failure
    )


Serving = Callable[..., AbstractAsyncContextManager[ServedModel]]


@pytest.fixture
def serving(objects: FilesystemObjects, tmp_path: Path) -> Serving:
    """Return what serves containers of images that are known by their commands."""

    @asynccontextmanager
    async def serve(
        *models: ModelContainer,
        session: Session | None = None,
        store: FilesystemObjects = objects,
        **commands: tuple[str, ...],
    ) -> AsyncIterator[ServedModel]:
        logs = LogFiles(tmp_path / "logs")
        backends = AgentBackends(
            session=session or DetachedSession(SystemClock()),
            objects=store,
            logs=logs,
            images=Images(**commands),
            runtime=ProcessRuntime(os.environ),
            endpoint_url=None,
            mint_credentials=no_credentials,
        )
        plans = await plan_containers(
            models, region="eu-west-1", name="job", group="g", stream="job/i-1", backends=backends
        )
        async with serve_model(
            plans, tmp_path / "shop", name="c", chain=chain, backends=backends, grace_seconds=1.0
        ) as served:
            yield served

    return serve


WAITS = ("sh", "-c", "exec sleep 600")


async def test_no_container_is_started_once_the_lease_is_lost(serving: Serving, tmp_path: Path) -> None:
    """It would work in the folder, and listen at the address, of the attempt that took over."""
    ran = tmp_path / "ran"
    with pytest.raises(LeaseLost):
        async with serving(
            ModelContainer(image="u"), session=Superseded(SystemClock()), u=("touch", str(ran))
        ) as served:
            await served.wait()
    assert not ran.exists()


async def test_a_stop_is_heard_while_a_model_is_unpacked(serving: Serving, tmp_path: Path) -> None:
    """Nothing is started, of none of the containers, and what was unpacked is gone."""
    store, session, ran = EndlessModel(tmp_path / "endless"), DetachedSession(SystemClock()), tmp_path / "ran"

    async def stop() -> None:
        await store.under_way.wait()
        session.stop.set()

    stopping = asyncio.create_task(stop())
    touch = ("touch", str(ran))
    with pytest.raises(StopWanted):
        async with serving(
            ModelContainer(image="u", hostname="a", data=store.data),
            ModelContainer(image="u", hostname="b"),
            session=session,
            store=store,
            u=touch,
        ):
            pass
    await stopping
    await store.closed()
    assert not ran.exists()
    assert not list((tmp_path / "shop").rglob("weights.bin"))


async def test_a_model_s_only_container_is_asked_itself(serving: Serving, tmp_path: Path) -> None:
    """It has no name, the instance's own folder and the log stream of that name."""
    async with serving(ModelContainer(image="u", hostname="ignored"), u=WAITS) as served:
        [only] = served.containers
        assert (only.name, only.address, only.stream.name) == (None, served.address, "job/i-1")
    assert (tmp_path / "shop" / "opt" / "ml" / "model").is_dir()


async def test_several_containers_have_folders_names_streams_and_variables_of_their_own(
    serving: Serving, objects: FilesystemObjects, tmp_path: Path
) -> None:
    """The platform's variables are the same for all; one address stands for them."""
    await put(objects, "model/weights.bin")
    data = ModelData(uri="s3://shop/model/", is_prefix=True, is_gzip=False)
    shows = ("sh", "-c", "env | sort; ls $SAGEMAKER_BASE_DIR/opt/ml/model")
    async with serving(
        ModelContainer(image="u", hostname="clean", data=data, environment={"MINE": "1"}),
        ModelContainer(image="u", hostname="score", environment={"MINE": "2", "AWS_REGION": "own"}),
        u=shows,
    ) as served:
        assert [it.name for it in served.containers] == ["clean", "score"]
        assert [it.stream.name for it in served.containers] == ["job/i-1/clean", "job/i-1/score"]
        assert served.address == Address(path=str(tmp_path / "shop" / "chain.sock"))
        ports = {it.address.port for it in served.containers}
        assert len(ports) == 2
        for it in served.containers:
            await it.container.wait()
    logs = LogFiles(tmp_path / "logs")
    first, second = (
        [event.message for event in logs.read("g", f"job/i-1/{name}").events] for name in ("clean", "score")
    )
    assert {"MINE=1", "AWS_REGION=eu-west-1", "AWS_ACCESS_KEY_ID=key of job", "weights.bin"} <= set(first)
    assert {"MINE=2", "AWS_REGION=own", "AWS_ACCESS_KEY_ID=key of job"} <= set(second)
    assert "weights.bin" not in second
    assert not (tmp_path / "shop" / "opt").exists()


@pytest.mark.parametrize(
    ("second", "text"),
    [
        (ModelContainer(image="nothing", hostname="score"), "score: no image nothing"),
        (ModelContainer(image="missing", hostname="score"), "score: image missing: can't start '/no/such/program'"),
        (
            ModelContainer(image="u", hostname="score", data=ModelData(uri="s3://shop/none.tar.gz")),
            "score: model data s3://shop/none.tar.gz does not exist",
        ),
    ],
)
async def test_a_container_that_can_not_start_is_named_and_the_others_are_stopped(
    serving: Serving, tmp_path: Path, second: ModelContainer, text: str
) -> None:
    """Nothing of the model runs on."""
    folder = str(tmp_path / "shop")
    with pytest.raises(ClientFailure, match=text) as raised:
        async with serving(ModelContainer(image="u", hostname="clean"), second, u=WAITS, missing=("/no/such/program",)):
            raise AssertionError("it is served")
    assert raised.value.container == "score"
    assert not [it for it in Path("/proc").glob("[0-9]*/cwd") if works_below(it, folder)]


def works_below(link: Path, folder: str) -> bool:
    try:
        return str(link.readlink()).startswith(folder)
    except OSError:
        return False


async def test_the_container_that_ends_is_told_apart(serving: Serving) -> None:
    """With its status and last lines."""
    async with serving(
        ModelContainer(image="waits", hostname="clean"),
        ModelContainer(image="ends", hostname="score"),
        waits=WAITS,
        ends=("sh", "-c", "echo no licence; exit 9"),
    ) as served:
        ended = await served.wait()
        failure = await exit_failure(ended, "before it answered /ping")
    assert failure.reason == (
        "AlgorithmError: score: Model container exited with status 9 before it answered /ping; "
        "last log lines: no licence"
    )


async def test_every_container_must_be_healthy(serving: Serving) -> None:
    """One that is not in time is named."""
    async with serving(
        ModelContainer(image="u", hostname="clean"), ModelContainer(image="u", hostname="score"), u=WAITS
    ) as served:
        clock = ManualClock()
        waiting = asyncio.create_task(served.wait_until_healthy(window_seconds=0.001, clock=clock))
        with pytest.raises(AlgorithmFailure, match=r"^(clean|score): Model container failed to respond to ping"):
            await waiting


async def test_an_attempt_with_other_containers_finds_nothing_of_the_one_before(
    serving: Serving, tmp_path: Path
) -> None:
    """An endpoint's instance has the same folder in each attempt."""
    left = tmp_path / "shop" / "containers" / "2" / "opt" / "ml" / "model" / "old.bin"
    left.parent.mkdir(parents=True)
    left.touch()
    models = [ModelContainer(image="u", hostname=name) for name in ("clean", "score")]
    async with serving(*models, u=WAITS):
        assert list((tmp_path / "shop" / "containers" / "2" / "opt" / "ml" / "model").iterdir()) == []
