"""Tests of manifests and assignment."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.dataplane.manifest import parse_manifest
from millrace.dataplane.plan import (
    COMPARED_OUTPUTS,
    OBJECT_COST_BYTES,
    InputObject,
    assign,
    check_outputs,
)
from millrace.dataplane.ranges import cut
from millrace.errors import ClientFailure
from millrace.jobs.transform import MIB
from millrace.jobs.transform_options import Scheduling
from millrace.names import ObjectRef


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


def test_two_inputs_of_one_output_are_found_among_many() -> None:
    """However far they are apart; the first two are told. Ranges of one object are no two inputs."""
    inputs = sized(*[1] * (2 * COMPARED_OUTPUTS))
    ranges = [replace(inputs[7], range=part) for part in cut(100, 10)]
    check_outputs([*inputs[:7], *ranges, *inputs[8:]])
    inputs[60_001] = replace(inputs[60_001], output=inputs[5].output)
    inputs[-1] = replace(inputs[-1], output=inputs[9].output)
    with pytest.raises(ClientFailure, match=r"s3://b/0005 and s3://b/60001 would both be written to s3://b/0005\.out"):
        check_outputs(inputs)


def test_a_manifest_concatenates_and_counts_once() -> None:
    """Key is prefix and entry without a separator; a later prefix holds for later entries; duplicates count once."""
    text = b'[{"prefix":"s3://b/p"},"/a","/a",{"prefix":"s3://c/q/"},"x/b"]'
    found = [(str(entry.ref), entry.relative) for entry in parse_manifest(text, "m")]
    assert found == [("s3://b/p/a", "a"), ("s3://c/q/x/b", "x/b")]


@pytest.mark.parametrize(
    ("prefix", "entry", "ref"),
    [
        ("s3://b", "/x/a", ObjectRef("b", "x/a")),
        ("s3://b", "a", ObjectRef("b", "a")),
        ("s3://b/", "/a", ObjectRef("b", "/a")),
        ("s3://b/b", "/a", ObjectRef("b", "b/a")),
    ],
)
def test_a_prefix_may_end_with_the_bucket(prefix: str, entry: str, ref: ObjectRef) -> None:
    """A slash that an entry begins with ends the bucket's name, where the prefix has none behind it."""
    assert parse_manifest(json.dumps([{"prefix": prefix}, entry]).encode(), "m")[0].ref == ref


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
