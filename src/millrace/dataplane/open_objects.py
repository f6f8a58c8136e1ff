"""Tell how far the objects are that are in work: few of them one by one, for those who look on.

What was read may be far ahead of what was transformed: small objects are read at once, and wait for the container. So
how far an object is follows from its records that have a result. Their bytes as stored are estimated, where they are
decoded by how much text came of what was read.
"""

from collections.abc import Iterable
from itertools import islice

from millrace.dataplane.lane import Lane
from millrace.dataplane.rules import Rules
from millrace.jobs.transform import OpenObject
from millrace.names import ObjectRef
from millrace.told import shortened

__all__ = ["SHOWN_OBJECTS", "bytes_done", "open_objects"]

SHOWN_OBJECTS = 8
"""So many objects in work are told of, the first in key order: as many lines as an eye follows."""


def open_objects(lanes: Iterable[Lane], rules: Rules) -> list[OpenObject]:
    """Return the first objects in work, in key order; ranges of one object are told of as one."""
    by_ref: dict[ObjectRef, list[Lane]] = {}
    for lane in sorted(lanes, key=lambda lane: lane.order):
        by_ref.setdefault(lane.input.ref, []).append(lane)
    return [
        OpenObject(
            key=shortened(ref.key),
            bytes_in=sum(lane.reader.bytes_read for lane in parts),
            bytes_done=sum(bytes_done(lane, rules) for lane in parts),
            bytes_total=sum(lane.input.size for lane in parts),
            records=sum(lane.start.ok + lane.ok for lane in parts),
            records_failed=sum(lane.start.failed + lane.failed for lane in parts),
        )
        for ref, parts in islice(by_ref.items(), SHOWN_OBJECTS)
    ]


def bytes_done(lane: Lane, rules: Rules) -> int:
    """Return about how many of the stored bytes that were read are those of records with a result."""
    read = lane.reader.bytes_read
    if rules.streams:  # the container has what was read, and takes no more than it works on
        return read
    records, taken = lane.taken()
    done = lane.start_offset
    if records:
        done += taken * (lane.ok + lane.failed + lane.filtered) // records
    if not rules.reads_as_stored(lane.input):
        text = lane.start_offset + taken + lane.former.buffered
        done = read * done // text if text else 0
    return min(read, done)
