"""Find out whether an earlier attempt has finished an object, and clear what it may have left of that."""

from contextlib import suppress

from millrace.dataplane.bad_records import quarantine_key
from millrace.dataplane.checkpoints import Checkpoints, Origin
from millrace.dataplane.counts import Counts
from millrace.dataplane.draft_names import drafts_beside
from millrace.dataplane.plan import InputObject
from millrace.dataplane.rules import Rules
from millrace.names import ObjectRef
from millrace.ports.objects import DraftHeld, NoSuchBucket, NoSuchKey, ObjectStore

__all__ = ["find_finished"]


async def find_finished(
    entry: InputObject, *, rules: Rules, objects: ObjectStore, checkpoints: Checkpoints
) -> Counts | None:
    """Return what became of the records of an object that is done as it is now, None if it is not.

    It is done if its output tells so. One that is a single record has no output if that is bad, and is quarantined:
    then what tells of the record tells that too.
    """
    origin = await _origin(entry.output, objects)
    if not checkpoints.made_by_us(origin, entry) and rules.leaves_out_whole_objects:
        origin = await _origin(ObjectRef(entry.output.bucket, quarantine_key(entry.output.key)), objects)
        if origin is not None and not (origin.counts.failed and origin.counts.failed == origin.counts.records):
            return None
    if origin is None or not checkpoints.made_by_us(origin, entry):
        return None
    if rules.formats.converts:
        await _discard_text(entry, objects, checkpoints)
    return origin.counts


async def _origin(ref: ObjectRef, objects: ObjectStore) -> Origin | None:
    try:
        return Origin.decode((await objects.get(ref)).meta.origin)
    except (NoSuchKey, NoSuchBucket):
        return None


async def _discard_text(entry: InputObject, objects: ObjectStore, checkpoints: Checkpoints) -> None:
    """Remove the text that an output was made of: who was killed right after making it has left that."""
    position = checkpoints.position(entry)
    for draft in dict.fromkeys((checkpoints.draft(entry), position.draft if position else checkpoints.draft(entry))):
        for name in drafts_beside(draft):
            with suppress(DraftHeld, NoSuchBucket):
                await objects.discard_draft(entry.output.bucket, name)
