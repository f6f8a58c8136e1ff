"""`millrace transform`: one batch transform without a server, by the same engine as the API's.

Input and output are s3 addresses in the data directory's object store, or local paths; the model is an archive (or
folder) with an image, a built-in algorithm's archive (which says itself which algorithm it is), or a model of the data
directory by name.
"""

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

from millrace.agents.breaking_off import StopWanted
from millrace.commands.local_instances import LocalInstances
from millrace.commands.local_transform import LocalTransform, open_transform, without_log
from millrace.commands.progress_view import ProgressMeter, ProgressView, progress_line
from millrace.commands.scratch import scratch_folder
from millrace.commands.sizes import counted, told_size
from millrace.commands.transform_request import TransformRequest
from millrace.dataplane.answer_lines import rows_out
from millrace.errors import ApiError, JobFailure, UsageError
from millrace.jobs.transform import InstanceOutcome, transform_failure_reason
from millrace.jobs.transform_options import job_options
from millrace.open_files import allow_many_files
from millrace.ports.objects import ObjectStoreError
from millrace.settings import Settings
from millrace.told import printable

if TYPE_CHECKING:
    from millrace.commands.progress_table import LiveDisplay

__all__ = ["TransformRequest", "dry_run", "explain", "transform"]

LINE_SECONDS = 2.0
"""Time between two progress lines where there is no terminal."""

LOG_LINES = 20
"""Of what the containers of a transform that failed had logged last, as many lines are shown."""

DRAW_SECONDS = 0.25
"""Time between two drawings where there is one: as often as the data plane tells how far it is."""


def transform(settings: Settings, request: TransformRequest, *, report: Path | None = None) -> int:
    """Run the transform and return the exit code: 0 if every object has its output, 1 if not."""
    return _run(lambda scratch: _transform(settings, request, scratch, report))


def explain(settings: Settings, request: TransformRequest) -> int:
    """Print what the transform would do, without starting anything."""
    return _run(lambda scratch: _explain(settings, request, scratch))


def dry_run(settings: Settings, request: TransformRequest) -> int:
    """Send one record, show what came of it, write nothing; 1 if the container did not take it."""
    return _run(lambda scratch: _dry_run(settings, request, scratch))


def _run(work: Callable[[Path], Coroutine[Any, Any, int]]) -> int:
    allow_many_files()
    with scratch_folder() as scratch:
        try:
            code: int = uvloop.run(work(scratch))
        except (UsageError, ApiError, ObjectStoreError) as exc:
            print(f"millrace transform: {exc}", file=sys.stderr)
            return 2
        except JobFailure as failure:
            print(f"millrace transform: {failure.reason}", file=sys.stderr)
            return 1
        except asyncio.CancelledError:
            print("millrace transform: ended at once; finished objects stay", file=sys.stderr)
            return 130
        return code


def _stop_on_signals(local: LocalTransform) -> None:
    """Have the first SIGINT or SIGTERM stop the transform, and each further one end what is still going on."""
    loop = asyncio.get_running_loop()
    is_stopping = False

    def end() -> None:
        nonlocal is_stopping
        if not is_stopping:
            is_stopping = True
            local.stop()
            return
        for task in asyncio.all_tasks(loop):  # also those that wait for a container which takes its time
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)


async def _explain(settings: Settings, request: TransformRequest, scratch: Path) -> int:
    from millrace.commands.explain import explain_lines

    async with open_transform(settings, request, scratch, writes=False) as local:
        for line in await explain_lines(local):
            print(line)
    return 0


async def _dry_run(settings: Settings, request: TransformRequest, scratch: Path) -> int:
    from millrace.dataplane.dry_run import DryRun

    async with open_transform(settings, request, scratch, writes=False) as local:
        trial = DryRun(local.told)
        _stop_on_signals(local)
        try:
            outcome = await local.trial(trial.run).run()
        except StopWanted:
            return 130
        if outcome.stopped:
            return 130
        for line in trial.lines or ["there is no record to send: the input has none"]:
            print(line)
        return 0 if trial.taken else 1


async def _transform(settings: Settings, request: TransformRequest, scratch: Path, report: Path | None) -> int:
    if report is not None:
        _make_folder(report)
    async with open_transform(settings, request, scratch) as local:
        work = local.instances()
        _stop_on_signals(local)
        started = time.monotonic()
        showing = asyncio.create_task(_follow(work))
        try:
            outcome = await work.run()
        except JobFailure as failure:
            await _report(local, [InstanceOutcome(progress=work.progress)], report, failure.reason)
            raise
        finally:
            showing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await showing
        seconds = time.monotonic() - started
        await _report(local, work.outcomes, report)
        return _conclude(outcome, local, seconds)


async def _report(
    local: LocalTransform, outcomes: Sequence[InstanceOutcome], folder: Path | None, failure_reason: str | None = None
) -> None:
    wanted = job_options(local.spec.environment).report
    if folder is None and not wanted:
        return
    from millrace.dataplane.report import write_report, write_report_files

    report = local.report(outcomes, failure_reason=failure_reason)
    if folder is not None:
        write_report_files(report, folder)
        print(f"report in {folder / 'report.html'}")
    if wanted:
        print(f"report in {local.told(await write_report(local.objects, local.spec.output, report))}")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise UsageError(f"--report: can't make folder {folder}: {exc.strerror}") from exc


async def _follow(work: LocalInstances) -> None:
    """Show the progress: bars on a terminal, a line now and then elsewhere."""
    meter = ProgressMeter()

    def look() -> ProgressView:
        return meter.view(time.monotonic(), asdict(work.progress))

    display = _display()
    if display is None:
        while True:
            await asyncio.sleep(LINE_SECONDS)
            print(progress_line(look()), file=sys.stderr, flush=True)
    from millrace.commands.progress_table import transform_progress

    with display:
        try:
            while True:
                display.show(transform_progress(look()))
                await asyncio.sleep(DRAW_SECONDS)
        finally:
            display.show(transform_progress(look()))  # how it ended stays there


def _display() -> "LiveDisplay | None":
    """Return what bars are drawn with; None where there is no terminal, or one that can't show them."""
    if not sys.stderr.isatty():
        return None
    from rich.console import Console  # it takes 50 ms: only where it is seen

    from millrace.commands.progress_table import LiveDisplay

    display = LiveDisplay(Console(stderr=True))
    return display if display.moves else None


def _conclude(outcome: InstanceOutcome, local: LocalTransform, seconds: float) -> int:
    now, output = outcome.progress, local.request.output
    rate = now.records / seconds if seconds else 0.0
    print(
        f"{now.objects_done:,} of {counted(now.objects_total, 'object')}, {counted(now.records, 'record')}, "
        f"{told_size(now.bytes_in)} in, {told_size(now.bytes_out)} out, {seconds:.2f} s ({rate:,.0f} records/s); "
        f"output in {output}"
    )
    if now.records_failed:
        bad = counted(now.records_failed, "bad record")
        print(f"{bad}; <name>.errors.jsonl beside each output in {output} tells its own", file=sys.stderr)
    if outcome.stopped:
        print("millrace transform: stopped; finished objects stay", file=sys.stderr)
        return 130
    for failure in outcome.failures:
        at = "" if failure.record is None else f", record {failure.record} at byte {failure.offset}"
        answer = f": {failure.further_answer}" if failure.further_answer else ""
        print(printable(f"failed: {failure.key}{at}: {failure.message}{answer}"), file=sys.stderr)
    rows = rows_out(local.spec, [(1, outcome)])
    if rows is not None and rows != now.records:
        print(f"the answers have {counted(rows, 'row')}, not one for each record", file=sys.stderr)
    reason = transform_failure_reason([outcome], job_options(local.spec.environment).failures_allowed)
    if reason is None:
        return 0
    if outcome.failures:
        _print_log(local)
        reason = f"{now.objects_failed:,} of {counted(now.objects_total, 'object')} failed"
    print(f"millrace transform: {without_log(reason)}", file=sys.stderr)
    return 1


def _print_log(local: LocalTransform) -> None:
    """Print the end of what the containers logged: it is kept nowhere, and tells more than their answers."""
    lines = local.log_tail(LOG_LINES)
    if lines:
        print("the containers logged last:", *(f"  {printable(line)}" for line in lines), sep="\n", file=sys.stderr)
