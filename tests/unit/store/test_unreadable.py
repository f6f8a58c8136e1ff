"""Files that a person put into a bucket and that the store may not read."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from tests.unprivileged import unprivileged

from millrace.errors import S3Error
from millrace.names import ObjectRef
from millrace.ports.objects import ObjectUnreadable
from millrace.services.s3.faults import store_errors
from millrace.store.filesystem import FilesystemObjects

CLOSED = ObjectRef("shop", "in/closed.csv")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FilesystemObjects]:
    """A store with an object of which nobody may read a byte, and one in a folder that nobody may enter."""
    folder = tmp_path / "shop" / "in"
    (folder / "secret").mkdir(parents=True)
    for name in ("closed.csv", "open.csv", "secret/in.csv"):
        (folder / name).write_bytes(b"1\n")
    (folder / "closed.csv").chmod(0)
    (folder / "secret").chmod(0)
    objects = FilesystemObjects(tmp_path)
    with unprivileged():
        yield objects
    objects.close()
    (folder / "secret").chmod(0o755)


async def read(store: FilesystemObjects) -> object:
    return [chunk async for chunk in store.read(CLOSED)]


@pytest.mark.parametrize("ask", [read, lambda store: store.get(CLOSED), lambda store: store.open_local(CLOSED)])
async def test_what_may_not_be_read_is_told(
    store: FilesystemObjects, ask: Callable[[FilesystemObjects], Awaitable[object]]
) -> None:
    """The error names the object, and not where it lies on the machine."""
    with pytest.raises(ObjectUnreadable) as caught:
        await ask(store)
    assert str(caught.value) == (
        "ObjectUnreadable: s3://shop/in/closed.csv (the store may not read it (Permission denied))"
    )


async def test_a_folder_that_may_not_be_listed_is_told(store: FilesystemObjects) -> None:
    """Leaving it out would lose what is in it."""
    with pytest.raises(ObjectUnreadable, match="shop/in/secret/ "):
        await store.list_objects("shop", prefix="in/")
    page = await store.list_objects("shop", prefix="in/", limit=1)
    assert [entry.ref.key for entry in page.objects] == ["in/closed.csv"]


async def test_small_objects_that_may_not_be_read_are_left(store: FilesystemObjects) -> None:
    """The usual way tells what is wrong with them."""
    refs = [CLOSED, ObjectRef("shop", "in/open.csv"), ObjectRef("shop", "in/secret/in.csv")]
    assert store.small_objects().read(refs, at_most=100) == [None, b"1\n", None]


async def test_clients_are_told_that_access_is_denied(store: FilesystemObjects) -> None:
    """As S3 does where a policy forbids it."""
    with pytest.raises(S3Error) as caught, store_errors():
        await store.get(CLOSED)
    assert (caught.value.wire_code, caught.value.wire_status) == ("AccessDenied", 403)
