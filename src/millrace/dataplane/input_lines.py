"""Put objects of a job's input into lines, and make them again of these. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from sys import intern
from typing import NamedTuple

import orjson

from millrace.dataplane.plan import InputObject
from millrace.dataplane.ranges import InputRange
from millrace.names import ObjectRef

__all__ = ["LineTotals", "count_ranges", "decode_inputs", "encode_inputs", "line_sizes", "line_totals"]

_RANGE = 7
"""Where in a line it is told which range of its object it is, if it is one."""


class LineTotals(NamedTuple):
    """What lines come to: objects (see `count_objects`), bytes, and whether there are ranges among them."""

    objects: int
    size: int
    is_cut: bool


def encode_inputs(inputs: Sequence[InputObject]) -> bytes:
    """Return a line for each object, or range of one, from which `decode_inputs` makes it again."""
    lines = []
    for entry in inputs:
        part = entry.range
        told: list[object] = [
            entry.ref.bucket,
            entry.ref.key,
            entry.size,
            entry.version,
            entry.output.bucket,
            entry.output.key,
            entry.refused,
        ]
        if part is not None:
            told += (part.index, part.count, part.start, part.end, part.object_size)
        lines.append(orjson.dumps(told) + b"\n")
    return b"".join(lines)


def decode_inputs(text: bytes) -> list[InputObject]:
    """Return the objects of whole lines."""
    inputs = []
    for line in text.splitlines():
        bucket, key, size, version, output_bucket, output_key, refused, *part = orjson.loads(line)
        inputs.append(
            InputObject(
                ref=ObjectRef(bucket, key),
                size=size,
                version=version,
                output=ObjectRef(output_bucket, output_key),
                refused=refused,
                range=_range(*part) if part else None,
            )
        )
    return inputs


def line_sizes(lines: Iterable[bytes]) -> Iterator[int]:
    """Yield the size of the object, or range, of each line."""
    return (orjson.loads(line)[2] for line in lines)


def line_totals(lines: Iterable[bytes]) -> LineTotals:
    """Return what lines come to, in a third of the time that it takes to decode them."""
    objects = size = 0
    is_cut = False
    for line in lines:
        told = orjson.loads(line)
        size += told[2]
        is_cut = is_cut or len(told) > _RANGE
        objects += len(told) == _RANGE or told[_RANGE] == 0
    return LineTotals(objects, size, is_cut)


def count_ranges(lines: Iterable[bytes]) -> Counter[ObjectRef]:
    """Return how many of the lines are ranges of each object, by its output."""
    told = (orjson.loads(line) for line in lines)
    return Counter(ObjectRef(intern(it[4]), it[5]) for it in told if len(it) > _RANGE)


def _range(index: int, count: int, start: int, end: int, object_size: int) -> InputRange:
    return InputRange(index=index, count=count, start=start, end=end, object_size=object_size)
