"""Laws of compressing outputs and decompressing inputs."""

import gzip
from collections.abc import AsyncGenerator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.dataplane.formats.compress import BLOCK_BYTES, encoder_of
from millrace.dataplane.formats.decompress import codec_of, decompressed
from millrace.dataplane.formats.options import Codec, InputCompression
from millrace.dataplane.formats.unreadable import UNREADABLE
from millrace.dataplane.zstd import CorruptZstd, unzstd
from millrace.jobs.transform import Compression

texts = st.one_of(
    st.binary(max_size=500),
    st.builds(bytes.__mul__, st.binary(min_size=1, max_size=50), st.integers(1, 8000)),
)


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut data anywhere."""
    edges = [0, *sorted(at % (len(data) + 1) for at in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


async def stream(chunks: list[bytes]) -> AsyncGenerator[bytes, None]:
    for chunk in chunks:
        yield chunk


async def plain(compressed: list[bytes], codec: Codec, chunk_bytes: int = 1000) -> bytes:
    """Return what is read of a compressed object, and check that chunks are not too long."""
    pieces = [piece async for piece in decompressed(stream(compressed), codec, chunk_bytes=chunk_bytes)]
    assert all(0 < len(piece) <= chunk_bytes for piece in pieces)
    return b"".join(pieces)


cuts = st.lists(st.integers(0, 1 << 20), max_size=6)


@given(st.sampled_from(Codec), texts, cuts, cuts)
async def test_what_was_compressed_is_read_again(codec: Codec, data: bytes, one: list[int], other: list[int]) -> None:
    """However bytes are cut on the way in and on the way out, the same bytes come back."""
    encoder = encoder_of(codec)
    compressed = b"".join([encoder.compress(piece) for piece in cut(data, one)]) + encoder.finish()
    assert await plain(cut(compressed, other), codec) == data
    assert compressed  # an empty output too is a file of its format


@given(st.sampled_from(Codec), texts, cuts, cuts)
def test_chunks_do_not_show_in_compressed_bytes(codec: Codec, data: bytes, one: list[int], other: list[int]) -> None:
    """The same bytes are compressed to the same bytes, however they were cut."""
    results = set()
    for pieces in (cut(data, one), cut(data, other)):
        encoder = encoder_of(codec)
        results.add(b"".join([encoder.compress(piece) for piece in pieces]) + encoder.finish())
    assert len(results) == 1


@given(st.sampled_from(Codec), texts, texts, cuts)
async def test_an_output_goes_on_behind_the_last_part(codec: Codec, one: bytes, other: bytes, at: list[int]) -> None:
    """A new encoder that goes on behind a part writes what the old one would have written."""
    undisturbed = encoder_of(codec)
    kept = undisturbed.compress(one) + undisturbed.end_part()
    rest = undisturbed.compress(other) + undisturbed.finish()
    resumed = encoder_of(codec, resumed=bool(one))
    assert b"".join([resumed.compress(piece) for piece in cut(other, at)]) + resumed.finish() == rest
    assert await plain([kept + rest], codec) == one + other


def test_parts_of_gzip_are_members_for_other_readers() -> None:
    """Python's own reader takes parts as one file; nothing tells when it was written."""
    encoder = encoder_of(Codec.GZIP)
    data = b"0123456789" * BLOCK_BYTES
    parts = (
        encoder.compress(data) + encoder.end_part() + encoder.end_part() + encoder.compress(b"end") + encoder.finish()
    )
    assert gzip.decompress(parts) == data + b"end"
    assert parts[4:8] == bytes(4)


@given(st.sampled_from(Codec), st.binary(max_size=300), texts, st.integers(0, 1 << 20))
async def test_damage_is_told(codec: Codec, noise: bytes, data: bytes, at: int) -> None:
    """Whatever the bytes are, they are read or the damage is told: nothing else is raised."""
    encoder = encoder_of(codec)
    whole = encoder.compress(data) + encoder.finish()
    at %= len(whole)
    for damaged in (noise, whole[:at] + noise + whole[at:], whole[:at], whole + noise):
        try:
            await plain([damaged], codec)
        except UNREADABLE as exc:
            assert str(exc).startswith(f"Failed to decompress {codec}")


async def test_damage_of_zstd_is_told_by_its_place() -> None:
    """The message has the frame's first byte, and about where in it the damage is."""
    encoder = encoder_of(Codec.ZSTD)
    first = encoder.compress(b"x") + encoder.end_part()
    with pytest.raises(CorruptZstd, match=f"in the frame that begins at byte {len(first)}, .*: Unknown frame desc"):
        await plain([first + b"garbage"], Codec.ZSTD)
    with pytest.raises(CorruptZstd, match=f"the data ends at byte {len(first) - 1}, before the end of the frame"):
        await plain([first[:-1]], Codec.ZSTD)


async def test_a_window_that_is_too_long_is_refused() -> None:
    """A frame that asks for 2 GiB of memory is refused before any is taken."""
    header = b"\x28\xb5\x2f\xfd\x00" + bytes([(31 - 10) << 3])
    with pytest.raises(CorruptZstd, match="requires too much memory"):
        _ = [piece async for piece in unzstd(stream([header + bytes(100)]), chunk_bytes=100)]


@pytest.mark.parametrize(
    ("key", "given", "codec"),
    [
        ("a.csv.gz", None, None),
        ("a.csv.gz", InputCompression.AUTO, Codec.GZIP),
        ("a.csv.ZST", InputCompression.AUTO, Codec.ZSTD),
        ("a.zstd", InputCompression.AUTO, Codec.ZSTD),
        ("gz", InputCompression.AUTO, None),
        ("a.csv", InputCompression.AUTO, None),
        ("a.csv", InputCompression.ZSTD, Codec.ZSTD),
    ],
)
def test_keys_tell_the_compression_where_they_are_asked(
    key: str, given: InputCompression | None, codec: Codec | None
) -> None:
    """Only `auto` looks at the end of a key; else the job's word holds for all of them."""
    assert codec_of(key, Compression.NONE, given) is codec


def test_the_wire_member_holds_without_a_variable() -> None:
    """CompressionType alone is as on SageMaker: gzip for every object."""
    assert codec_of("a.csv", Compression.GZIP, None) is Codec.GZIP
