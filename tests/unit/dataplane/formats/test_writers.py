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
from millrace.dataplane.formats.writers import DraftText, EncodedWriter, FileText, KeptTextWriter, encoded
from millrace.names import ObjectRef
from millrace.ports.objects import NoSuchKey, ObjectWriter
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


async def draft_text(objects: MemoryObjects, at: int = 0) -> DraftText:
    """Return text in a draft of which `at` bytes are kept."""
    draft = await objects.open_resumable(REF, draft="rows", at=at)

    async def read(length: int) -> AsyncGenerator[bytes, None]:
        if length:
            async for chunk in objects.read_draft("shop", "rows", length=length):
                yield chunk

    return DraftText(draft, read)


async def test_a_compressed_output_goes_on_as_if_nothing_had_happened() -> None:
    """Text that is compressed when it is complete gives the bytes of text that is compressed on its way."""
    objects = await store()
    data = [b"%d," % n + b"x" * 50 + b"\n" for n in range(9000)]
    writer: ObjectWriter = EncodedWriter(await objects.open_writer(REF), encoder_of(Codec.ZSTD))
    for line in data:
        await writer.write(line)
    await writer.commit()
    undisturbed = objects.data(str(REF))

    async def opened(at: int) -> KeptTextWriter:
        return KeptTextWriter(
            await draft_text(objects, at),
            open_writer=partial(objects.open_writer, REF),
            convert=partial(encoded, encoder=encoder_of(Codec.ZSTD)),
        )

    kept = await opened(0)
    await kept.write(b"".join(data[:5000]))
    at = await kept.checkpoint()
    await kept.write(b"lost")
    await kept.suspend()
    kept = await opened(at)
    await kept.write(b"".join(data[5000:]))
    await kept.commit()
    assert objects.data(str(REF)) == undisturbed
    assert not objects.drafts.kept


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


@pytest.mark.parametrize("in_draft", [True, False])
async def test_a_table_is_made_when_its_rows_are_complete(in_draft: bool, tmp_path: Path) -> None:
    """Rows are kept in a draft or a file, which is gone once the table is visible."""
    objects = await store()
    opened = []

    async def open_writer() -> ObjectWriter:
        opened.append(1)
        return await objects.open_writer(REF)

    text = await draft_text(objects) if in_draft else FileText(tmp_path / "rows")
    writer = KeptTextWriter(text, open_writer=open_writer, convert=upper)
    await writer.write(b"a\n")
    await writer.write(memoryview(b"b\n"))
    assert not opened
    await writer.commit()
    assert objects.data(str(REF)) == b"4:A\nB\n"
    assert list(tmp_path.iterdir()) == []
    assert not objects.drafts.kept
    await writer.abort()


async def test_a_file_of_rows_ends_with_its_process(tmp_path: Path) -> None:
    """Nobody can go on with a file: a writer that is suspended leaves none."""
    objects = await store()
    writer = KeptTextWriter(FileText(tmp_path / "rows"), open_writer=partial(objects.open_writer, REF), convert=upper)
    await writer.write(b"a\n")
    await writer.suspend()
    assert list(tmp_path.iterdir()) == []


async def test_rows_that_are_no_table_are_kept() -> None:
    """If the rows don't fit, that is raised by the commit, and nothing is visible; abort removes the rows."""
    objects = await store()

    async def fail(rows: Rows) -> AsyncGenerator[bytes, None]:
        yield b"begun"
        raise UnfitFormat("no table")

    writer = KeptTextWriter(await draft_text(objects), open_writer=partial(objects.open_writer, REF), convert=fail)
    await writer.write(b"a\n")
    with pytest.raises(UnfitFormat, match="no table"):
        await writer.commit()
    assert objects.open_writers == 0
    assert objects.drafts.kept == {("shop", "rows"): b"a\n"}
    await writer.abort()
    assert not objects.drafts.kept
