"""Another process that writes groups of small objects."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from millrace.names import ObjectRef
from millrace.ports.objects import ObjectMeta, SmallOutput
from millrace.store.bucket_folder import BucketFolder
from millrace.store.file_group import GroupEntry
from millrace.store.filesystem import FilesystemObjects
from millrace.store.group_process import GroupProcess

META = ObjectMeta(headers={"content-type": "image/png"})


@pytest.fixture
def bucket(tmp_path: Path) -> BucketFolder:
    """A bucket in a folder."""
    (tmp_path / "shop").mkdir()
    return BucketFolder("shop", tmp_path / "shop", tmp_path / ".millrace" / "shop", durable=False)


@pytest.fixture
def process() -> Iterator[GroupProcess]:
    """A process that is ended afterwards."""
    made = GroupProcess(groups=2)
    yield made
    made.close()


async def ready(process: GroupProcess) -> None:
    """Wait until a process has started."""
    while not process.is_ready:
        await asyncio.sleep(0)


def outputs(count: int, size: int = 10) -> list[SmallOutput]:
    return [SmallOutput(ObjectRef("shop", f"a/{number}"), b"%d" % number * size, "w") for number in range(count)]


def entries(count: int, size: int = 10, above: str = "a") -> list[GroupEntry]:
    return [GroupEntry(f"{above}/{number}", b"%d" % number * size, "w") for number in range(count)]


async def test_it_writes_what_the_store_reads(bucket: BucketFolder, process: GroupProcess, tmp_path: Path) -> None:
    """Objects are as if they had been written here, and what has no plain place is left."""
    await ready(process)
    odd = [*entries(100), GroupEntry("a//b", b"x", "")]
    assert await process.write(bucket, odd, META) == [100]
    assert await process.write(bucket, entries(3, size=5_000_000), META) == []
    store = FilesystemObjects(tmp_path)
    for ref, body, origin in outputs(100)[3:]:
        info = await store.get(ref)
        assert (info.meta.headers, info.meta.origin) == (META.headers, origin)
        assert (tmp_path / "shop" / ref.key).read_bytes() == body
    store.close()


async def test_one_that_is_gone_is_not_waited_for(bucket: BucketFolder, process: GroupProcess) -> None:
    """A group of a process that was killed is the caller's to write, and so are all later ones."""
    await ready(process)
    os.kill(process.pid, signal.SIGKILL)
    assert await process.write(bucket, entries(10), META) is None
    assert not process.is_ready


async def test_groups_are_written_side_by_side(bucket: BucketFolder, process: GroupProcess, tmp_path: Path) -> None:
    """More groups than it has at a time wait for their turn, and none of them has another one's objects."""
    await ready(process)
    names = [f"{number}" for number in range(5)]
    groups = [entries(300, size=number + 1, above=name) for number, name in enumerate(names)]
    assert await asyncio.gather(*(process.write(bucket, group, META) for group in groups)) == [[]] * 5
    for group in groups:
        for key, body, _ in group:
            assert (tmp_path / "shop" / key).read_bytes() == body


async def test_all_groups_of_one_that_is_gone_are_told(bucket: BucketFolder, process: GroupProcess) -> None:
    """Whoever waits for a group when the process is killed, or for a turn, is told that it was not written."""
    await ready(process)
    os.kill(process.pid, signal.SIGSTOP)
    groups = [asyncio.ensure_future(process.write(bucket, entries(10), META)) for _ in range(3)]
    await asyncio.sleep(0)
    os.kill(process.pid, signal.SIGKILL)
    assert await asyncio.gather(*groups) == [None] * 3


async def test_it_is_left_alone_with_facts_that_few_objects_have(bucket: BucketFolder, process: GroupProcess) -> None:
    """Tags, owners and the like are not told to it."""
    await ready(process)
    assert await process.write(bucket, entries(1), ObjectMeta(tags={"a": "b"})) is None
    assert process.is_ready


async def test_a_cancelled_group_is_waited_for(bucket: BucketFolder, process: GroupProcess, tmp_path: Path) -> None:
    """Whoever is cancelled goes on only when the process writes no more."""
    await ready(process)
    writing = asyncio.ensure_future(process.write(bucket, entries(200), META))
    await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert len(list((tmp_path / "shop" / "a").iterdir())) == 200


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FilesystemObjects]:
    """A store that has little written before it starts a process."""
    objects = FilesystemObjects(tmp_path / "objects", small_outputs_here=20)
    await objects.create_bucket("shop", region="us-east-1", owner="000000000000")
    yield objects
    objects.close()


async def test_a_store_starts_one_when_there_is_much_to_write(store: FilesystemObjects, tmp_path: Path) -> None:
    """From some number on, groups are written by another process, and nobody sees a difference."""
    small = store.small_objects()
    for _ in range(5):
        assert await small.write(outputs(30), META) == []
    for ref, body, _ in outputs(30):
        assert (tmp_path / "objects" / "shop" / ref.key).read_bytes() == body


WRITER = """
import asyncio, sys
from pathlib import Path
from millrace.names import ObjectRef
from millrace.ports.objects import ObjectMeta, SmallOutput
from millrace.store.filesystem import FilesystemObjects

async def main():
    store = FilesystemObjects(Path(sys.argv[1]), small_outputs_here=20)
    await store.create_bucket("shop", region="us-east-1", owner="000000000000")
    number = 0
    while True:
        outputs = [SmallOutput(ObjectRef("shop", f"a/{number + k}"), b"x" * 5000, "w") for k in range(200)]
        writes = [store.small_objects().write(outputs[at::2], ObjectMeta()) for at in range(2)]
        assert await asyncio.gather(*writes) == [[], []]
        number += 200
        print(number, store._small._apart.is_ready, flush=True)

asyncio.run(main())
"""


async def test_it_is_gone_with_its_parent_and_leaves_whole_objects(tmp_path: Path) -> None:
    """After a kill there are whole objects only, all that were told of among them, and no process that goes on.

    Two groups are written at a time.
    """
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writer = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert writer.stdout is not None
    assert writer.stderr is not None
    told = 0
    while (line := (await writer.stdout.readline()).split())[1] != b"True":
        told = int(line[0])
    told = int((await writer.stdout.readline()).split()[0])
    writer.kill()
    assert await writer.stderr.read() == b""  # which ends with the last process that has it
    await writer.wait()
    found = list((tmp_path / "shop" / "a").iterdir())
    assert {f"{number}" for number in range(told)} <= {path.name for path in found}
    assert {path.stat().st_size for path in found} == {5000}
