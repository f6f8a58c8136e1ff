"""`millrace gc`: remove what nobody needs any more, or tell what that is."""

import asyncio
import sys
from typing import Any

import orjson

from millrace.clock import SystemClock
from millrace.engines.local import LocalEngine
from millrace.retention import Leftover, Report, collect, collectors, rules_of
from millrace.settings import Settings
from millrace.store.filesystem import FilesystemObjects
from millrace.store.image_files import ImageFiles
from millrace.store.log_files import LogFiles
from millrace.store.opening import has_state, open_database
from millrace.store.sql_jobs import SqlJobStore
from millrace.store.sql_operation import SqlOperationStore

__all__ = ["collect_garbage"]


def collect_garbage(settings: Settings, *, dry_run: bool, as_json: bool) -> int:
    """Run gc once and print what went; 1 if something could not be removed."""
    if not has_state(settings):
        raise SystemExit(f"millrace gc: there is no state in {settings.data_dir} (MILLRACE_DATA_DIR, --data-dir)")
    report = asyncio.run(_collect(settings, dry_run=dry_run))
    if as_json:
        sys.stdout.buffer.write(orjson.dumps(_document(report, dry_run), option=orjson.OPT_APPEND_NEWLINE))
    else:
        _print(report, dry_run)
    return 1 if report.failed else 0


async def _collect(settings: Settings, *, dry_run: bool) -> Report:
    clock = SystemClock()
    database = open_database(settings)
    try:
        found = collectors(
            rules_of(settings),
            jobs=SqlJobStore(database, clock=clock),
            operation=SqlOperationStore(database),
            objects=FilesystemObjects(settings.objects_dir, account=settings.account, clock=clock),
            logs=LogFiles(settings.logs_dir),
            images=ImageFiles(settings.images_dir),
            engine=LocalEngine(settings.work_dir, settings.data_dir / "agents.log", {}, on_exit=lambda: None),
            work_dir=settings.work_dir,
        )
        return await collect(found, clock.now(), dry_run=dry_run)
    finally:
        database.close()


def _document(report: Report, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "bytes": report.size,
        "failed": report.failed,
        "counts": report.counts(),
        "leftovers": [
            {"kind": it.kind.value, "name": it.name, "bytes": it.size, "since": it.since} for it in report.leftovers
        ],
    }


def _print(report: Report, dry_run: bool) -> None:
    for leftover in report.leftovers:
        print(_line(leftover))
    counts = ", ".join(f"{number} × {kind}" for kind, number in report.counts().items())
    done = "would remove" if dry_run else "removed"
    print(f"{done} {counts or 'nothing'}" + (f", {report.size / 1e6:,.1f} MB" if report.size else ""))
    if report.failed:
        print(f"{report.failed} could not be removed; the lines above say why", file=sys.stderr)


def _line(leftover: Leftover) -> str:
    size = f"{leftover.size / 1e6:>10,.1f} MB" if leftover.size else f"{'':>13}"
    since = "" if leftover.since is None else f"  {leftover.since:%Y-%m-%d %H:%M}"
    return f"{size}  {leftover.kind.value:<17} {leftover.name}{since}"
