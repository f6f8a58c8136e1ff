"""Find out whether an earlier attempt has finished an object, and clear what it may have left of that."""

from millrace.dataplane.bad_records import quarantine_key
from millrace.dataplane.checkpoints import Checkpoints
from millrace.dataplane.counts import Counts
from millrace.dataplane.left_drafts import LeftDrafts, find_origin
from millrace.dataplane.plan import InputObject
from millrace.dataplane.rules import Rules
from millrace.names import ObjectRef
from millrace.ports.objects import ObjectStore

__all__ = ["find_finished"]


async def find_finished(
    entry: InputObject, *, rules: Rules, objects: ObjectStore, checkpoints: Checkpoints
) -> Counts | None:
    """Return what became of the records of an object that is done as it is now, None if it is not.

    It is done if its output tells so. One that is a single record has no output if that is bad, and is quarantined:
    then what tells of the record tells that too.
    """
    origin = await find_origin(entry.output, objects)
    if not checkpoints.made_by_us(origin, entry) and rules.leaves_out_whole_objects:
        origin = await find_origin(ObjectRef(entry.output.bucket, quarantine_key(entry.output.key)), objects)
        if origin is not None and not (origin.counts.failed and origin.counts.failed == origin.counts.records):
            return None
    if origin is None or not checkpoints.made_by_us(origin, entry):
        return None
    if rules.formats.converts:
        await _discard_text(entry, objects, checkpoints)
    return origin.counts


async def _discard_text(entry: InputObject, objects: ObjectStore, checkpoints: Checkpoints) -> None:
    """Remove the text that an output was made of: who was killed right after making it has left that."""
    left, position = LeftDrafts(objects, entry.output.bucket), checkpoints.position(entry)
    await left.discard(checkpoints.draft(entry))
    if position is not None and position.draft != checkpoints.draft(entry):
        await left.discard(position.draft)
