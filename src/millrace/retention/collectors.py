"""The collectors of a data directory, one for each kind of leftovers."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from millrace.engines.local import LocalEngine
from millrace.jobs.job import JobKind
from millrace.names import ObjectRef
from millrace.ports.jobs import JobStore
from millrace.ports.objects import NoSuchBucket, NoSuchUpload, UploadInfo
from millrace.ports.operation import OperationStore, UnfinishedJob
from millrace.retention.folder_size import folder_size
from millrace.retention.images import ImageDrafts, UnusedImages
from millrace.retention.leftover import Collector, Leftover, LeftoverKind, Rules
from millrace.store.filesystem import FilesystemObjects
from millrace.store.image_files import ImageFiles
from millrace.store.leftovers import LeftoverFile, remove_leftover
from millrace.store.log_files import LogFiles

__all__ = [
    "Drafts",
    "EndedJobs",
    "ExpiredKeys",
    "OldLogs",
    "OldUploads",
    "UnfinishedOutputs",
    "WorkFolders",
    "collectors",
]

_FINITE_GROUPS = {
    "/aws/sagemaker/TransformJobs",
    "/aws/sagemaker/TrainingJobs",
    "/aws/sagemaker/ProcessingJobs",
}
_ENDPOINT_GROUP = "/aws/sagemaker/Endpoints/"


def collectors(
    rules: Rules,
    *,
    jobs: JobStore,
    operation: OperationStore,
    objects: FilesystemObjects,
    logs: LogFiles,
    images: ImageFiles,
    engine: LocalEngine,
    work_dir: Path,
) -> Sequence[Collector]:
    """Return the collectors that the rules call for, in the order in which they run."""
    found: list[Collector] = [
        WorkFolders(work_dir=work_dir, operation=operation, engine=engine),
        Drafts(objects=objects, keep=rules.drafts),
        ImageDrafts(images=images, keep=rules.drafts),
        UnusedImages(images=images, jobs=jobs, keep=rules.drafts),
        ExpiredKeys(operation=operation),
        OldLogs(logs=logs, operation=operation, keep=rules.logs),
    ]
    if rules.outputs is not None:
        found.append(UnfinishedOutputs(objects=objects, keep=rules.outputs))
    if rules.uploads is not None:
        found.append(OldUploads(objects=objects, keep=rules.uploads))
    if rules.jobs is not None:
        found.append(EndedJobs(operation=operation, keep=rules.jobs))
    return found


@dataclass(frozen=True, kw_only=True)
class EndedJobs:
    """Records of jobs that ended long ago. Endpoints are no such jobs: they are deleted by their owner."""

    operation: OperationStore
    keep: timedelta

    async def find(self, now: datetime) -> list[Leftover]:
        found: list[Leftover] = []
        after = None
        while page := await self.operation.list_ended_jobs(now - self.keep, after=after):
            after = page[-1]
            found += [
                Leftover(
                    kind=LeftoverKind.JOB,
                    name=f"{job.kind.value}/{job.name} in {job.region}",
                    size=0,
                    since=job.ended_at,
                    mark=job.id,
                )
                for job in page
            ]
        return found

    async def remove(self, leftover: Leftover, now: datetime) -> bool:
        assert isinstance(leftover.mark, int)
        return await self.operation.forget_ended_job(leftover.mark, now - self.keep)


@dataclass(frozen=True, kw_only=True)
class OldLogs:
    """Streams whose newest line is older than their group's retention (or the one of the settings).

    CloudWatch Logs removes single events; here a stream goes as a whole, as a line's place in its file is its address.
    Streams of jobs and endpoints that run are kept, however long they have been silent.
    """

    logs: LogFiles
    operation: OperationStore
    keep: timedelta | None

    async def find(self, now: datetime) -> list[Leftover]:
        unfinished = await self.operation.list_unfinished()
        return await asyncio.to_thread(self._find, now, unfinished)

    def _find(self, now: datetime, unfinished: Sequence[UnfinishedJob]) -> list[Leftover]:
        running = {job.name for job in unfinished if job.kind is not JobKind.ENDPOINT}
        endpoints = {_ENDPOINT_GROUP + job.name for job in unfinished if job.kind is JobKind.ENDPOINT}
        found = []
        for group in self.logs.list_groups():
            keep = self.keep if group.retention_days is None else timedelta(days=group.retention_days)
            if keep is None or group.name in endpoints:
                continue
            limit_ms = _milliseconds(now - keep)
            for stream in self.logs.list_streams(group.name):
                if group.name in _FINITE_GROUPS and stream.name.partition("/")[0] in running:
                    continue
                last_ms = max(stream.created_ms, stream.last_event_ms or 0)
                if last_ms < limit_ms:
                    found.append(
                        Leftover(
                            kind=LeftoverKind.LOG_STREAM,
                            name=f"{group.name} {stream.name}",
                            size=stream.stored_bytes,
                            since=datetime.fromtimestamp(last_ms / 1000, UTC),
                            mark=(group.name, stream.name, limit_ms),
                        )
                    )
        return found

    async def remove(self, leftover: Leftover, now: datetime) -> bool:
        assert isinstance(leftover.mark, tuple)
        group, stream, limit_ms = leftover.mark
        return await asyncio.to_thread(self.logs.delete_untouched, group, stream, since_ms=limit_ms)


@dataclass(frozen=True, kw_only=True)
class OldUploads:
    """Multipart uploads that nobody has completed, aborted or added a part to for long."""

    objects: FilesystemObjects
    keep: timedelta

    async def find(self, now: datetime) -> list[Leftover]:
        found = []
        for bucket in await self.objects.list_buckets():
            for upload in await self.objects.list_uploads(bucket.name):
                leftover = await self._look(upload)
                if leftover is not None and leftover.since is not None and leftover.since < now - self.keep:
                    found.append(leftover)
        return found

    async def _look(self, upload: UploadInfo) -> Leftover | None:
        try:
            parts = await self.objects.list_parts(upload.ref, upload.upload_id)
        except (NoSuchUpload, NoSuchBucket):  # completed or aborted meanwhile
            return None
        return Leftover(
            kind=LeftoverKind.UPLOAD,
            name=f"{upload.ref} {upload.upload_id}",
            size=sum(part.size for part in parts),
            since=max([upload.initiated_at, *(part.modified_at for part in parts)]),
            mark=(upload.ref, upload.upload_id),
        )

    async def remove(self, leftover: Leftover, now: datetime) -> bool:
        assert isinstance(leftover.mark, tuple)
        ref, upload_id = leftover.mark
        assert isinstance(ref, ObjectRef)
        try:
            again = await self._look(await self.objects.get_upload(ref, upload_id))
            if again is None or again.since is None or again.since >= now - self.keep:
                return False
            await self.objects.abort_upload(ref, upload_id)
        except (NoSuchUpload, NoSuchBucket):
            return False
        return True


@dataclass(frozen=True, kw_only=True)
class Drafts:
    """Files that a killed writer left half written, and what killed removals left half removed."""

    objects: FilesystemObjects
    keep: timedelta

    async def find(self, now: datetime) -> list[Leftover]:
        return [
            Leftover(
                kind=LeftoverKind.DRAFT,
                name=str(file.path),
                size=file.size,
                since=datetime.fromtimestamp(file.limit_ns / 1e9, UTC),
                mark=file,
            )
            for file in await self.objects.list_leftovers(older_than=self.keep)
        ]

    async def remove(self, leftover: Leftover, now: datetime) -> bool:
        assert isinstance(leftover.mark, LeftoverFile)
        return await asyncio.to_thread(remove_leftover, leftover.mark)


@dataclass(frozen=True, kw_only=True)
class UnfinishedOutputs:
    """What failed, stopped and killed jobs have written of their outputs, for a later attempt to go on with.

    The output of a job that runs is held by its writer, or was not long ago. Should it go nevertheless, as when no
    server has run for long, the job writes it again from the start.
    """

    objects: FilesystemObjects
    keep: timedelta

    async def find(self, now: datetime) -> list[Leftover]:
        return [
            Leftover(kind=LeftoverKind.OUTPUT, name=str(file.path), size=file.size, since=now - self.keep, mark=file)
            for file in await self.objects.list_kept_drafts(now - self.keep)
        ]

    async def remove(self, leftover: Leftover, now: datetime) -> bool:
        assert isinstance(leftover.mark, LeftoverFile)
        return await asyncio.to_thread(remove_leftover, leftover.mark)


@dataclass(frozen=True, kw_only=True)
class ExpiredKeys:
    """Temporary keys that have had their time: they are refused anyway."""

    operation: OperationStore

    async def find(self, now: datetime) -> list[Leftover]:
        number = await self.operation.count_expired_keys(now)
        if not number:
            return []
        return [Leftover(kind=LeftoverKind.KEYS, name=f"{number} temporary keys", size=0, since=now)]

    async def remove(self, leftover: Leftover, now: datetime) -> bool:
        return await self.operation.delete_expired_keys(now) > 0


@dataclass(frozen=True, kw_only=True)
class WorkFolders:
    """Working folders of jobs that ended, or are not there: what a crash kept from being removed."""

    work_dir: Path
    operation: OperationStore
    engine: LocalEngine

    async def find(self, now: datetime) -> list[Leftover]:
        # Folders first: a job that is made in between has no folder in this list.
        folders = await asyncio.to_thread(self._folders)
        keep = {job.id for job in await self.operation.list_unfinished()}
        return [
            Leftover(
                kind=LeftoverKind.WORK_FOLDER,
                name=str(folder),
                size=await asyncio.to_thread(folder_size, folder),
                since=None,
                mark=int(folder.name),
            )
            for folder in folders
            if int(folder.name) not in keep
        ]

    def _folders(self) -> list[Path]:
        try:
            return sorted(path for path in self.work_dir.iterdir() if path.name.isdecimal())
        except FileNotFoundError:
            return []

    async def remove(self, leftover: Leftover, now: datetime) -> bool:
        assert isinstance(leftover.mark, int)
        await self.engine.remove_work(leftover.mark, None)
        return True


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
