"""A model's files stay in the model's folder, its container in its attempt."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from millrace.agents.backends import AgentBackends
from millrace.agents.chain import Chain, ChainLimits, Link, named_failure
from millrace.agents.log_stream import LogStream
from millrace.agents.model_data import bring_model
from millrace.agents.serving import ContainerPlan, serve_model
from millrace.agents.session import DetachedSession
from millrace.clock import SystemClock
from millrace.errors import ClientFailure, LeaseLost
from millrace.jobs.endpoint import ModelContainer, ModelData
from millrace.names import ObjectRef
from millrace.ports.runtime import Image
from millrace.runtimes.process import ProcessRuntime
from millrace.store.filesystem import FilesystemObjects
from millrace.store.log_files import LogFiles


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


class Superseded(DetachedSession):
    """The standing of an agent that hung until another attempt took over."""

    async def check_lease(self) -> None:
        raise LeaseLost("attempt 1 is closed")


class OneImage:
    """Knows a single image, whatever is asked for."""

    def __init__(self, image: Image) -> None:
        self._image = image

    def resolve(self, uri: str) -> Image:
        return self._image


async def no_credentials(name: str) -> dict[str, str]:
    return {}


def chain(links: Sequence[Link]) -> Chain:
    return Chain(links, limits=ChainLimits(answer_bytes=1024, seconds=60.0), failure_body=named_failure)


async def test_no_container_is_started_once_the_lease_is_lost(objects: FilesystemObjects, tmp_path: Path) -> None:
    """It would work in the folder, and listen at the address, of the attempt that took over."""
    ran = tmp_path / "ran"
    logs = LogFiles(tmp_path / "logs")
    backends = AgentBackends(
        session=Superseded(SystemClock()),
        objects=objects,
        logs=logs,
        images=OneImage(Image(uri="u", name="n", command=("touch", str(ran)))),
        runtime=ProcessRuntime(os.environ),
        endpoint_url=None,
        mint_credentials=no_credentials,
    )
    plan = ContainerPlan(name=None, model=ModelContainer(image="u"), environment={}, stream=LogStream(logs, "g", "s"))
    serving = serve_model(
        [plan],
        tmp_path / "shop",
        name="c",
        chain=chain,
        backends=backends,
        grace_seconds=1.0,
    )
    with pytest.raises(LeaseLost):
        async with serving as served:
            await served.wait()
    assert not ran.exists()
