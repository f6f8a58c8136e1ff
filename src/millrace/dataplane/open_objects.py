"""Tell how far the objects are that are in work: few of them one by one, for those who look on.

What was read may be far ahead of what was transformed: small objects are read at once, and wait for the container. So
how far an object is follows from its records that have a result. Their bytes as stored are estimated, where they are
decoded by how much text came of what was read.
"""

from collections.abc import Iterable
from heapq import nsmallest

from millrace.dataplane.lane import Lane
from millrace.dataplane.rules import Rules
from millrace.jobs.transform import OpenObject
from millrace.told import shortened

__all__ = ["SHOWN_OBJECTS", "bytes_done", "open_objects"]

SHOWN_OBJECTS = 8
"""So many objects in work are told of, the first in key order: as many lines as an eye follows."""


def open_objects(lanes: Iterable[Lane], rules: Rules) -> list[OpenObject]:
    """Return the first objects in work, in key order."""
    first = nsmallest(SHOWN_OBJECTS, lanes, key=lambda lane: lane.order)
    return [
        OpenObject(
            key=shortened(lane.input.ref.key),
            bytes_in=lane.reader.bytes_read,
            bytes_done=bytes_done(lane, rules),
            bytes_total=lane.input.size,
            records=lane.start.ok + lane.ok,
            records_failed=lane.start.failed + lane.failed,
        )
        for lane in first
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
