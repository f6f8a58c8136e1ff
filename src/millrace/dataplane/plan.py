"""Decide what the outputs of a job's objects are called, and which instance takes which object. Pure."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heapreplace, merge
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
    "check_outputs",
    "count_objects",
    "in_key_order",
    "name_outputs",
    "named",
    "output_of",
    "owners",
    "share_out",
]

OBJECT_COST_BYTES = 64 * 1024
"""What an object costs besides its bytes, told in bytes: opening and committing it, and a request that is not full."""

COMPARED_OUTPUTS = 50_000
"""About so many outputs are compared with each other at a time: 4 MB."""

SORTED_INPUTS = 16_384
"""Inputs that are sorted by size at a time: 1.3 MB."""


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
    inputs = named(sorted(found, key=lambda entry: in_key_order(entry.ref)), output)
    check_outputs(inputs)
    return inputs


def in_key_order(ref: ObjectRef) -> tuple[str, bytes]:
    """Return what objects are sorted by."""
    return ref.bucket, ref.key.encode()


def check_outputs(inputs: Iterable[InputObject]) -> None:
    """See that no two inputs share one output; they are gone over twice where that is in doubt.

    What is held of an input is a number of 8 bytes, and of those a part only at a time.

    Raises:
        ClientFailure: Two do; the message names the first two in the order of the inputs.
    """
    hashes = array("q", (hash(entry.output.key) for entry in inputs if _is_first(entry)))
    doubtful = _repeated(hashes)
    if not doubtful:
        return
    by_output: dict[ObjectRef, ObjectRef] = {}
    for entry in inputs:
        if hash(entry.output.key) not in doubtful or not _is_first(entry):
            continue
        other = by_output.setdefault(entry.output, entry.ref)
        if other != entry.ref:
            names = (shortened(str(it)) for it in (other, entry.ref, entry.output))
            raise ClientFailure("{} and {} would both be written to {}".format(*names))


def _is_first(entry: InputObject) -> bool:
    """Return whether it is an object, or stands for one that is cut."""
    return entry.range is None or entry.range.index == 0


def _repeated(hashes: "array[int]") -> set[int]:
    """Return the numbers that are there more than once."""
    repeated: set[int] = set()
    parts = len(hashes) // COMPARED_OUTPUTS + 1
    for part in range(parts):
        seen: set[int] = set()
        for number in hashes:
            if number % parts == part:
                (repeated if number in seen else seen).add(number)
    return repeated


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
    return sum(_is_first(entry) for entry in inputs)


def assign(
    inputs: Sequence[InputObject], index: int, count: int, scheduling: Scheduling = Scheduling.BALANCED
) -> list[InputObject]:
    """Return what instance `index` of `count` takes, in key order; see `share_out`."""
    return share_out(inputs, count, scheduling)[index]


def share_out(
    inputs: Sequence[InputObject], count: int, scheduling: Scheduling = Scheduling.BALANCED
) -> list[list[InputObject]]:
    """Return what each of `count` instances takes, in key order; see `owners`."""
    shares: list[list[InputObject]] = [[] for _ in range(count)]
    for entry, owner in zip(inputs, owners([entry.size for entry in inputs], count, scheduling), strict=True):
        shares[owner].append(entry)
    return shares


def owners(sizes: Sequence[int], count: int, scheduling: Scheduling = Scheduling.BALANCED) -> Sequence[int]:
    """Return which of `count` instances takes each input, in key order: a function of their sizes.

    Balanced means the largest first, each to the instance with the least to do, the first of those; inputs of one size
    are so dealt out in turn.

    Source:
        batch-transform.md 2.4: sort keys, give key i to instance i mod InstanceCount. That is what `modulo` does.
        R. L. Graham, "Bounds on Multiprocessing Timing Anomalies", SIAM J. Appl. Math. 17 (1969): the largest first
        needs at most 4/3 of the best time.
    """
    if count == 1 or scheduling is Scheduling.MODULO:
        return array("I", (number % count for number in range(len(sizes))))
    owner = array("I", bytes(array("I").itemsize * len(sizes)))
    loads = [(0, instance) for instance in range(count)]
    for number in _largest_first(sizes):
        load, instance = loads[0]
        heapreplace(loads, (load + sizes[number] + OBJECT_COST_BYTES, instance))
        owner[number] = instance
    return owner


def _largest_first(sizes: Sequence[int]) -> Iterator[int]:
    """Yield the numbers of inputs by falling size, those of one size in key order.

    Sorted at once, a million took 80 MB; so they are sorted piece by piece, which are merged.
    """
    pieces = [
        array("I", sorted(range(start, min(start + SORTED_INPUTS, len(sizes))), key=sizes.__getitem__, reverse=True))
        for start in range(0, len(sizes), SORTED_INPUTS)
    ]
    return merge(*pieces, key=sizes.__getitem__, reverse=True)
