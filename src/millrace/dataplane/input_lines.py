"""Put objects of a job's input into lines, and make them again of these. Pure."""

from collections.abc import Sequence

import orjson

from millrace.dataplane.plan import InputObject
from millrace.dataplane.ranges import InputRange
from millrace.names import ObjectRef

__all__ = ["decode_inputs", "encode_inputs"]


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


def _range(index: int, count: int, start: int, end: int, object_size: int) -> InputRange:
    return InputRange(index=index, count=count, start=start, end=end, object_size=object_size)
