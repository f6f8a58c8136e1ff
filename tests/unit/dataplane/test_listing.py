"""Tests of listing a job's input, whole and ahead."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from millrace.dataplane.inputs import Inputs
from millrace.dataplane.listing import check_manifest, has_input, list_ahead, list_inputs, list_whole
from millrace.dataplane.plan import InputObject
from millrace.errors import ClientFailure
from millrace.jobs.transform import DataCapture, SourceType, TransformSpec
from millrace.names import ObjectPrefix
from millrace.ports.objects import ListPage
from millrace.testing.objects import MemoryObjects


def spec(prefix: str, source_type: SourceType = SourceType.PREFIX) -> TransformSpec:
    return TransformSpec(
        model="m", source=ObjectPrefix("b", prefix), source_type=source_type, output=ObjectPrefix("b", "out")
    )


async def test_inputs_that_share_an_output_are_named() -> None:
    """A partial-name prefix under which two objects would have one output fails the job, naming both."""
    objects = MemoryObjects()
    for key in ("in/test/test_small/b.csv", "in/test_small/b.csv"):
        objects.add(f"s3://b/{key}", b"1")
    with pytest.raises(ClientFailure) as caught:
        await list_inputs(objects, spec("in/test"))
    assert str(caught.value) == (
        "s3://b/in/test/test_small/b.csv and s3://b/in/test_small/b.csv would both be written to "
        "s3://b/out/test_small/b.csv.out"
    )


async def test_inputs_are_listed_in_byte_order_over_all_pages() -> None:
    """More objects than fit on one page of a listing are all found, in order of their keys' bytes."""
    objects = MemoryObjects()
    keys = [f"in/{n}" for n in range(2100)] + ["in/é", "in/z"]
    for key in keys:
        objects.add(f"s3://b/{key}", b"12")
    found = await list_inputs(objects, spec("in/"))
    assert [entry.ref.key for entry in found] == sorted(keys, key=str.encode)
    assert {entry.size for entry in found} == {2}


async def test_a_missing_bucket_is_named() -> None:
    """An input bucket that does not exist is the client's error."""
    with pytest.raises(ClientFailure, match="bucket b of s3://b/in does not exist"):
        await list_inputs(MemoryObjects(), spec("in"))


async def test_whether_there_is_input_is_told_cheaply() -> None:
    """A prefix needs one object, even a marker; a manifest needs to exist."""
    objects = MemoryObjects()
    assert not await has_input(objects, spec("in/"))
    objects.add("s3://b/in/", b"")
    assert await has_input(objects, spec("in/"))
    assert not await has_input(objects, spec("other"))
    assert not await has_input(objects, spec("m.json", SourceType.MANIFEST))
    assert not await has_input(objects, spec("", SourceType.MANIFEST))
    objects.add("s3://b/m.json", b"[]")
    assert await has_input(objects, spec("m.json", SourceType.MANIFEST))


async def test_a_missing_manifest_is_named() -> None:
    """A manifest that does not exist fails the job with its name."""
    objects = MemoryObjects()
    objects.add("s3://b/x", b"")
    with pytest.raises(ClientFailure, match=r"manifest s3://b/m\.json does not exist"):
        await list_inputs(objects, spec("m.json", SourceType.MANIFEST))


async def test_folders_in_a_manifest_are_no_input() -> None:
    """As below a prefix: markers are left out; an object with bytes whose key ends so is one like any other."""
    objects = MemoryObjects()
    for key, data in (("p/", b""), ("p/marker/", b""), ("p/full/", b"1"), ("q/", b"1"), ("//", b"1")):
        objects.add(f"s3://b/{key}", data)
    manifest = (
        b'[{"prefix":"s3://b/p"},"/","/marker/","/full/","/gone/",{"prefix":"s3://b/q"},"/",{"prefix":"s3://b/"},"//"]'
    )
    objects.add("s3://b/m.json", manifest)
    found = await list_inputs(objects, spec("m.json", SourceType.MANIFEST))
    assert [(entry.ref.key, entry.output.key) for entry in found if entry.refused is None] == [
        ("p/full/", "out/full/.out"),
        ("p/gone/", "out/gone/.out"),
        ("q/", "out/q.out"),
    ]
    [refused] = [entry for entry in found if entry.refused is not None]
    assert refused.refused == 'its key has no name that its output could be called by, got "//"'


async def test_an_object_that_is_the_prefix_has_its_name() -> None:
    """Also if that ends in a slash, as long as it is no mere marker."""
    objects = MemoryObjects()
    objects.add("s3://b/in/", b"1")
    objects.add("s3://b/in/a", b"1")
    found = await list_inputs(objects, spec("in/"))
    assert [entry.output.key for entry in found] == ["out/in.out", "out/a.out"]


@pytest.mark.parametrize("text", [b"", b"{}", b"[1]", b'["a.csv"]', b"\xff\xfe"])
async def test_the_create_call_checks_the_manifest(text: bytes) -> None:
    """What can't be read as a manifest is told at once."""
    objects = MemoryObjects()
    objects.add("s3://b/m.json", text)
    with pytest.raises(ClientFailure, match=r"manifest s3://b/m\.json"):
        await check_manifest(objects, spec("m.json", SourceType.MANIFEST))


async def taken(inputs: Inputs) -> list[InputObject]:
    """Return all objects, as somebody takes them."""
    found: list[InputObject] = []
    async with inputs:
        while entries := await inputs.take():
            found += entries
    assert (inputs.objects, inputs.size) == (len(found), sum(entry.size for entry in found))
    assert inputs.is_complete
    return found


def stored(keys: Sequence[str]) -> MemoryObjects:
    """Return a store of objects with a byte or two each."""
    objects = MemoryObjects()
    for key in keys:
        objects.add(f"s3://b/{key}", b"12"[: 1 + len(key) % 2])
    return objects


SOME_KEYS = st.lists(st.text("a/-b", min_size=1, max_size=7), min_size=1, max_size=12, unique=True)


@example(["a", "a/"], "a", 1)  # both are called by their last name
@given(SOME_KEYS, st.sampled_from(["", "a", "a/", "a/b", "a/a", "a-", "a//"]), st.integers(1, 4))
async def test_what_is_listed_ahead_is_what_a_whole_listing_finds(keys: list[str], prefix: str, page: int) -> None:
    """Whatever the keys, the prefix and the pages; inputs that share an output are found before any is taken."""
    objects = stored(keys)
    try:
        expected = await list_inputs(objects, spec(prefix))
    except ClientFailure as exc:
        for listing in (
            list_ahead(objects, spec(prefix), Path(), page_objects=page),
            list_whole(objects, spec(prefix), Path()),
        ):
            with pytest.raises(ClientFailure) as caught:
                await listing
            assert str(caught.value) == str(exc)
        return
    assert await taken(await list_ahead(objects, spec(prefix), Path(), page_objects=page)) == expected
    with await list_whole(objects, spec(prefix), Path()) as whole:
        assert list(whole) == expected


@given(st.lists(st.sampled_from(["a", "b/a", "/a", "b", "b/b/a", "c"]), min_size=1), st.sampled_from(["", "a", "b/"]))
async def test_a_manifest_that_is_kept_is_what_was_listed(entries: list[str], prefix: str) -> None:
    """In key order; entries of two prefixes that share an output are found."""
    objects = stored(["a", "aa", "ab/a", "b/a", "b/b/a", "c"])
    second: list[object] = [{"prefix": f"s3://b/{prefix}"}, *entries]
    objects.add("s3://b/m.json", json.dumps([{"prefix": "s3://b/"}, *entries, *second]).encode())
    asked = spec("m.json", SourceType.MANIFEST)
    try:
        expected = await list_inputs(objects, asked)
    except ClientFailure as exc:
        with pytest.raises(ClientFailure) as caught:
            await list_whole(objects, asked, Path())
        assert str(caught.value) == str(exc)
        return
    with await list_whole(objects, asked, Path()) as whole:
        assert list(whole) == expected


class HeldPages(MemoryObjects):
    """A store that holds each page of a listing but the first ones until it is let go; it counts them."""

    def __init__(self, free: int) -> None:
        super().__init__()
        self.free = free
        self.pages = 0
        self.go = asyncio.Event()

    async def list_objects(
        self, bucket: str, *, prefix: str = "", after: str = "", delimiter: str = "", limit: int = 1000
    ) -> ListPage:
        """Return a page once it is its turn."""
        self.pages += 1
        if self.pages > self.free:
            await self.go.wait()
        return await super().list_objects(bucket, prefix=prefix, after=after, delimiter=delimiter, limit=limit)


async def test_the_first_page_is_there_before_the_last_is_listed() -> None:
    """As soon as it is listed; the totals tell of no more, and that there is more."""
    objects = HeldPages(free=2)  # the first page, and the look whether two can share an output
    for number in range(10):
        objects.add(f"s3://b/in/{number}", b"1")
    async with await list_ahead(objects, spec("in/"), Path(), page_objects=4) as inputs:
        first = await inputs.take()
        assert [entry.ref.key for entry in first] == [f"in/{number}" for number in range(4)]
        assert (inputs.objects, inputs.size, inputs.is_complete) == (4, 4, False)
        objects.go.set()
        rest = [*await inputs.take(), *await inputs.take()]
        assert [entry.ref.key for entry in rest] == [f"in/{number}" for number in range(4, 10)]
        assert not await inputs.take()


OUTPUTS_AMONG_INPUTS = [
    ("in/", "in"),
    ("in/", "in/out"),
    ("i", "in/out"),
    ("in/a", "in"),
    ("", "out"),
    ("in/a", ""),
]


@pytest.mark.parametrize(("source", "output"), OUTPUTS_AMONG_INPUTS)
async def test_a_job_that_writes_below_its_input_lists_it_before(source: str, output: str) -> None:
    """Else its outputs were found as its inputs, and theirs again."""
    objects = stored([f"in/a{number}" for number in range(9)])
    asked = replace(spec(source), output=ObjectPrefix("b", output))
    assert (await list_ahead(objects, asked, Path(), page_objects=4)).is_complete
    captured = replace(spec(source), capture=DataCapture(destination=ObjectPrefix("b", output)))
    assert (await list_ahead(objects, captured, Path(), page_objects=4)).is_complete


@pytest.mark.parametrize(("source", "output"), [("in/", "into"), ("in/", "out"), ("in/a", "in/b"), ("in/a", "in/b/a")])
async def test_a_job_that_writes_elsewhere_lists_ahead(source: str, output: str) -> None:
    """Also if the names have a beginning in common."""
    objects = stored([f"in/a{number}" for number in range(9)])
    asked = replace(spec(source), output=ObjectPrefix("b", output))
    assert not (await list_ahead(objects, asked, Path(), page_objects=4)).is_complete


async def test_an_output_that_would_be_shared_since_a_moment_fails_the_job() -> None:
    """An object that was not there when the listing began, and that may take the output of another."""
    objects = HeldPages(free=3)  # the first page, and two looks whether two can share an output
    for number in range(9):
        objects.add(f"s3://b/in/a-{number}", b"1")
    async with await list_ahead(objects, spec("in/a"), Path(), page_objects=4) as inputs:
        assert len(await inputs.take()) == 4
        objects.add("s3://b/in/a/a-8", b"1")
        objects.go.set()
        with pytest.raises(ClientFailure, match=r"while s3://b/in/a was listed, s3://b/in/a/a-8 was written"):
            while await inputs.take():
                pass
