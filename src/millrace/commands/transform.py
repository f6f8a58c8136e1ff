"""`millrace transform`: one batch transform without a server, by the same engine as the API's.

Input and output are s3 addresses in the data directory's object store, or local paths; the model is an archive (or
folder) with an image, a built-in algorithm's archive (which says itself which algorithm it is), or a model of the data
directory by name.
"""

import asyncio
import contextlib
import io
import json
import os
import signal
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import uvloop

from millrace import agent
from millrace.agents.archives import Tree, pack
from millrace.agents.backends import AgentBackends
from millrace.agents.session import DetachedSession
from millrace.agents.transform import TransformAgent
from millrace.clock import SystemClock
from millrace.containers import container_runtime, runnable_images
from millrace.dataplane.validate import validate_spec
from millrace.errors import ApiError, ImageUnavailable, JobFailure, UsageError
from millrace.jobs.endpoint import ExecutionMode, ModelContainer, ModelData
from millrace.jobs.transform import (
    AssembleWith,
    BatchStrategy,
    Compression,
    DataProcessing,
    InstanceOutcome,
    JoinSource,
    Progress,
    SourceType,
    SplitType,
    TransformSpec,
    transform_failure_reason,
)
from millrace.jobs.transform_options import job_options
from millrace.names import DEFAULT_REGION, ObjectPrefix, sagemaker_arn
from millrace.ports.objects import ObjectStoreError
from millrace.services.sagemaker.models import KIND, execution_mode, model_containers
from millrace.settings import Settings
from millrace.store.filesystem import FilesystemObjects
from millrace.store.log_files import LogFiles
from millrace.store.opening import has_state, open_database
from millrace.store.sql_documents import SqlDocumentStore

if TYPE_CHECKING:
    from rich import progress as rich_progress

__all__ = ["TransformRequest", "transform"]

MIB = 1024 * 1024
MANIFEST_MEMBER = "millrace.json"
REPORT_SECONDS = 2.0
"""Time between two progress lines where there is no terminal."""


@dataclass(frozen=True, kw_only=True)
class TransformRequest:
    """The options of the command."""

    model: str
    input: str
    output: str
    image: str | None = None
    manifest: bool = False
    split_type: str = "None"
    compression: str = "None"
    strategy: str | None = None
    assemble_with: str = "None"
    join_source: str = "None"
    input_filter: str = "$"
    output_filter: str = "$"
    max_concurrent_transforms: int | None = None
    max_payload_in_mb: int | None = None
    content_type: str | None = None
    accept: str | None = None
    timeout_seconds: int = 600
    max_retries: int = 3
    environment: Mapping[str, str]


def transform(settings: Settings, request: TransformRequest) -> int:
    """Run the transform and return the exit code: 0 if every object has its output, 1 if not."""
    with tempfile.TemporaryDirectory(prefix="millrace-transform-") as scratch:
        try:
            code: int = uvloop.run(_transform(settings, request, Path(scratch)))
        except (UsageError, ApiError, ObjectStoreError) as exc:
            print(f"millrace transform: {exc}", file=sys.stderr)
            return 2
        except JobFailure as failure:
            print(f"millrace transform: {failure.reason}", file=sys.stderr)
            return 1
        return code


async def _transform(settings: Settings, request: TransformRequest, scratch: Path) -> int:
    aliases: dict[str, Path] = {}
    source = _place(request.input, "--input", aliases, must_exist=True)
    output = _place(request.output, "--output", aliases, must_exist=False)
    containers = await _containers(settings, request, aliases, scratch)
    spec = _spec(request, source, output)
    validate_spec(spec)
    images = runnable_images(settings, holds=True)
    try:
        for container in containers:
            images.resolve(container.image)
    except ImageUnavailable as exc:
        raise UsageError(f"--image: {exc}") from exc
    clock = SystemClock()
    objects = FilesystemObjects(settings.objects_dir, aliases=aliases, clock=clock)
    session = DetachedSession(clock)
    name = f"transform-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    backends = AgentBackends(
        session=session,
        objects=objects,
        logs=LogFiles(scratch / "logs"),
        images=images,
        runtime=container_runtime(settings, os.environ),
        endpoint_url=None,
        mint_credentials=_no_credentials,
    )
    work = TransformAgent(
        spec,
        containers,
        sagemaker_arn("transform-job", name, region=DEFAULT_REGION, account=settings.account),
        clock.now(),
        scratch / "work",
        backends=backends,
        grace_seconds=settings.serve_stop_grace_seconds,
        ping_window_seconds=settings.ping_window_seconds,
        limits=agent.limits(settings),
    )
    (scratch / "work").mkdir()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, session.stop.set)
    started = time.monotonic()
    try:
        with _progress(work) as report:
            showing = asyncio.create_task(report())
            try:
                outcome = await work.run()
            finally:
                showing.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await showing
    finally:
        objects.close()
    return _conclude(outcome, request, time.monotonic() - started)


async def _no_credentials(session_name: str) -> Mapping[str, str]:
    """There is no server that keys could be for."""
    return {}


def _place(text: str, option: str, aliases: dict[str, Path], *, must_exist: bool) -> ObjectPrefix:
    """Return where an option points; a local folder becomes a bucket of its own."""
    if text.startswith("s3://"):
        try:
            return ObjectPrefix.parse(text)
        except ValueError as exc:
            raise UsageError(f"{option}: {exc}") from None
    scheme, separator, rest = text.partition("://")
    if separator and scheme != "file":
        raise UsageError(f"{option}: s3:// and file:// addresses and paths are taken, got {text!r}")
    path = Path(rest if separator else text).expanduser().absolute()
    bucket = f"local{len(aliases)}"
    if must_exist and not path.exists():
        raise UsageError(f"{option}: there is no file or folder {path}")
    if path.is_file():
        if not must_exist:
            raise UsageError(f"{option}: {path} is a file; outputs go into a folder")
        aliases[bucket] = path.parent
        return ObjectPrefix(bucket, path.name)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise UsageError(f"{option}: can't make folder {path}: {exc.strerror}") from exc
    if not must_exist and not os.access(path, os.W_OK):
        raise UsageError(f"{option}: can't write into {path}")
    aliases[bucket] = path
    return ObjectPrefix(bucket, "")


async def _containers(
    settings: Settings, request: TransformRequest, aliases: dict[str, Path], scratch: Path
) -> tuple[ModelContainer, ...]:
    """Return the containers that the model options name: one, or as many as a model of the data directory has."""
    path = Path(request.model).expanduser()
    if request.model.startswith("s3://"):
        if request.image is None:
            raise UsageError("--model: an s3 address needs --image")
        return (ModelContainer(image=request.image, data=ModelData(uri=request.model)),)
    if path.exists():
        archive = path if path.is_file() else _packed(path, scratch)
        image = request.image or _built_in(archive)
        if image is None:
            raise UsageError(f"--model: {path} does not say which image it belongs to; give --image")
        bucket = f"local{len(aliases)}"
        aliases[bucket] = archive.absolute().parent
        return (ModelContainer(image=image, data=ModelData(uri=f"s3://{bucket}/{archive.name}")),)
    if request.image is not None:
        raise UsageError(f"--model: there is no file or folder {path}")
    return await _registered_model(settings, request.model)


def _packed(folder: Path, scratch: Path) -> Path:
    archive = scratch / "model" / "model.tar.gz"
    archive.parent.mkdir()
    with archive.open("wb") as sink:
        pack([Tree(folder)], sink)
    return archive


def _built_in(archive: Path) -> str | None:
    """Return the image of the built-in algorithm that made an archive, or None."""
    try:
        with tarfile.open(archive, "r:gz") as tar:
            member: BinaryIO | None = None
            for entry in tar:
                if entry.name.removeprefix("./") == MANIFEST_MEMBER:
                    member = tar.extractfile(entry)  # type: ignore[assignment]  # IO[bytes] by another name
                    break
            algorithm = json.load(io.BytesIO(member.read()))["algorithm"] if member is not None else None
    except (tarfile.TarError, OSError, ValueError, KeyError):
        return None
    return f"{algorithm}:1" if isinstance(algorithm, str) else None


async def _registered_model(settings: Settings, name: str) -> tuple[ModelContainer, ...]:
    if has_state(settings):
        database = open_database(settings)
        try:
            document = await SqlDocumentStore(database, clock=SystemClock()).find(KIND, DEFAULT_REGION, name)
        finally:
            database.close()
        if document is not None:
            if execution_mode(document.content) is ExecutionMode.DIRECT:
                raise UsageError(
                    f"--model: {name!r} must have InferenceExecutionConfig.Mode 'Serial', got 'Direct': nothing says "
                    "which of its containers a record is for"
                )
            return model_containers(document.content)
    raise UsageError(f"--model: {name!r} is neither a file nor a model of {settings.data_dir}")


def _spec(request: TransformRequest, source: ObjectPrefix, output: ObjectPrefix) -> TransformSpec:
    payload = request.max_payload_in_mb
    return TransformSpec(
        model=request.model,
        source=source,
        source_type=SourceType.MANIFEST if request.manifest else SourceType.PREFIX,
        output=output,
        split=SplitType(request.split_type),
        compression=Compression(request.compression),
        assemble_with=AssembleWith(request.assemble_with),
        content_type=request.content_type,
        accept=request.accept,
        max_concurrent_transforms=request.max_concurrent_transforms,
        max_payload_bytes=None if payload is None else payload * MIB,
        strategy=None if request.strategy is None else BatchStrategy(request.strategy),
        invocation_timeout_seconds=float(request.timeout_seconds),
        invocation_max_retries=request.max_retries,
        processing=DataProcessing(
            input_filter=request.input_filter,
            output_filter=request.output_filter,
            join_source=JoinSource(request.join_source),
        ),
        environment=request.environment,
    )


@contextmanager
def _progress(work: TransformAgent) -> Iterator[Callable[[], Coroutine[None, None, None]]]:
    """Give what shows the progress: a bar on a terminal, a line now and then elsewhere."""
    if not sys.stderr.isatty():
        yield lambda: _print_lines(work)
        return
    from rich import progress as rich_progress  # takes 50 ms: only where it is seen
    from rich.console import Console

    bar = rich_progress.Progress(
        rich_progress.TextColumn("{task.fields[objects]}"),
        rich_progress.BarColumn(),
        rich_progress.DownloadColumn(),
        rich_progress.TransferSpeedColumn(),
        rich_progress.TextColumn("{task.fields[records]}"),
        rich_progress.TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    with bar:
        task = bar.add_task("", objects="starting", records="", total=None)
        yield lambda: _move_bar(work, bar, task)


async def _move_bar(work: TransformAgent, bar: "rich_progress.Progress", task: "rich_progress.TaskID") -> None:
    while True:
        now = work.progress
        bar.update(
            task,
            completed=now.bytes_in,
            total=now.bytes_total or None,
            objects=f"{now.objects_done}/{now.objects_total} objects",
            records=f"{now.records} records",
        )
        await asyncio.sleep(0.1)


async def _print_lines(work: TransformAgent) -> None:
    while True:
        await asyncio.sleep(REPORT_SECONDS)
        print(_line(work.progress), file=sys.stderr, flush=True)


def _line(now: Progress) -> str:
    share = f"{100 * now.bytes_in / now.bytes_total:.0f} %" if now.bytes_total else "-"
    return (
        f"{share} of {now.bytes_total / 1e6:.1f} MB, {now.objects_done}/{now.objects_total} objects, "
        f"{now.records} records, {now.objects_failed} failed"
    )


def _conclude(outcome: InstanceOutcome, request: TransformRequest, seconds: float) -> int:
    now = outcome.progress
    rate = now.records / seconds if seconds else 0.0
    print(
        f"{now.objects_done} of {now.objects_total} objects, {now.records} records, {now.bytes_in / 1e6:.1f} MB in, "
        f"{now.bytes_out / 1e6:.1f} MB out, {seconds:.2f} s ({rate:,.0f} records/s); output in {request.output}"
    )
    if now.records_failed:
        print(f"{now.records_failed} bad records, told in {request.output}: <name>.errors.jsonl", file=sys.stderr)
    if outcome.stopped:
        print("millrace transform: stopped; finished objects stay", file=sys.stderr)
        return 130
    for failure in outcome.failures:
        at = "" if failure.record is None else f", record {failure.record} at byte {failure.offset}"
        answer = f": {failure.answer}" if failure.answer else ""
        print(f"failed: {failure.key}{at}: {failure.message}{answer}", file=sys.stderr)
    reason = transform_failure_reason([outcome], job_options(request.environment).failures_allowed)
    if reason is not None:
        print(f"millrace transform: {reason}", file=sys.stderr)
        return 1
    return 0
