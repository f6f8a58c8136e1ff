"""Decide what the outputs of a job's objects are called, and which instance takes which object. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import heapreplace
from typing import NamedTuple

from millrace.dataplane.ranges import InputRange
from millrace.errors import ClientFailure
from millrace.jobs.transform_options import Scheduling
from millrace.names import ObjectPrefix, ObjectRef
from millrace.told import shortened

__all__ = [
    "Found",
    "InputObject",
    "assign",
    "count_objects",
    "name_outputs",
    "named",
    "output_of",
    "share_out",
]

OBJECT_COST_BYTES = 64 * 1024
"""What an object costs besides its bytes, told in bytes: opening and committing it, and a request that is not full."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InputObject:
    """One object to transform: its size as stored, where its output goes, and why it can have none, if so.

    `version` is its ETag when it was listed, "" if unknown: another one tells that it has changed. Where it is one
    `range` of an object, `size` is the range's, and `output` that of the whole object.
    """

    ref: ObjectRef
    size: int
    output: ObjectRef
    refused: str | None = None
    version: str = ""
    range: InputRange | None = None


def output_of(output: ObjectPrefix, relative: str) -> ObjectRef:
    """Return where the output of the object with that relative name goes.

    Source:
        batch-transform.md 5.2: `<key part of S3OutputPath without trailing "/">/<rel>.out`.
    """
    return output.join(relative + ".out")


class Found(NamedTuple):
    """An object of the input: size, name relative to the prefix, and ETag ("" if unknown)."""

    ref: ObjectRef
    size: int
    relative: str
    version: str = ""


def name_outputs(found: Sequence[Found], output: ObjectPrefix) -> list[InputObject]:
    """Return inputs in key order, each with its output.

    Args:
        found: The input's objects, in any order.
        output: The job's output path.

    Raises:
        ClientFailure: Two inputs share one output; the message names both.
    """
    inputs = named(sorted(found, key=lambda entry: (entry.ref.bucket, entry.ref.key.encode())), output)
    by_output: dict[ObjectRef, InputObject] = {}
    for entry in inputs:
        other = by_output.setdefault(entry.output, entry)
        if other is not entry:
            names = (shortened(str(it)) for it in (other.ref, entry.ref, entry.output))
            raise ClientFailure("{} and {} would both be written to {}".format(*names))
    return inputs


def named(found: Iterable[Found], output: ObjectPrefix) -> list[InputObject]:
    """Return inputs in the order given, each with its output, of which two may be the same."""
    return [_input_object(entry, output_of(output, entry.relative or _last_name(entry.ref.key))) for entry in found]


def _last_name(key: str) -> str:
    """Return the last name in a key that the input names as a whole: of `a/b/`, which is not empty, that is `b`.

    Source:
        batch-transform.md 5.2: "If `r` is empty: last path segment of `k`."
    """
    return key.rstrip("/").rpartition("/")[2]


def _input_object(found: Found, output: ObjectRef) -> InputObject:
    length = len(output.key.encode())
    refused = f"the key of its output must have at most 1,024 bytes, got {length}" if length > 1024 else None
    if not found.ref.key.strip("/"):
        refused = f'its key has no name that its output could be called by, got "{found.ref.key}"'
    return InputObject(
        ref=found.ref,
        size=found.size,
        output=output,
        refused=refused,
        version=found.version,
    )


def count_objects(inputs: Sequence[InputObject]) -> int:
    """Return how many objects an instance has; one that is cut counts where its first range is."""
    return sum(entry.range is None or entry.range.index == 0 for entry in inputs)


def assign(
    inputs: Sequence[InputObject], index: int, count: int, scheduling: Scheduling = Scheduling.BALANCED
) -> list[InputObject]:
    """Return what instance `index` of `count` takes, in key order; see `share_out`."""
    return share_out(inputs, count, scheduling)[index]


def share_out(
    inputs: Sequence[InputObject], count: int, scheduling: Scheduling = Scheduling.BALANCED
) -> list[list[InputObject]]:
    """Return what each of `count` instances takes, in key order: a function of the inputs.

    Balanced means the largest first, each to the instance with the least to do, the first of those; inputs of one size
    are so dealt out in turn.

    Source:
        batch-transform.md 2.4: sort keys, give key i to instance i mod InstanceCount. That is what `modulo` does.
        R. L. Graham, "Bounds on Multiprocessing Timing Anomalies", SIAM J. Appl. Math. 17 (1969): the largest first
        needs at most 4/3 of the best time.
    """
    if count == 1:
        return [list(inputs)]
    if scheduling is Scheduling.MODULO:
        return [list(inputs[index::count]) for index in range(count)]
    loads = [(0, instance) for instance in range(count)]
    taken: list[list[int]] = [[] for _ in range(count)]
    for number in sorted(range(len(inputs)), key=lambda number: (-inputs[number].size, number)):
        load, instance = loads[0]
        heapreplace(loads, (load + inputs[number].size + OBJECT_COST_BYTES, instance))
        taken[instance].append(number)
    return [[inputs[number] for number in sorted(numbers)] for numbers in taken]
