"""Decide which objects a job transforms, what their outputs are called, and which instance takes which."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapreplace
from typing import NamedTuple

from millrace.dataplane.manifest import parse_manifest
from millrace.dataplane.ranges import InputRange
from millrace.errors import ClientFailure
from millrace.jobs.report_keys import is_report
from millrace.jobs.transform import SourceType, TransformSpec
from millrace.jobs.transform_options import Scheduling
from millrace.names import ObjectPrefix, ObjectRef, relative_key
from millrace.ports.objects import NoSuchBucket, NoSuchKey, ObjectStore
from millrace.told import shortened

__all__ = [
    "Found",
    "InputObject",
    "assign",
    "check_manifest",
    "count_objects",
    "has_input",
    "list_inputs",
    "name_outputs",
    "output_of",
    "share_out",
]

LIST_PAGE = 1000
MANIFEST_BYTES = 64 * 1024 * 1024
"""Longest manifest that is read: about a million keys."""

CHECKED_MANIFEST_BYTES = 4 * 1024 * 1024
"""Longest manifest that the create call reads; a longer one is checked when the job runs."""

OBJECT_COST_BYTES = 64 * 1024
"""What an object costs besides its bytes, told in bytes: opening and committing it, and a request that is not full."""

STAT_WINDOW = 32
"""Manifest entries whose size is asked for at a time."""


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
    inputs = [
        _input_object(entry, output_of(output, entry.relative or _last_name(entry.ref.key)))
        for entry in sorted(found, key=lambda entry: (entry.ref.bucket, entry.ref.key.encode()))
    ]
    by_output: dict[ObjectRef, InputObject] = {}
    for entry in inputs:
        other = by_output.setdefault(entry.output, entry)
        if other is not entry:
            names = (shortened(str(it)) for it in (other.ref, entry.ref, entry.output))
            raise ClientFailure("{} and {} would both be written to {}".format(*names))
    return inputs


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


async def list_inputs(objects: ObjectStore, spec: TransformSpec) -> list[InputObject]:
    """Return the objects of a job in key order, each with its output.

    Folder markers (size 0, key ends with "/") are left out, and so are reports of earlier jobs below a prefix;
    duplicates of a manifest count once.

    Raises:
        ClientFailure: The manifest is missing or malformed, or two inputs share one output.
    """
    if spec.source_type is SourceType.MANIFEST:
        return name_outputs(await _manifest_entries(objects, spec.source), spec.output)
    found = []
    after = ""
    try:
        while True:
            page = await objects.list_objects(
                spec.source.bucket, prefix=spec.source.prefix, after=after, limit=LIST_PAGE
            )
            found += [
                Found(entry.ref, entry.size, relative_key(spec.source.prefix, entry.ref.key), entry.etag)
                for entry in page.objects
                if not _is_marker(entry.ref.key, entry.size) and not is_report(entry.ref.key)
            ]
            if page.next_after is None:
                break
            after = page.next_after
    except NoSuchBucket as exc:
        raise ClientFailure(f"bucket {spec.source.bucket} of {spec.source} does not exist") from exc
    return name_outputs(found, spec.output)


def _is_marker(key: str, size: int) -> bool:
    """Return whether an object only says that there is a folder.

    Source:
        batch-transform.md 2.1: "size 0 and key ends with `/`" are skipped and produce no output.
    """
    return not size and key.endswith("/")


async def has_input(objects: ObjectStore, spec: TransformSpec) -> bool:
    """Return whether anything matches the prefix, or the manifest exists: cheap, for the create call."""
    try:
        if spec.source_type is SourceType.MANIFEST:
            if not spec.source.prefix:
                return False
            await objects.get(ObjectRef(spec.source.bucket, spec.source.prefix))
            return True
        page = await objects.list_objects(spec.source.bucket, prefix=spec.source.prefix, limit=1)
    except (NoSuchBucket, NoSuchKey):
        return False
    return bool(page.objects)


async def check_manifest(objects: ObjectStore, spec: TransformSpec) -> None:
    """Look whether a job's manifest, if it has one, can be read: for the create call.

    Raises:
        ClientFailure: It is missing or malformed.
    """
    if spec.source_type is SourceType.MANIFEST:
        ref = ObjectRef(spec.source.bucket, spec.source.prefix)
        text = await _manifest_text(objects, ref, read_at_most=CHECKED_MANIFEST_BYTES)
        if text is not None:
            await asyncio.to_thread(parse_manifest, text, str(ref))


async def _manifest_text(objects: ObjectStore, ref: ObjectRef, *, read_at_most: int) -> bytes | None:
    """Return the bytes of a manifest, None if it is longer than is read."""
    try:
        size = (await objects.get(ref)).size
        if size > MANIFEST_BYTES:
            raise ClientFailure(f"manifest {ref} must have at most {MANIFEST_BYTES} bytes, got {size}")
        if size > read_at_most:
            return None
        return b"".join([chunk async for chunk in objects.read(ref)])
    except (NoSuchBucket, NoSuchKey) as exc:
        raise ClientFailure(f"manifest {ref} does not exist") from exc


async def _manifest_entries(objects: ObjectStore, source: ObjectPrefix) -> list[Found]:
    ref = ObjectRef(source.bucket, source.prefix)
    text = await _manifest_text(objects, ref, read_at_most=MANIFEST_BYTES)
    entries = parse_manifest(text or b"", str(ref))
    found = []
    for start in range(0, len(entries), STAT_WINDOW):
        window = entries[start : start + STAT_WINDOW]
        looked_up = await asyncio.gather(*(_look_up(objects, entry.ref, entry.relative) for entry in window))
        found += [entry for entry in looked_up if not (entry.version and _is_marker(entry.ref.key, entry.size))]
    return found


async def _look_up(objects: ObjectStore, ref: ObjectRef, relative: str) -> Found:
    """Return what is known of an object; one that is missing has size 0, and fails by itself when it is read."""
    try:
        info = await objects.get(ref)
    except (NoSuchBucket, NoSuchKey):
        return Found(ref, 0, relative)
    return Found(ref, info.size, relative, info.etag)
