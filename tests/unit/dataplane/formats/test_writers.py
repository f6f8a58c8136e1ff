"""Outputs that are written in a format, in one go or after a crash."""

import gzip
from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path

import pytest

from millrace.dataplane.formats.compress import encoder_of
from millrace.dataplane.formats.kept_rows import Rows
from millrace.dataplane.formats.options import Codec
from millrace.dataplane.formats.unreadable import UnfitFormat
from millrace.dataplane.formats.writers import EncodedWriter, KeptTextWriter, encoded
from millrace.names import ObjectRef
from millrace.ports.objects import DraftHeld, DraftLost, NoSuchKey, ObjectWriter
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


async def test_a_compressed_output_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    """Text that is compressed when it is complete gives the bytes of text that is compressed on its way."""
    objects = await store()
    data = [b"%d," % n + b"x" * 50 + b"\n" for n in range(9000)]
    writer: ObjectWriter = EncodedWriter(await objects.open_writer(REF), encoder_of(Codec.ZSTD))
    for line in data:
        await writer.write(line)
    await writer.commit()
    undisturbed = objects.data(str(REF))

    def opened(at: int) -> KeptTextWriter:
        return KeptTextWriter(
            tmp_path / "text",
            at=at,
            open_writer=partial(objects.open_writer, REF),
            convert=partial(encoded, encoder=encoder_of(Codec.ZSTD)),
        )

    kept = opened(0)
    await kept.write(b"".join(data[:5000]))
    at = await kept.checkpoint()
    await kept.write(b"lost")
    await kept.suspend()
    kept = opened(at)
    await kept.write(b"".join(data[5000:]))
    await kept.commit()
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
    writer = KeptTextWriter(kept, open_writer=open_writer, convert=upper)
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

    writer = KeptTextWriter(kept, open_writer=open_writer, convert=upper)
    await writer.write(b"a\n")
    at = await writer.checkpoint()
    await writer.write(b"lost\n")
    await writer.suspend()
    writer = KeptTextWriter(kept, at=at, open_writer=open_writer, convert=upper)
    await writer.write(b"b\n")
    await writer.commit()
    assert objects.data(str(REF)) == b"4:A\nB\n"
    for size in (0, 1):
        if size:
            kept.write_bytes(b"a")
        with pytest.raises(DraftLost):
            KeptTextWriter(kept, at=2, open_writer=open_writer, convert=upper)


async def test_rows_that_are_no_table_leave_nothing(tmp_path: Path) -> None:
    """If the rows don't fit, that is raised by the commit, and nothing is visible; abort removes the rows."""
    objects = await store()
    kept = tmp_path / "rows"

    async def open_writer() -> ObjectWriter:
        return await objects.open_writer(REF)

    async def fail(rows: Rows) -> AsyncGenerator[bytes, None]:
        yield b"begun"
        raise UnfitFormat("no table")

    writer = KeptTextWriter(kept, open_writer=open_writer, convert=fail)
    await writer.write(b"a\n")
    with pytest.raises(UnfitFormat, match="no table"):
        await writer.commit()
    assert objects.open_writers == 0
    await writer.abort()
    assert not kept.exists()


async def test_two_writers_never_share_kept_text(tmp_path: Path) -> None:
    """Who has lost the work without knowing keeps its file: who begins anew gets another, who goes on is refused."""
    objects = await store()

    def opened(at: int) -> KeptTextWriter:
        return KeptTextWriter(
            tmp_path / "text",
            at=at,
            open_writer=partial(objects.open_writer, REF),
            convert=partial(encoded, encoder=encoder_of(Codec.GZIP)),
        )

    lost = opened(0)
    await lost.write(b"1\n")
    at = await lost.checkpoint()
    with pytest.raises(DraftHeld):
        opened(at)
    anew = opened(0)
    await anew.write(b"one\n")
    await lost.write(b"2\n")
    await lost.abort()
    await anew.write(b"two\n")
    await anew.commit()
    assert gzip.decompress(objects.data(str(REF))) == b"one\ntwo\n"
    assert list(tmp_path.iterdir()) == []
