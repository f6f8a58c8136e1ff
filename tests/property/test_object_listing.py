"""Listing is what a plain model says, for any keys."""

import asyncio
import tempfile
from collections.abc import Iterable
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.names import ObjectRef
from millrace.store.filesystem import FilesystemObjects
from millrace.store.key_paths import alternate_segments, escape, plain_segments, unescape
from millrace.testing.contract_objects import chunks_of

KEYS = st.one_of(
    # Few different pieces, so that keys share folders, collide with them, and cannot be paths.
    st.lists(st.sampled_from(["a", "b", "a.", ".", "..", "", "é", "a!", "a0", "~", "%"]), min_size=1, max_size=4)
    .map("/".join)
    .filter(bool),
    st.text(min_size=1, max_size=12).filter(lambda key: _is_utf8(key)),
    st.integers(195, 410).map(lambda size: "k" * size),
)


PREFIXES = ("", "a", "a/", "/", "a/b/", ".", "a//", "k" * 200, "é")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def model(keys: Iterable[str], prefix: str, delimiter: str, after: str) -> list[str]:
    """Return keys and common prefixes as S3 lists them."""
    entries = set()
    for key in keys:
        if not key.startswith(prefix):
            continue
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        entries.add(key if cut < 0 else key[: cut + len(delimiter)])
    if delimiter and after.startswith(prefix) and (cut := after.find(delimiter, len(prefix))) >= 0:
        after = after[: cut + len(delimiter)]
    return sorted((entry for entry in entries if entry.encode() > after.encode()), key=str.encode)


@settings(max_examples=60)
@given(
    keys=st.sets(KEYS, min_size=1, max_size=12),
    deleted=st.sets(st.integers(0, 11)),
    prefixes=st.lists(
        st.sampled_from(["", "a", "a/", "/", "a/b/", ".", "a//", "k" * 200, "é"]), min_size=1, max_size=3
    ),
    delimiter=st.sampled_from(["", "/", "/", "a", "//", "."]),
    limit=st.integers(1, 4),
    after=st.one_of(st.just(""), KEYS),
)
def test_pages_together_are_the_listing(
    keys: set[str], deleted: set[int], prefixes: list[str], delimiter: str, limit: int, after: str
) -> None:
    """Any keys list back sorted, in pages of any size, with prefixes and delimiters as the model has them."""

    async def check(root: Path) -> None:
        store = FilesystemObjects(root, durable=False)
        await store.create_bucket("box", region="us-east-1", owner="1")
        for key in sorted(keys):
            await store.put(ObjectRef("box", key), chunks_of(key.encode()))
        gone = {key for index, key in enumerate(sorted(keys)) if index in deleted}
        for key in gone:
            assert await store.delete(ObjectRef("box", key))
        for prefix in prefixes:
            seen: list[str] = []
            position: str | None = after
            while position is not None:
                page = await store.list_objects("box", prefix=prefix, delimiter=delimiter, after=position, limit=limit)
                entries = [*(info.ref.key for info in page.objects), *page.common_prefixes]
                assert len(entries) <= limit
                assert page.next_after is None or len(entries) == limit
                assert all(info.size == len(info.ref.key.encode()) for info in page.objects)
                seen += sorted(entries, key=str.encode)
                position = page.next_after
            assert seen == model(keys - gone, prefix, delimiter, after)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(check(Path(folder) / "objects"))


@given(st.binary(max_size=600))
def test_an_alternate_path_gives_the_key_back(key: bytes) -> None:
    """Escaping loses nothing, and no name is too long for a file or stands for a folder."""
    assert unescape(escape(key)) == key
    if key:
        segments = alternate_segments(key)
        name = b"".join([*(segment.removesuffix(b"+") for segment in segments[:-1]), segments[-1]])
        assert unescape(name.decode("ascii")) == key
        assert all(1 <= len(segment) <= 201 and segment not in (b".", b"..") for segment in segments)
        assert all(b"/" not in segment and b"\0" not in segment for segment in segments)


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_escaping_keeps_order(one: bytes, other: bytes) -> None:
    """Escaped names sort, and start with one another, as the keys do."""
    assert (escape(one) < escape(other)) == (one < other)
    assert escape(other).startswith(escape(one)) == other.startswith(one)


@given(st.binary(min_size=1, max_size=30))
def test_a_plain_path_stays_inside(key: bytes) -> None:
    """A plain path joins back to the key and never climbs."""
    segments = plain_segments(key)
    if segments is not None:
        assert b"/".join(segments) == key
        assert not {b"", b".", b".."} & set(segments)
