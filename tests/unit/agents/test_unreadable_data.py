"""Models and inputs that a person put into a bucket and that the platform may not read."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.unprivileged import unprivileged

from millrace.agents.model_data import bring_model
from millrace.agents.objects import download, iter_objects
from millrace.errors import ClientFailure
from millrace.jobs.endpoint import ModelData
from millrace.names import ObjectPrefix, ObjectRef
from millrace.store.filesystem import FilesystemObjects


@pytest.fixture
async def objects(tmp_path: Path) -> AsyncIterator[FilesystemObjects]:
    """A store with an archive that nobody may read, and a folder that nobody may enter."""
    bucket = tmp_path / "objects" / "shop"
    (bucket / "secret").mkdir(parents=True)
    (bucket / "model.tar.gz").touch(mode=0)
    (bucket / "secret").chmod(0)
    store = FilesystemObjects(tmp_path / "objects")
    with unprivileged():
        yield store
    store.close()
    (bucket / "secret").chmod(0o755)


async def test_model_data_that_may_not_be_read_are_told(objects: FilesystemObjects, tmp_path: Path) -> None:
    """Of an archive, and of one that is to be left packed."""
    for is_gzip, words in ((True, "model data s3://shop/model.tar.gz"), (False, "s3://shop/model.tar.gz")):
        data = ModelData(uri="s3://shop/model.tar.gz", is_gzip=is_gzip)
        with pytest.raises(ClientFailure) as caught:
            await bring_model(objects, data, tmp_path / "model", link=False)
        assert str(caught.value) == f"{words} can't be read: the store may not read it (Permission denied)"


async def test_an_object_that_may_not_be_read_is_told(objects: FilesystemObjects, tmp_path: Path) -> None:
    """Whatever it is needed for."""
    with pytest.raises(ClientFailure, match=r"s3://shop/model.tar.gz can't be read"):
        await download(objects, ObjectRef("shop", "model.tar.gz"), tmp_path / "file", link=True)


async def test_a_prefix_that_may_not_be_listed_is_told(objects: FilesystemObjects) -> None:
    """What is in the folder is not left out unnoticed."""
    with pytest.raises(ClientFailure, match=r"s3://shop/ can't be listed: shop/secret/: the store may not read it"):
        async for _ in iter_objects(objects, ObjectPrefix("shop", "")):
            pass
