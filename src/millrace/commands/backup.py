"""`millrace backup`: a consistent copy of a data directory, taken while the server runs."""

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from millrace.errors import UsageError
from millrace.runtimes.images import HOST_IMAGES_FILE
from millrace.settings import Settings
from millrace.store.sqlite_snapshot import snapshot
from millrace.store.tree_copy import CopiedTree, copy_tree

__all__ = ["back_up"]

OBJECTS_PRIVATE = ".millrace"


def back_up(settings: Settings, target: Path, *, as_json: bool) -> int:
    """Copy state, objects and logs to a new folder, which appears when it is complete.

    The state comes first: outputs are complete before the state says so, so all that the copied state speaks of is
    among the objects copied after it.

    Raises:
        UsageError: The folder exists, or can't be made.
        StoreUnavailable: The state can't be copied.
    """
    if not settings.database_url and not settings.database_path.exists():
        raise SystemExit(f"millrace backup: there is no state in {settings.data_dir} (MILLRACE_DATA_DIR, --data-dir)")
    target = target.absolute()
    if target.exists():
        raise UsageError(f"the back-up's folder must not exist yet, got {target}")
    if target.is_relative_to(settings.data_dir):
        raise UsageError(f"the back-up's folder must lie outside of the data directory, got {target}")
    draft = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        draft.mkdir(parents=True, mode=0o700)
        told = _copy(settings, draft)
        os.sync()  # a back-up that a power failure takes away again was none
        draft.rename(target)
    except OSError as exc:
        raise UsageError(f"back-up to {target}: {exc}") from exc
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    _tell(target, told, as_json=as_json)
    return 0


def _copy(settings: Settings, draft: Path) -> Mapping[str, Any]:
    state_bytes = None
    if not settings.database_url:
        state_bytes = snapshot(settings.database_path, draft / settings.database_path.name)
    objects = _copy_objects(settings.objects_dir, draft / settings.objects_dir.name)
    logs = copy_tree(settings.logs_dir, draft / settings.logs_dir.name)
    images = settings.data_dir / HOST_IMAGES_FILE
    if images.exists():
        shutil.copy2(images, draft / HOST_IMAGES_FILE)
    return {
        "state_bytes": state_bytes,
        "objects": objects.files,
        "object_bytes": objects.bytes,
        "log_files": logs.files,
        "log_bytes": logs.bytes,
    }


def _copy_objects(source: Path, target: Path) -> CopiedTree:
    """Copy buckets, then what is kept about them; facts in sidecars follow their files, which have other inodes."""
    renamed: dict[str, str] = {}
    has_sidecars = any((source / OBJECTS_PRIVATE).glob("*/meta/*"))

    def note(old: os.stat_result, new: os.stat_result) -> None:
        if has_sidecars:
            renamed[_sidecar(old)] = _sidecar(new)

    buckets = copy_tree(source, target, skip=lambda path: path.parts[0] == OBJECTS_PRIVATE, on_file=note)
    private = source / OBJECTS_PRIVATE
    copied = copy_tree(private, target / OBJECTS_PRIVATE, skip=_has_drafts, on_file=note)
    for path in (target / OBJECTS_PRIVATE).glob("*/meta/*.json"):
        if path.name in renamed:
            path.rename(path.with_name(renamed[path.name]))
    return CopiedTree(files=buckets.files, bytes=buckets.bytes + copied.bytes)


def _has_drafts(path: Path) -> bool:
    """Tell the folders of files being written, of no use without their writers, from buckets and objects named tmp."""
    match path.parts:
        case (_, "tmp" | "spare") | (_, "uploads", _, "tmp"):
            return True
        case _:
            return False


def _sidecar(stat: os.stat_result) -> str:
    return f"{stat.st_ino:x}-{stat.st_size:x}-{stat.st_mtime_ns:x}.json"


def _tell(target: Path, told: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        line = orjson.dumps({"folder": str(target), **told}, option=orjson.OPT_APPEND_NEWLINE)
        sys.stdout.buffer.write(line)
        return
    state = "state" if told["state_bytes"] is not None else "no state (back the database up with its own tools, first)"
    print(
        f"backed up to {target}: {state}, {told['objects']} objects ({told['object_bytes'] / 1e6:,.1f} MB), "
        f"{told['log_files']} log files ({told['log_bytes'] / 1e6:,.1f} MB)"
    )
