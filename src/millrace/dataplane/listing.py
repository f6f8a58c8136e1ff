"""Have the instances of a job agree on what its input is, which each of them lists by itself.

Theory. Shares are a function of the listing. If two instances listed different things, an object might be taken by
both, which is harmless, or by neither, which nobody would notice. What is written after the job was created shifts no
share: such objects are dealt out by their keys alone. What was there before should be the same for all; each instance
saves a digest of it before it looks at the others', so of two that differ the later one sees it, and the job fails
instead of leaving something out. The same goes for objects that are cut, whenever they were written.
"""

import hashlib
from collections.abc import Iterable
from datetime import datetime

from millrace.dataplane.plan import InputObject, is_late
from millrace.errors import ClientFailure
from millrace.ports.journal import Journal

__all__ = ["agree", "listing_digest"]

KEY = "#listing"
"""Of the entry in the journal; names of outputs begin with "s3:"."""


def listing_digest(inputs: Iterable[InputObject], created_at: datetime) -> bytes:
    """Return what is the same for two listings that give all objects of the input to the same instances."""
    digest = hashlib.sha256()
    for entry in inputs:
        part = entry.range
        if part is not None or not is_late(entry, created_at):
            digest.update(f"{entry.ref}\n{entry.size} {entry.version} {part and part.object_size}\n".encode())
    return digest.hexdigest().encode()


async def agree(journal: Journal, job_id: int, digest: bytes) -> None:
    """Tell the other instances of a job what this one has listed, and see that it is what they have.

    Raises:
        ClientFailure: It is not.
        LeaseLost: The work is another's.
    """
    await journal.save({KEY: digest})
    for index, entries in (await journal.load_of(job_id)).items():
        if entries.get(KEY, digest) != digest:
            raise ClientFailure(
                "objects of the input were written to or deleted while the instances of the job began to read it: "
                f"instance {index} has found others. What is finished is kept for a job that resumes this one"
            )
