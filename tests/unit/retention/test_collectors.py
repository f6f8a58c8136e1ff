"""What gc finds, what it removes, and above all what it leaves."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from millrace.clock import SystemClock
from millrace.engines.local import LocalEngine
from millrace.jobs.job import JobKind, JobStatus
from millrace.names import ObjectRef
from millrace.ports.images import ImageConfig, ImageName, ImageStep
from millrace.ports.jobs import NoSuchJob
from millrace.ports.logs import LogEvent, NoSuchLogStream
from millrace.ports.objects import DraftLost, NoSuchUpload
from millrace.retention import Collector, Leftover, LeftoverKind, Report, Rules, collect, collectors, run_daily
from millrace.store.filesystem import FilesystemObjects
from millrace.store.image_files import ImageFiles
from millrace.store.log_files import LogFiles
from millrace.store.sql_jobs import SqlJobStore
from millrace.store.sql_operation import SqlOperationStore
from millrace.store.sqlite import SqliteDatabase
from millrace.testing.clock import ManualClock
from millrace.testing.contract_jobs import transform_job

DAY = timedelta(days=1)
GROUP = "/aws/sagemaker/TransformJobs"


@dataclass(frozen=True, kw_only=True)
class Place:
    """A data directory."""

    folder: Path
    jobs: SqlJobStore
    operation: SqlOperationStore
    objects: FilesystemObjects
    logs: LogFiles

    def collectors(self, **rules: timedelta) -> list[Collector]:
        engine = LocalEngine(self.folder / "work", self.folder / "agents.log", {}, on_exit=lambda: None)
        return list(
            collectors(
                Rules(**rules),
                jobs=self.jobs,
                operation=self.operation,
                objects=self.objects,
                logs=self.logs,
                images=ImageFiles(self.folder / "images"),
                engine=engine,
                work_dir=self.folder / "work",
            )
        )

    async def collect(self, *, days: float = 0, dry_run: bool = False, **rules: timedelta) -> Report:
        """Run gc as if so many days had gone by."""
        now = datetime.now(UTC) + timedelta(days=days)
        return await collect(self.collectors(**rules), now, dry_run=dry_run)

    async def job(self, name: str, *, ended: bool) -> int:
        job = await self.jobs.add(JobKind.TRANSFORM, transform_job(name), {})
        if ended:
            await self.jobs.save(replace(job, status=JobStatus.COMPLETED, ended_at=datetime.now(UTC)))
        return job.id

    def log(self, group: str, stream: str, *, days_ago: float = 0) -> None:
        """Write a line as it was written then."""
        moment = datetime.now(UTC) - timedelta(days=days_ago)
        self.logs.append(group, stream, [LogEvent(int(moment.timestamp() * 1000), "hello")])
        path = self.logs._stream_path(group, stream)
        header, _, rest = path.read_bytes().partition(b"\n")
        path.write_bytes(header.replace(b'"created":', b'"created":0,"was":') + b"\n" + rest)
        os.utime(path, (moment.timestamp(), moment.timestamp()))

    def streams(self, group: str = GROUP) -> list[str]:
        with suppress(NoSuchLogStream):
            return [stream.name for stream in self.logs.list_streams(group)]
        return []


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    database = SqliteDatabase(tmp_path / "state.db", durable=False)
    yield Place(
        folder=tmp_path,
        jobs=SqlJobStore(database, clock=SystemClock()),
        operation=SqlOperationStore(database),
        objects=FilesystemObjects(tmp_path / "objects"),
        logs=LogFiles(tmp_path / "logs"),
    )
    database.close()


async def _pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def _kinds(report: Report) -> dict[str, int]:
    assert report.failed == 0
    return report.counts()


async def test_without_rules_records_logs_and_uploads_stay_for_ever(place: Place) -> None:
    """The defaults surprise nobody: what a user made is not removed by its age."""
    await place.job("done", ended=True)
    place.log(GROUP, "done/1", days_ago=4000)
    await place.objects.create_bucket("shop", region="us-east-1", owner="1")
    await place.objects.create_upload(ObjectRef("shop", "big"))
    assert _kinds(await place.collect(days=4000)) == {}


async def test_records_of_ended_jobs_go_when_their_time_is_over(place: Place) -> None:
    """Not a day earlier, and never one of a job that runs."""
    done = await place.job("done", ended=True)
    runs = await place.job("runs", ended=False)
    assert _kinds(await place.collect(days=6, jobs=7 * DAY)) == {}
    report = await place.collect(days=8, jobs=7 * DAY)
    assert [leftover.name for leftover in report.leftovers] == ["transform-job/done in us-east-1"]
    with pytest.raises(NoSuchJob):
        await place.jobs.get_by_id(done)
    assert (await place.jobs.get_by_id(runs)).name == "runs"
    assert _kinds(await place.collect(days=4000, jobs=7 * DAY)) == {}


async def test_a_dry_run_tells_the_same_and_removes_nothing(place: Place) -> None:
    """What it tells is what the next run removes."""
    await place.job("done", ended=True)
    place.log(GROUP, "done/1", days_ago=30)
    dry = await place.collect(days=30, dry_run=True, jobs=DAY, logs=DAY)
    assert place.streams() == ["done/1"]
    wet = await place.collect(days=30, jobs=DAY, logs=DAY)
    assert [(it.kind, it.name, it.size) for it in wet.leftovers] == [
        (it.kind, it.name, it.size) for it in dry.leftovers
    ]
    assert _kinds(dry) == {LeftoverKind.LOG_STREAM.value: 1, LeftoverKind.JOB.value: 1}
    assert place.streams() == []


async def test_a_group_has_a_retention_of_its_own(place: Place) -> None:
    """PutRetentionPolicy wins over the setting, shorter or longer."""
    place.log("/shop/short", "a", days_ago=5)
    place.log("/shop/long", "a", days_ago=5)
    place.log("/shop/none", "a", days_ago=5)
    place.logs.configure("/shop/short", retention_days=3)
    place.logs.configure("/shop/long", retention_days=30)
    report = await place.collect()
    assert [leftover.name for leftover in report.leftovers] == ["/shop/short a"]
    report = await place.collect(logs=4 * DAY)
    assert [leftover.name for leftover in report.leftovers] == ["/shop/none a"]
    assert place.streams("/shop/long") == ["a"]


async def test_streams_with_a_young_line_stay(place: Place) -> None:
    """The newest line counts, not the first."""
    place.log(GROUP, "old/1", days_ago=9)
    place.log(GROUP, "young/1", days_ago=9)
    place.log(GROUP, "young/1", days_ago=1)
    await place.collect(logs=7 * DAY)
    assert place.streams() == ["young/1"]


async def test_logs_of_what_runs_stay_however_old(place: Place) -> None:
    """A job that has been silent for weeks still writes on in its stream."""
    await place.job("runs", ended=False)
    place.log(GROUP, "runs/1", days_ago=90)
    place.log(GROUP, "runs-not/1", days_ago=90)
    report = await place.collect(logs=DAY)
    assert [leftover.name for leftover in report.leftovers] == [f"{GROUP} runs-not/1"]
    assert place.streams() == ["runs/1"]


async def test_a_stream_that_is_written_between_finding_and_removing_stays(place: Place) -> None:
    """What came back to life is not removed."""
    place.log(GROUP, "old/1", days_ago=9)
    [collector] = [it for it in place.collectors(logs=DAY) if type(it).__name__ == "OldLogs"]
    now = datetime.now(UTC)
    [leftover] = await collector.find(now)
    place.logs.append(GROUP, "old/1", [LogEvent(int(now.timestamp() * 1000), "again")])
    assert not await collector.remove(leftover, now)
    assert place.streams() == ["old/1"]


async def test_uploads_go_when_nobody_has_touched_them_for_long(place: Place) -> None:
    """A part that was added lately keeps an upload; sizes are those of the parts."""
    await place.objects.create_bucket("shop", region="us-east-1", owner="1")
    ref = ObjectRef("shop", "big")
    upload = await place.objects.create_upload(ref)
    await place.objects.put_part(ref, upload.upload_id, 1, _pieces(b"x" * 1000))
    assert _kinds(await place.collect(days=29, uploads=30 * DAY)) == {}
    report = await place.collect(days=31, uploads=30 * DAY)
    assert (_kinds(report), report.size) == ({LeftoverKind.UPLOAD.value: 1}, 1000)
    with pytest.raises(NoSuchUpload):
        await place.objects.get_upload(ref, upload.upload_id)


async def test_an_upload_that_gets_a_part_between_finding_and_removing_stays(place: Place) -> None:
    """Its client is at work."""
    now = datetime.now(UTC)
    await place.objects.create_bucket("shop", region="us-east-1", owner="1")
    ref = ObjectRef("shop", "big")
    upload = await FilesystemObjects(place.folder / "objects", clock=ManualClock(now - 9 * DAY)).create_upload(ref)
    [collector] = [it for it in place.collectors(uploads=DAY) if type(it).__name__ == "OldUploads"]
    [leftover] = await collector.find(now)
    await place.objects.put_part(ref, upload.upload_id, 1, _pieces(b"x"))
    assert not await collector.remove(leftover, now)
    await place.objects.get_upload(ref, upload.upload_id)


async def test_unfinished_outputs_go_when_nobody_has_gone_on_with_them(place: Place) -> None:
    """Neither those that are written now, nor younger ones; without a rule, none."""
    await place.objects.create_bucket("shop", region="us-east-1", owner="1")
    writers = [
        await place.objects.open_resumable(ObjectRef("shop", "out"), draft=f"job-{number}", at=0) for number in range(2)
    ]
    for writer in writers:
        await writer.write(b"12345")
        await writer.checkpoint()
    await writers[0].suspend()
    assert _kinds(await place.collect(days=4000)) == {}
    assert _kinds(await place.collect(days=6, outputs=7 * DAY)) == {}
    report = await place.collect(days=8, outputs=7 * DAY)
    assert (_kinds(report), report.size) == ({LeftoverKind.OUTPUT.value: 1}, 5)
    with pytest.raises(DraftLost):
        await place.objects.open_resumable(ObjectRef("shop", "out"), draft="job-0", at=5)
    assert (await writers[1].commit()).size == 5


async def test_an_unfinished_output_that_is_gone_on_with_between_finding_and_removing_stays(place: Place) -> None:
    """Whether its writer is still there or was."""
    await place.objects.create_bucket("shop", region="us-east-1", owner="1")
    ref = ObjectRef("shop", "out")
    writer = await place.objects.open_resumable(ref, draft="job", at=0)
    await writer.write(b"12345")
    await writer.checkpoint()
    await writer.suspend()
    [draft] = (place.folder / "objects" / ".millrace" / "shop" / "drafts").iterdir()
    now = datetime.now(UTC)
    os.utime(draft, ((now - 9 * DAY).timestamp(),) * 2)
    [collector] = [it for it in place.collectors(outputs=DAY) if type(it).__name__ == "UnfinishedOutputs"]
    [leftover] = await collector.find(now)
    writer = await place.objects.open_resumable(ref, draft="job", at=5)
    assert not await collector.remove(leftover, now)
    await writer.suspend()
    assert not await collector.remove(leftover, now)
    assert (await (await place.objects.open_resumable(ref, draft="job", at=5)).commit()).size == 5


async def test_work_folders_of_what_runs_stay(place: Place) -> None:
    """Folders of jobs that ended, or that nobody knows, go; other things in work/ are not ours to remove."""
    done, runs = await place.job("done", ended=True), await place.job("runs", ended=False)
    for name in (str(done), str(runs), "4711", "notes"):
        folder = place.folder / "work" / name / "0"
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"x" * 10)
    report = await place.collect()
    assert (_kinds(report), report.size) == ({LeftoverKind.WORK_FOLDER.value: 2}, 20)
    assert sorted(path.name for path in (place.folder / "work").iterdir()) == [str(runs), "notes"]


async def test_drafts_of_builds_go_with_their_builders(place: Place) -> None:
    """An unfinished layer stays for as long as its builder lives, however long that takes."""
    images = ImageFiles(place.folder / "images")
    with images.draft() as alive:
        (alive / "file").write_bytes(b"x" * 10)
        dead = alive.with_name("dead")
        dead.mkdir()
        (dead / "file").write_bytes(b"x" * 20)
        dead.with_suffix(".lock").touch()
        assert _kinds(await place.collect(days=0.5)) == {}
        report = await place.collect(days=2)
        assert (_kinds(report), report.size) == ({LeftoverKind.IMAGE_DRAFT.value: 1}, 20)
        assert (alive.exists(), dead.exists()) == (True, False)


async def test_objects_are_never_touched(place: Place) -> None:
    """Whatever the rules and however old: an object is its owner's."""
    await place.objects.create_bucket("shop", region="us-east-1", owner="1")
    await place.objects.put(ObjectRef("shop", "a"), _pieces(b"x"))
    now = timedelta(0)
    assert _kinds(await place.collect(days=4000, jobs=now, logs=now, uploads=now, drafts=now)) == {}
    assert (await place.objects.get(ObjectRef("shop", "a"))).size == 1


async def test_images_that_nothing_needs_go_once_they_are_old(place: Place) -> None:
    """A tag, an unfinished job that names the digest, and a build that runs keep them."""
    images = ImageFiles(place.folder / "images")
    digests = []
    for name in ("tagged", "used", "replaced"):
        with images.draft() as draft:
            (draft / "upper").mkdir()
            layer, _ = images.keep_layer(name, draft / "upper")
        steps = [ImageStep(text="RUN", layer=layer)]
        digests.append(images.add(base="debian", layers=(layer,), config=ImageConfig(), steps=steps).digest)
    images.tag(ImageName(repository="shop/tagged"), digests[0])
    job = transform_job("used")
    containers = tuple(replace(it, resolved_image=f"shop/used@{digests[1]}") for it in job.containers)
    await place.jobs.add(JobKind.TRANSFORM, replace(job, containers=containers), {})

    assert not (await place.collect(days=0.5)).leftovers
    with images.building():
        assert [it.kind for it in (await place.collect(days=2, dry_run=True)).leftovers] == [LeftoverKind.IMAGES]
        assert not (await place.collect(days=2)).leftovers
    assert [it.kind for it in (await place.collect(days=2)).leftovers] == [LeftoverKind.IMAGES]
    assert [images.read(digest) is not None for digest in digests] == [True, True, False]
    assert sorted(it.name for it in (images.folder / "layers").iterdir()) == ["tagged", "used"]
    assert not (await place.collect(days=2)).leftovers


class _Broken:
    """A collector that fails."""

    async def find(self, now: datetime) -> list[Leftover]:
        return [Leftover(kind=LeftoverKind.DRAFT, name=name, size=1, since=None) for name in ("a", "b")]

    async def remove(self, leftover: Leftover, now: datetime) -> bool:
        if leftover.name == "a":
            raise OSError("disk")
        return True


async def test_one_failure_does_not_stop_the_rest() -> None:
    """What could be removed is, and the report says how much could not."""
    report = await collect([_Broken()], datetime.now(UTC), dry_run=False)
    assert ([leftover.name for leftover in report.leftovers], report.failed) == (["b"], 1)


async def test_the_server_runs_gc_once_an_interval(place: Place) -> None:
    """Two servers of one state, two hours: two runs in all."""
    clock = ManualClock()
    reports: list[Report] = []
    tasks = [
        asyncio.create_task(
            run_daily(
                place.collectors(),
                operation=place.operation,
                clock=clock,
                interval_seconds=3600,
                on_report=reports.append,
            )
        )
        for _ in range(2)
    ]
    for _ in range(12):
        await clock.sleepers(2)
        clock.advance(600)
    await clock.sleepers(2)
    for task in tasks:
        task.cancel()
    assert len(reports) == 2
