"""Tests of listing, naming, manifests and assignment."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.dataplane.manifest import parse_manifest
from millrace.dataplane.plan import (
    OBJECT_COST_BYTES,
    InputObject,
    assign,
    check_manifest,
    has_input,
    list_inputs,
)
from millrace.errors import ClientFailure
from millrace.jobs.transform import MIB, SourceType, TransformSpec
from millrace.jobs.transform_options import Scheduling
from millrace.names import ObjectPrefix, ObjectRef
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


def sized(*sizes: int) -> list[InputObject]:
    """Return inputs of these sizes, in key order."""
    return [
        InputObject(ref=ObjectRef("b", f"{n:04}"), size=size, output=ObjectRef("b", f"{n:04}.out"))
        for n, size in enumerate(sizes)
    ]


def test_instances_take_every_nth_object_where_they_are_asked_to() -> None:
    """Keys are dealt out in turn; every object goes to exactly one instance."""
    shares = [assign(sized(*range(7)), index, 3, Scheduling.MODULO) for index in range(3)]
    assert [[entry.size for entry in share] for share in shares] == [[0, 3, 6], [1, 4], [2, 5]]


def test_objects_of_one_size_are_dealt_out_in_turn() -> None:
    """Balanced shares are then the same, however many objects there are, and however small they are."""
    for size in (0, 7, 10**12):
        inputs = sized(*[size] * 7)
        for index in range(3):
            assert assign(inputs, index, 3) == assign(inputs, index, 3, Scheduling.MODULO)


def test_large_objects_go_to_different_instances() -> None:
    """The largest first, each to whoever has the least to do; within an instance they stay in key order."""
    shares = [assign(sized(60 * MIB, MIB, MIB, 61 * MIB, MIB, 30 * MIB, MIB), index, 3) for index in range(3)]
    assert [[entry.size // MIB for entry in share] for share in shares] == [[61], [60], [1, 1, 1, 30, 1]]


@given(st.lists(st.integers(0, 2**40)), st.integers(1, 100), st.sampled_from(Scheduling))
def test_every_object_is_taken_once(sizes: list[int], count: int, scheduling: Scheduling) -> None:
    """Whatever the sizes are; and the busiest instance has at most an object more to do than the average."""
    inputs = sized(*sizes)
    shares = [assign(inputs, index, count, scheduling) for index in range(count)]
    assert sorted(entry.ref.key for share in shares for entry in share) == [entry.ref.key for entry in inputs]
    assert all(share == sorted(share, key=lambda entry: entry.ref.key) for share in shares)
    if sizes and scheduling is Scheduling.BALANCED:
        loads = [sum(entry.size + OBJECT_COST_BYTES for entry in share) for share in shares]
        assert max(loads) <= sum(loads) / count + max(sizes) + OBJECT_COST_BYTES


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


def test_a_manifest_concatenates_and_counts_once() -> None:
    """Key is prefix and entry without a separator; a later prefix holds for later entries; duplicates count once."""
    text = b'[{"prefix":"s3://b/p"},"/a","/a",{"prefix":"s3://c/q/"},"x/b"]'
    found = [(str(entry.ref), entry.relative) for entry in parse_manifest(text, "m")]
    assert found == [("s3://b/p/a", "a"), ("s3://c/q/x/b", "x/b")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "manifest m is no JSON"),
        (b"{}", "manifest m must be a JSON array whose first element"),
        (b"[]", "manifest m must be a JSON array whose first element"),
        (b'["a"]', "manifest m must be a JSON array whose first element"),
        (b'[{"prefix":"p/"},"a"]', r"element 0 must hold \"prefix\", an s3://bucket/prefix, got 'p/'"),
        (b"[{}]", r"element 0 must hold \"prefix\", an s3://bucket/prefix, got None"),
        (b'[{"prefix":"s3://b/"},7]', "element 1 must be the key of an object, got 7"),
        (b'[{"prefix":"s3://b/"},""]', "element 1 must be the key of an object, got ''"),
    ],
)
def test_a_malformed_manifest_names_the_element(text: bytes, message: str) -> None:
    """What is wrong with a manifest is told with the element's number."""
    with pytest.raises(ClientFailure, match=message):
        parse_manifest(text, "m")


async def test_a_manifest_with_a_byte_order_mark_is_read() -> None:
    """Editors of Windows write one."""
    assert parse_manifest(b'\xef\xbb\xbf[{"prefix": "s3://b/"}, "a"]', "m")[0].ref == ObjectRef("b", "a")


@pytest.mark.parametrize("text", [b"", b"{}", b"[1]", b'["a.csv"]', b"\xff\xfe"])
async def test_the_create_call_checks_the_manifest(text: bytes) -> None:
    """What can't be read as a manifest is told at once."""
    objects = MemoryObjects()
    objects.add("s3://b/m.json", text)
    with pytest.raises(ClientFailure, match=r"manifest s3://b/m\.json"):
        await check_manifest(objects, spec("m.json", SourceType.MANIFEST))
