"""Tell how far the objects are that are in work: few of them, for those who look on."""

from collections.abc import Iterable
from heapq import nsmallest

from millrace.dataplane.lane import Lane
from millrace.jobs.transform import OpenObject
from millrace.told import shortened

__all__ = ["SHOWN_OBJECTS", "open_objects"]

SHOWN_OBJECTS = 8
"""So many objects in work are told of, the first in key order: as many lines as an eye follows."""


def open_objects(lanes: Iterable[Lane]) -> list[OpenObject]:
    """Return the first objects in work, in key order."""
    first = nsmallest(SHOWN_OBJECTS, lanes, key=lambda lane: lane.order)
    return [
        OpenObject(
            key=shortened(lane.input.ref.key),
            bytes_in=lane.reader.bytes_read,
            bytes_total=lane.input.size,
            records=lane.start.ok + lane.ok,
            records_failed=lane.start.failed + lane.failed,
        )
        for lane in first
    ]
