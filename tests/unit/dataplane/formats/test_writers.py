"""Outputs that are written in a format, in one go or after a crash."""

import gzip
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.dataplane.formats.compress import encoder_of
from millrace.dataplane.formats.kept_rows import Rows
from millrace.dataplane.formats.options import Codec
from millrace.dataplane.formats.unreadable import UnfitFormat
from millrace.dataplane.formats.writers import EncodedWriter, TableFileWriter, whole_parts
from millrace.names import ObjectRef
from millrace.ports.objects import DraftLost, NoSuchKey, ObjectWriter
from millrace.testing.objects import MemoryObjects

REF = ObjectRef("shop", "out/a.out")


async def store() -> MemoryObjects:
    objects = MemoryObjects()
    await objects.create_bucket("shop", region="us-east-1", owner="0")
    return objects


async def test_an_output_is_compressed_on_its_way() -> None:
    """What is written is what is read again; the store gets the compressed bytes."""
    objects = await store()
    writer = EncodedWriter(await objects.open_writer(REF), encoder_of(Codec.GZIP))
    await writer.write(b"1\n")
    await writer.write(memoryview(b"2\n"))
    info = await writer.commit(origin="a job")
    assert gzip.decompress(objects.data(str(REF))) == b"1\n2\n"
    assert info.size == len(objects.data(str(REF)))


async def test_a_compressed_output_goes_on_at_its_checkpoint() -> None:
    """A process that is killed behind a checkpoint costs nothing but what came after: the object is the same."""
    objects = await store()

    async def opened(at: int) -> EncodedWriter:
        writer = await objects.open_resumable(REF, draft="d", at=at)
        return EncodedWriter(writer, encoder_of(Codec.ZSTD, resumed=at > 0))

    writer = await opened(0)
    await writer.write(b"one\n")
    await writer.checkpoint()
    await writer.write(b"two\n")
    await writer.commit()
    undisturbed = objects.data(str(REF))

    writer = await opened(0)
    await writer.write(b"one\n")
    kept = await writer.checkpoint()
    await writer.write(b"tw")
    await writer.suspend()
    writer = await opened(kept)
    await writer.write(b"two\n")
    await writer.commit()
    assert objects.data(str(REF)) == undisturbed


async def test_an_aborted_output_leaves_nothing() -> None:
    """Nothing is visible of a compressed output that is given up."""
    objects = await store()
    writer = EncodedWriter(await objects.open_writer(REF), encoder_of(Codec.GZIP))
    await writer.write(b"1\n")
    await writer.abort()
    assert objects.open_writers == 0
    with pytest.raises(NoSuchKey):
        objects.data(str(REF))


async def test_only_a_draft_has_checkpoints() -> None:
    """A writer whose bytes end with its process cannot be suspended."""

    class Plain:
        async def write(self, chunk: bytes | memoryview) -> None:
            """Take bytes."""

    writer = EncodedWriter(Plain(), encoder_of(Codec.GZIP))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="only a resumable writer can be suspended, got Plain"):
        await writer.suspend()


@given(st.lists(st.integers(0, 9), max_size=30), st.lists(st.integers(1, 5), max_size=8), st.integers(1, 20))
def test_parts_end_where_the_data_say(sizes: list[int], batches: list[int], part: int) -> None:
    """Parts end behind the same answers, however many answers come at a time."""

    def ends(batch_sizes: list[int]) -> list[int]:
        found, held, at = [], 0, 0
        for count in [*batch_sizes, len(sizes)]:
            batch = sizes[at : at + count]
            while cut := whole_parts(batch, held, part):
                at += cut
                found.append(at)
                batch, held = batch[cut:], 0
            held += sum(batch)
            at += len(batch)
        return found

    assert ends(batches) == ends([])
    assert all(sum(sizes[one:other]) >= part for one, other in zip([0, *ends([])], ends([]), strict=False))


async def upper(rows: Rows) -> AsyncGenerator[bytes, None]:
    """Stand for a conversion that reads the rows twice."""
    size = 0
    async for chunk in rows():
        size += len(chunk)
    yield b"%d:" % size
    async for chunk in rows():
        yield chunk.upper()


async def test_a_table_is_made_when_its_rows_are_complete(tmp_path: Path) -> None:
    """Rows are kept in a file, which is gone once the table is visible."""
    objects = await store()
    opened = []

    async def open_writer() -> ObjectWriter:
        opened.append(1)
        return await objects.open_writer(REF)

    kept = tmp_path / "rows"
    writer = TableFileWriter(kept, open_writer=open_writer, table=upper)
    await writer.write(b"a\n")
    await writer.write(memoryview(b"b\n"))
    assert not opened
    await writer.commit()
    assert objects.data(str(REF)) == b"4:A\nB\n"
    assert not kept.exists()
    await writer.abort()


async def test_rows_go_on_at_their_checkpoint(tmp_path: Path) -> None:
    """A later writer keeps the rows that a checkpoint told, and cuts off what came after."""
    objects = await store()
    kept = tmp_path / "rows"

    async def open_writer() -> ObjectWriter:
        return await objects.open_writer(REF)

    writer = TableFileWriter(kept, open_writer=open_writer, table=upper)
    await writer.write(b"a\n")
    at = await writer.checkpoint()
    await writer.write(b"lost\n")
    await writer.suspend()
    writer = TableFileWriter(kept, at=at, open_writer=open_writer, table=upper)
    await writer.write(b"b\n")
    await writer.commit()
    assert objects.data(str(REF)) == b"4:A\nB\n"
    for size in (0, 1):
        if size:
            kept.write_bytes(b"a")
        with pytest.raises(DraftLost):
            TableFileWriter(kept, at=2, open_writer=open_writer, table=upper)


async def test_rows_that_are_no_table_leave_nothing(tmp_path: Path) -> None:
    """If the rows don't fit, that is raised by the commit, and nothing is visible; abort removes the rows."""
    objects = await store()
    kept = tmp_path / "rows"

    async def open_writer() -> ObjectWriter:
        return await objects.open_writer(REF)

    async def fail(rows: Rows) -> AsyncGenerator[bytes, None]:
        yield b"begun"
        raise UnfitFormat("no table")

    writer = TableFileWriter(kept, open_writer=open_writer, table=fail)
    await writer.write(b"a\n")
    with pytest.raises(UnfitFormat, match="no table"):
        await writer.commit()
    assert objects.open_writers == 0
    await writer.abort()
    assert not kept.exists()
