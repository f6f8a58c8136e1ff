"""Keep a shared database and the folder of its objects together.

Jobs in the database speak of objects in the folder. A server that brought another folder, such as the default one of
another machine, would find none of them, and leave its jobs' outputs where nobody looks. So both bear one mark, which
the first server makes.
"""

import uuid
from pathlib import Path

from millrace.errors import UsageError
from millrace.ports.documents import DocumentExists, DocumentStore

__all__ = ["MARK_FILE", "check_companion"]

MARK_FILE = ".millrace/database-mark"
"""Below the folder of objects, so that it is copied with them."""

_KIND, _NAME = "state", "objects"


async def check_companion(documents: DocumentStore, objects_dir: Path) -> None:
    """Return if the folder is the database's, or becomes it now, because the database has none.

    Raises:
        UsageError: The database has another one.
    """
    path = objects_dir / MARK_FILE
    is_new = _make_mark(path)
    mark = path.read_text("ascii")
    try:
        await documents.put(_KIND, "", _NAME, {"mark": mark}, create=True)
    except DocumentExists:
        expected = (await documents.get(_KIND, "", _NAME)).content["mark"]
        if mark != expected:
            if is_new:
                path.unlink()
            found = "no such file" if is_new else repr(mark)
            raise UsageError(
                f"{objects_dir} does not hold the objects of this database: servers on one database share a data "
                f"directory. If it is the right one, {path} must hold {expected!r}, got {found}"
            ) from None


def _make_mark(path: Path) -> bool:
    """Make a mark unless there is one, whole from the first moment; return whether it is new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mark = uuid.uuid4().hex
    draft = path.with_name(f"{path.name}.{mark}.tmp")
    draft.write_text(mark, "ascii")
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True
