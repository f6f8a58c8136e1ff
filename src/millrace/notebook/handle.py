"""Hold a transform that runs in the background: how it goes, how it ended, and what it wrote."""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import uvloop

from millrace.commands.local_transform import LocalTransform, open_transform
from millrace.commands.progress_view import ProgressMeter, ProgressView, progress_line
from millrace.commands.scratch import scratch_folder
from millrace.commands.transform_request import TransformRequest
from millrace.dataplane.bad_records import quarantine_key
from millrace.dataplane.plan import InputObject
from millrace.dataplane.report import JobReport
from millrace.errors import JobFailure, MillraceError
from millrace.jobs.transform import ObjectFailure, Progress
from millrace.names import ObjectRef
from millrace.notebook.live import live_view, notebook_display
from millrace.notebook.outputs import OutputForm, frame_of, read_table
from millrace.notebook.reading import read_outputs
from millrace.notebook.view import handle_html
from millrace.settings import Settings

if TYPE_CHECKING:
    import pandas
    import pyarrow

__all__ = ["TransformHandle", "TransformResult"]

SHOW_SECONDS = 0.25
"""Time between two looks of one who watches: as often as the data plane tells how far it is."""


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class TransformResult:
    """How a transform ended. `status` is "Completed", "Failed" or "Stopped"; `outputs` are paths or s3 addresses."""

    status: str
    reason: str | None
    progress: Progress
    failures: tuple[ObjectFailure, ...]
    seconds: float
    outputs: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every object has its output."""
        return self.status == "Completed"

    def __repr__(self) -> str:
        """Say it in one line: notebooks show what a cell ends with."""
        now = self.progress
        reason = "" if self.reason is None else f": {self.reason}"
        objects = f"{now.objects_done:,} of {now.objects_total:,} {'object' if now.objects_total == 1 else 'objects'}"
        bad = f", {now.records_failed:,} bad ones" if now.records_failed else ""
        return f"<{self.status}, {objects}, {now.records:,} records{bad}, {self.seconds:.1f} s{reason}>"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Places:
    """What is needed of a transform to find its outputs when it is over."""

    aliases: Mapping[str, Path]
    form: OutputForm
    told: Callable[[ObjectRef], str]


class TransformHandle:
    """A transform in a thread of its own. All methods may be called from any thread, at any time."""

    def __init__(self, settings: Settings, request: TransformRequest) -> None:
        """Start it; raises what makes the request senseless."""
        self._settings = settings
        self._request = request
        self._meter = ProgressMeter()
        self._committed: list[InputObject] = []
        self._read_progress: Callable[[], Progress] = Progress
        self._loop: asyncio.AbstractEventLoop | None = None
        self._local: LocalTransform | None = None
        self._ready: Future[_Places] = Future()
        self._ended: Future[tuple[TransformResult, JobReport]] = Future()
        # A program that ends without waiting is not held up; the container ends with it.
        self._thread = threading.Thread(target=self._run, name="millrace-transform", daemon=True)
        self._thread.start()
        self._places = self._ready.result()

    # -- how it goes

    @property
    def progress(self) -> Progress:
        """The live counters."""
        return self._read_progress()

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self._ended.done()

    @property
    def status(self) -> str:
        """InProgress, Completed, Failed or Stopped."""
        if not self._ended.done():
            return "InProgress"
        return "Failed" if self._ended.exception() is not None else self._ended.result()[0].status

    def view(self) -> ProgressView:
        """Return counters with rates over the last seconds, and the time left."""
        view = self._meter.view(time.monotonic(), asdict(self.progress))
        return view.at_rest() if self.done else view

    def __repr__(self) -> str:
        return f"<millrace transform: {self.status}, {progress_line(self.view())}>"

    def _repr_html_(self) -> str:
        return handle_html(self.status, self.view(), self._request.output)

    # -- its end

    def wait(self, timeout: float | None = None) -> TransformResult:
        """Return how it ended, once it has. Ctrl-C meanwhile stops it.

        Raises:
            TimeoutError: It has not ended within `timeout` seconds; it goes on.
            JobFailure: The model could not be started, or ended; the message says why.
        """
        try:
            error = self._ended.exception(timeout)
        except KeyboardInterrupt:
            self.stop()
            raise
        if isinstance(error, MillraceError):
            raise error.with_traceback(None)  # a page of our own frames would hide what it says
        return self._ended.result()[0]

    def watch(self) -> TransformResult:
        """Show how it goes until it ends, and return how it ended. Ctrl-C stops it. Raises what `wait` raises."""
        with live_view(self.view, self._repr_html_, notebook_display()) as show:
            try:
                while True:
                    show()
                    with suppress(TimeoutError):
                        return self.wait(SHOW_SECONDS)
            finally:
                show()

    @property
    def result(self) -> TransformResult:
        """How it ended; waits for that."""
        return self.wait()

    def stop(self) -> None:
        """Have it end soon; finished outputs stay. `wait` tells when it has."""
        loop, local = self._loop, self._local
        if loop is not None and local is not None:
            with suppress(RuntimeError):  # it ended meanwhile, and its loop with it
                loop.call_soon_threadsafe(local.stop)

    # -- what it wrote

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs that are there, in the order of the input: paths, or s3 addresses."""
        return tuple(self._places.told(entry.output) for entry in self._in_order())

    def errors(self) -> list[dict[str, Any]]:
        """Return the bad records of outputs that are there (`on_error` "skip" or "quarantine"), in input order.

        Each has the members of a line of `<name>.errors.jsonl`, and `object`: the input.
        """
        entries = self._in_order()
        places = [ObjectRef(entry.output.bucket, quarantine_key(entry.output.key)) for entry in entries]
        bodies = read_outputs(self._settings, self._places.aliases, places, codec=None)
        return [
            {"object": self._places.told(entry.ref), **orjson.loads(line)}
            for entry, body in zip(entries, bodies, strict=True)
            for line in (body or b"").splitlines()
        ]

    def to_arrow(self, *, partial: bool = False) -> "pyarrow.Table":
        """Return all outputs as one table, in the order of the input; waits for the end.

        Needs pyarrow, and room for everything in memory. Columns have the names of the outputs, else f0, f1, ...

        Args:
            partial: Take the outputs that are there, whether or not every object has one.

        Raises:
            JobFailure: An object has no output: it failed, or the transform was stopped.
            UsageError: pyarrow is not there, or nothing tells how the outputs are written.
        """
        result = self.wait()
        if not (result.ok or partial):  # a table that lacks rows looks like one that does not
            raise JobFailure(f"{result!r}; to_arrow(partial=True) and to_pandas(partial=True) give what is there")
        form, refs = self._places.form, [entry.output for entry in self._in_order()]
        bodies = read_outputs(self._settings, self._places.aliases, refs, codec=form.codec)
        named = zip(map(self._places.told, refs), bodies, strict=True)
        return read_table([(name, body) for name, body in named if body is not None], form)

    def to_pandas(self, *, partial: bool = False) -> "pandas.DataFrame":
        """Return all outputs as one frame, in the order of the input, as `to_arrow` does. Needs pandas and pyarrow."""
        return frame_of(self.to_arrow(partial=partial))

    def report(self) -> JobReport:
        """Return how it went, with `to_json()` and `to_html()`; waits for the end."""
        self.wait()
        return self._ended.result()[1]

    # -- inside

    def _in_order(self) -> list[InputObject]:
        return sorted(self._committed, key=lambda entry: (entry.ref.bucket, entry.ref.key.encode()))

    def _run(self) -> None:
        try:
            with (
                scratch_folder() as scratch,
                asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
            ):
                ended = runner.run(self._transform(scratch))
        except BaseException as exc:  # noqa: BLE001 - whoever waits gets it
            target: Future[Any] = self._ended if self._ready.done() else self._ready
            target.set_exception(exc)
        else:
            self._ended.set_result(ended)

    async def _transform(self, scratch: Path) -> tuple[TransformResult, JobReport]:
        async with open_transform(self._settings, self._request, scratch) as local:
            work = local.instances(on_committed=self._committed.append)
            self._loop, self._local = asyncio.get_running_loop(), local
            self._read_progress = lambda: work.progress
            form = OutputForm.of(local.spec)
            self._ready.set_result(_Places(aliases=local.aliases, form=form, told=local.told))
            started = time.monotonic()
            outcome = await work.run()
            report = local.report(work.outcomes)
            result = TransformResult(
                status=report.status,
                reason=report.failure_reason,
                progress=outcome.progress,
                failures=outcome.failures,
                seconds=time.monotonic() - started,
                outputs=tuple(local.told(entry.output) for entry in self._in_order()),
            )
            return result, report
