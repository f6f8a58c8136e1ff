"""What is told of objects in work."""

from pathlib import Path

from tests.acceptance.transform_rig import job

from millrace.clock import SystemClock
from millrace.dataplane import Limits
from millrace.dataplane.batch import payload_former
from millrace.dataplane.formats.job import JobFormats
from millrace.dataplane.lane import Lane
from millrace.dataplane.object_output import ObjectOutput
from millrace.dataplane.open_objects import SHOWN_OBJECTS, open_objects
from millrace.dataplane.plan import InputObject
from millrace.dataplane.progress import Counters
from millrace.dataplane.ranges import cut
from millrace.dataplane.reading import ObjectReader
from millrace.dataplane.rules import Rules
from millrace.jobs.transform import BatchStrategy, EffectiveSettings, SplitType
from millrace.jobs.transform_options import JobOptions
from millrace.names import ObjectRef
from millrace.ports.objects import ObjectMeta
from millrace.ports.runtime import Address
from millrace.testing.objects import MemoryObjects

SPEC = job(split=SplitType.LINE)
RULES = Rules(
    SPEC,
    effective=EffectiveSettings(),
    options=JobOptions(),
    limits=Limits(),
    address=Address(host="127.0.0.1", port=1),
    job_start=SystemClock().now(),
)


def _lane(entry: InputObject, order: int) -> Lane:
    objects, formats = MemoryObjects(), JobFormats(SPEC)
    reader = ObjectReader(
        objects, entry, formats=formats, chunk_bytes=1, counters=Counters(objects_total=1, bytes_total=1)
    )
    output = ObjectOutput(
        entry,
        objects=objects,
        meta=ObjectMeta(),
        formats=formats,
        reader=reader,
        kept_text=Path("rows"),
        checkpoints=None,
        in_parts=False,
        monotonic=SystemClock().monotonic,
    )
    return Lane(entry, payload_former(SplitType.LINE, BatchStrategy.MULTI_RECORD, 0), reader, output, order=order)


def test_ranges_of_an_object_are_told_of_as_one() -> None:
    """An object has one bar, in however many ranges it is in work."""
    ref = ObjectRef("shop", "a.csv")
    lanes = [
        _lane(InputObject(ref=ref, size=part.end - part.start, output=ref, range=part), part.index)
        for part in cut(100, 40)
    ]
    for lane in lanes:
        lane.ok = 7
    [told] = open_objects(lanes, RULES)
    assert (told.key, told.bytes_total, told.records) == ("a.csv", 100, 7 * len(lanes))


def test_the_first_objects_are_told_of() -> None:
    """In key order, whatever the order they are held in."""
    refs = [ObjectRef("shop", f"{number:02}.csv") for number in range(SHOWN_OBJECTS + 5)]
    lanes = [_lane(InputObject(ref=ref, size=1, output=ref), order) for order, ref in enumerate(refs)]
    told = [entry.key for entry in open_objects(reversed(lanes), RULES)]
    assert told == [ref.key for ref in refs[:SHOWN_OBJECTS]]
