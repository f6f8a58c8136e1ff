"""Files of replaced objects, written again only where nobody can tell."""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from millrace.names import ObjectRef
from millrace.ports.objects import ObjectMeta
from millrace.store.filesystem import FilesystemObjects
from millrace.store.recycled_files import RECYCLED_BYTES, RecycledFiles
from millrace.testing.contract_objects import chunks_of, read_all


def made(path: Path, content: bytes = b"old") -> os.stat_result:
    """Make a file as a store does, and return its stat."""
    path.write_bytes(content)
    return path.stat()


def test_a_file_that_nobody_else_has_is_given_again_empty(tmp_path: Path) -> None:
    """A kept file comes back once, with nothing in it."""
    recycled, path = RecycledFiles(2), tmp_path / "draft"
    recycled.give(os.fsencode(tmp_path), os.fsencode(path), made(path))
    taken = recycled.take(os.fsencode(tmp_path))
    assert taken is not None
    descriptor, name = taken
    assert (name, os.fstat(descriptor).st_size, os.fstat(descriptor).st_ino) == (
        os.fsencode(path),
        0,
        path.stat().st_ino,
    )
    assert recycled.take(os.fsencode(tmp_path)) is None
    os.close(descriptor)


def _link(path: Path) -> object:
    os.link(path, path.with_name("link"))
    return None


def _mark(path: Path) -> object:
    os.setxattr(path, "user.mine", b"1")
    return None


CLAIMS: dict[str, Callable[[Path], object]] = {
    "has it open to read": lambda path: path.open("rb"),
    "has it open to write": lambda path: path.open("r+b"),
    "has a link": _link,
    "has set an attribute": _mark,
    "has changed its mode": lambda path: path.chmod(0o600),
    "has put much into it": lambda path: path.write_bytes(bytes(RECYCLED_BYTES + 1)),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_file_of_which_somebody_has_something_is_let_go(tmp_path: Path, claim: str) -> None:
    """Who has anything of a replaced object keeps what it was."""
    recycled, path = RecycledFiles(2), tmp_path / "draft"
    like = made(path)
    path.chmod(0o644)
    like = path.stat()
    held = CLAIMS[claim](path)
    recycled.give(os.fsencode(tmp_path), os.fsencode(path), like)
    assert not path.exists()
    assert recycled.take(os.fsencode(tmp_path)) is None
    if hasattr(held, "close"):
        held.close()


def test_no_more_files_are_kept_than_allowed(tmp_path: Path) -> None:
    """Files beyond the bound are removed, and all of them are at the end."""
    recycled = RecycledFiles(2)
    paths = [tmp_path / str(number) for number in range(3)]
    for path in paths:
        recycled.give(os.fsencode(tmp_path), os.fsencode(path), made(path))
    assert [path.exists() for path in paths] == [True, True, False]
    recycled.close()
    assert not any(path.exists() for path in paths)


def test_a_file_that_was_removed_meanwhile_is_not_given(tmp_path: Path) -> None:
    """A kept file that a person has removed is forgotten."""
    recycled, path = RecycledFiles(2), tmp_path / "draft"
    recycled.give(os.fsencode(tmp_path), os.fsencode(path), made(path))
    path.unlink()
    assert recycled.take(os.fsencode(tmp_path)) is None


@pytest.mark.parametrize("durable", [True, False])
async def test_objects_stored_again_and_again_keep_their_own_facts(tmp_path: Path, durable: bool) -> None:
    """Bytes, metadata and times of an object are its own, in whichever file it lies; few files are left lying."""
    store = FilesystemObjects(tmp_path / "objects", durable=durable, max_recycled_files=4)
    await store.create_bucket("box", region="us-east-1", owner="1")
    refs = [ObjectRef("box", f"folder/{number}") for number in range(3)]
    last = None
    for turn in range(6):
        for number, ref in enumerate(refs):
            content = b"%d/%d" % (turn, number) * (turn * 1000) if turn % 2 else b""
            meta = ObjectMeta(user={"turn": str(turn)} if number else {})
            stored = await store.put(ref, chunks_of(content), meta)
            assert last is None or stored.modified_at >= last
            last = stored.modified_at
            info = await store.get(ref)
            assert (await read_all(store, ref), info.meta.user, info.etag) == (content, meta.user, stored.etag)
    private = tmp_path / "objects/.millrace/box"
    spares = list((private / "spare").iterdir())
    assert 0 < len(spares) <= 4
    assert {spare.stat().st_size for spare in spares} == {0}
    store.close()
    left = [*(private / "tmp").rglob("*"), *(private / "spare").iterdir()]
    assert [path for path in left if path.is_file()] == []


async def test_a_reader_keeps_the_version_that_it_opened(tmp_path: Path) -> None:
    """An object that is being read is not written over, however often it is replaced."""
    store = FilesystemObjects(tmp_path / "objects")
    await store.create_bucket("box", region="us-east-1", owner="1")
    ref = ObjectRef("box", "k")
    await store.put(ref, chunks_of(b"first"))
    opened = await store.open_local(ref)
    assert opened is not None
    for turn in range(5):
        await store.put(ref, chunks_of(b"later %d" % turn))
    assert os.read(opened[2], 100) == b"first"
    os.close(opened[2])


async def test_spare_files_of_a_killed_server_are_swept(tmp_path: Path) -> None:
    """Files that were kept by a process that is no more are leftovers like drafts."""
    store = FilesystemObjects(tmp_path / "objects")
    await store.create_bucket("box", region="us-east-1", owner="1")
    for _ in range(2):
        await store.put(ObjectRef("box", "k"), chunks_of(b"x"))
    other = FilesystemObjects(tmp_path / "objects")
    spares = tmp_path / "objects/.millrace/box/spare"
    assert await other.sweep(older_than=timedelta(days=-1)) == 0, "their keeper lives"
    left = spares / "left"
    left.write_bytes(b"")
    assert await other.sweep(older_than=timedelta(days=-1)) == 1
    assert len(list(spares.iterdir())) == 1
    assert not left.exists()
