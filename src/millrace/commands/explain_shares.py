"""Tell which instance of a transform would take which objects, and which ranges of them."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

from millrace.commands.local_transform import LocalTransform
from millrace.commands.sizes import told_size
from millrace.dataplane.formats.job import JobFormats
from millrace.dataplane.plan import InputObject, share_out
from millrace.dataplane.range_rules import cut_inputs, tell_whole
from millrace.jobs.transform_options import Scheduling, job_options
from millrace.names import ObjectRef

__all__ = ["explain_shares", "numbers_told"]

SHOWN_OBJECTS = 20
"""Objects of a share that are named."""

SHOWN_RUNS = 6
"""Of an object's ranges so many, or so many that follow each other, are named."""

_WORDS = {
    Scheduling.BALANCED: "the largest first, each to the instance with the least to do",
    Scheduling.MODULO: "in turn, in the order of their keys",
}


def explain_shares(local: LocalTransform, inputs: Sequence[InputObject]) -> Iterator[str]:
    """Yield how objects are cut and shared out; nothing if there is one instance, and nothing is to be cut."""
    spec, options = local.spec, job_options(local.spec.environment)
    if spec.instance_count == 1 and options.range_bytes is None:
        return
    formats = JobFormats(spec)
    units = list(cut_inputs(inputs, formats, options.range_bytes))
    for entry in units:
        if entry.range is not None and entry.range.index == 0:
            count = entry.range.count
            yield f"{local.told(entry.ref)} is cut into {count} ranges of about {told_size(entry.size)}"
    yield from tell_whole(units, formats, options.range_bytes, told=local.told)
    if spec.instance_count == 1:
        yield ""
        return
    yield f"objects are shared out by MILLRACE_SCHEDULING={options.scheduling}: {_WORDS[options.scheduling]}"
    for index, share in enumerate(share_out(units, spec.instance_count, options.scheduling)):
        yield f"  instance {index + 1}: {_share(share)}"
        yield from _named(local, share)
    yield ""


def _share(share: Sequence[InputObject]) -> str:
    ranges = sum(entry.range is not None for entry in share)
    whole = len(share) - ranges
    parts = [f"{whole} object{'s' * (whole != 1)}"] if whole or not ranges else []
    if ranges:
        parts.append(f"{ranges} range{'s' * (ranges != 1)}")
    return f"{' and '.join(parts)}, {told_size(sum(entry.size for entry in share))}"


def _named(local: LocalTransform, share: Sequence[InputObject]) -> Iterator[str]:
    by_object: dict[ObjectRef, list[InputObject]] = defaultdict(list)
    for entry in share:
        by_object[entry.ref].append(entry)
    for number, (ref, entries) in enumerate(by_object.items()):
        if number == SHOWN_OBJECTS:
            yield f"    and {len(by_object) - number} more"
            return
        part = entries[0].range
        numbers = [it.range.index + 1 for it in entries if it.range is not None]
        which = "" if part is None else f", ranges {numbers_told(numbers)} of {part.count}"
        yield f"    {local.told(ref)}{which}"


def numbers_told(numbers: Sequence[int]) -> str:
    """Return numbers that grow: those that follow each other as first to last, of many the first ones and the last."""
    breaks = [0, *(at for at, (one, other) in enumerate(pairwise(numbers), 1) if other != one + 1), len(numbers)]
    runs = [(numbers[start], numbers[end - 1]) for start, end in pairwise(breaks)]
    words = [f"{first}" if first == last else f"{first} to {last}" for first, last in runs]
    if len(words) > SHOWN_RUNS:
        words[SHOWN_RUNS - 1 : -1] = ["..."]
    return ", ".join(words)
