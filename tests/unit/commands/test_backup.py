"""A back-up is a data directory with everything in it, taken from one that is in use."""

import asyncio
import json
import os
import sqlite3
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from millrace import settings as settings_module
from millrace.clock import SystemClock
from millrace.commands.backup import back_up
from millrace.errors import StoreUnavailable, UsageError
from millrace.jobs.job import JobKind
from millrace.names import ObjectRef
from millrace.ports.jobs import InstanceRef
from millrace.ports.logs import LogEvent
from millrace.ports.objects import ObjectMeta
from millrace.settings import Settings
from millrace.store.filesystem import FilesystemObjects
from millrace.store.log_files import LogFiles
from millrace.store.sql_jobs import SqlJobStore
from millrace.store.sqlite import SqliteDatabase
from millrace.store.sqlite_snapshot import snapshot
from millrace.testing.contract_jobs import transform_job

REF = ObjectRef("shop", "orders/1.csv")


async def _pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_module.load({}, data_dir=tmp_path / "data")


async def _fill(settings: Settings, *, use_attributes: bool) -> None:
    database = SqliteDatabase(settings.database_path, durable=False)
    jobs = SqlJobStore(database, clock=SystemClock())
    job = await jobs.add(JobKind.TRANSFORM, transform_job("prices"), {})
    ref = InstanceRef(job_id=job.id, index=0, attempt=1)
    await jobs.open_instance(ref)
    await jobs.register_agent(ref, agent_id="a", process_id=os.getpid(), process_start=7, host="h")
    database.close()
    objects = FilesystemObjects(settings.objects_dir, use_attributes=use_attributes)
    await objects.create_bucket("shop", region="eu-west-1", owner="1")
    await objects.put(REF, _pieces(b"1,2\n"), ObjectMeta(user={"colour": "green"}))
    upload = await objects.create_upload(ObjectRef("shop", "big"))
    await objects.put_part(ObjectRef("shop", "big"), upload.upload_id, 1, _pieces(b"x"))
    LogFiles(settings.logs_dir).append("/shop", "a", [LogEvent(1, "hello")])
    (settings.data_dir / "host-images.toml").write_text("# mine\n")
    (settings.data_dir / "work" / "1").mkdir(parents=True)


@pytest.mark.parametrize("use_attributes", [True, False])
async def test_a_back_up_has_all_that_matters(settings: Settings, tmp_path: Path, use_attributes: bool) -> None:
    """Jobs, objects with what is known about them, uploads in progress, logs, image definitions; no work folders."""
    await _fill(settings, use_attributes=use_attributes)
    assert await asyncio.to_thread(back_up, settings, tmp_path / "copy", as_json=False) == 0
    copy = replace(settings, data_dir=tmp_path / "copy")
    objects = FilesystemObjects(copy.objects_dir, use_attributes=use_attributes)
    original = FilesystemObjects(settings.objects_dir, use_attributes=use_attributes)
    found = await objects.get(REF)
    assert (found.meta.user, found.etag) == ({"colour": "green"}, (await original.get(REF)).etag)
    assert [bucket.region for bucket in await objects.list_buckets()] == ["eu-west-1"]
    [upload] = await objects.list_uploads("shop")
    [part] = await objects.list_parts(upload.ref, upload.upload_id)
    assert part.size == 1
    assert LogFiles(copy.logs_dir).read("/shop", "a").events == [LogEvent(1, "hello")]
    assert (copy.data_dir / "host-images.toml").read_text() == "# mine\n"
    assert not (copy.data_dir / "work").exists()
    assert copy.data_dir.stat().st_mode & 0o077 == 0
    assert copy.database_path.stat().st_mode & 0o077 == 0


async def test_no_agent_is_at_work_in_a_copy(settings: Settings, tmp_path: Path) -> None:
    """A server on the copy must not take the original's processes for its own: it might end them."""
    await _fill(settings, use_attributes=True)
    await asyncio.to_thread(back_up, settings, tmp_path / "copy", as_json=False)
    database = SqliteDatabase(tmp_path / "copy" / "state.db")
    jobs = SqlJobStore(database, clock=SystemClock())
    [job_id] = await jobs.list_unfinished()
    [agent] = await jobs.list_agents(job_id)
    assert (agent.process_id, agent.host) == (0, "")
    database.close()


async def test_outputs_are_gone_on_with_in_a_copy(settings: Settings, tmp_path: Path) -> None:
    """An unfinished output comes along while its writer goes on; what the notes count of it is there."""
    await _fill(settings, use_attributes=True)
    writer = await FilesystemObjects(settings.objects_dir).open_resumable(ObjectRef("shop", "out"), draft="job", at=0)
    await writer.write(b"1,2\n")
    assert await writer.checkpoint() == 4
    await writer.write(b"3,4\n")
    assert await asyncio.to_thread(back_up, settings, tmp_path / "copy", as_json=False) == 0
    copy = FilesystemObjects(replace(settings, data_dir=tmp_path / "copy").objects_dir)
    second = await copy.open_resumable(ObjectRef("shop", "out"), draft="job", at=4)
    assert (await second.commit()).size == 4
    assert (await writer.commit()).size == 8


async def test_a_back_up_of_a_back_up_is_one(settings: Settings, tmp_path: Path) -> None:
    """So it is restored by backing it up to where it shall be."""
    await _fill(settings, use_attributes=False)
    await asyncio.to_thread(back_up, settings, tmp_path / "copy", as_json=False)
    copy = replace(settings, data_dir=tmp_path / "copy")
    await asyncio.to_thread(back_up, copy, tmp_path / "again", as_json=False)
    objects = FilesystemObjects(tmp_path / "again" / "objects", use_attributes=False)
    assert (await objects.get(REF)).meta.user == {"colour": "green"}


def test_a_copy_is_of_one_moment(tmp_path: Path) -> None:
    """While a writer adds rows in pairs, each copy has whole pairs and passes SQLite's own check."""
    path = tmp_path / "state.db"
    SqliteDatabase(path, durable=False).close()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE pairs (number INTEGER)")
    stop = threading.Event()
    written = threading.Event()

    def write() -> None:
        connection = sqlite3.connect(path, isolation_level=None)
        number = 0
        while not stop.is_set():
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO pairs VALUES (?)", [(number,), (number,)])
            connection.execute("COMMIT")
            number += 1
            written.set()
        connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert written.wait(30)
        counts = []
        for number in range(5):
            snapshot(path, tmp_path / f"copy-{number}.db")
            copy = sqlite3.connect(tmp_path / f"copy-{number}.db")
            counts += copy.execute("SELECT COUNT(*) FROM pairs").fetchone()
            copy.close()
    finally:
        stop.set()
        writer.join()
    assert all(count % 2 == 0 for count in counts)
    assert counts == sorted(counts)


def test_a_folder_that_is_there_is_not_written_to(settings: Settings, tmp_path: Path) -> None:
    """Nor one inside of the data directory, which the next back-up would copy too."""
    SqliteDatabase(settings.database_path).close()
    (tmp_path / "there").mkdir()
    with pytest.raises(UsageError, match="must not exist yet"):
        back_up(settings, tmp_path / "there", as_json=False)
    with pytest.raises(UsageError, match="outside of the data directory"):
        back_up(settings, settings.data_dir / "copy", as_json=False)


def test_a_back_up_that_fails_leaves_nothing(settings: Settings, tmp_path: Path) -> None:
    """A folder that is there is a back-up that is complete."""
    settings.data_dir.mkdir()
    settings.database_path.write_bytes(b"this is no database, and longer than a header of one hundred bytes" * 9)
    with pytest.raises(StoreUnavailable):
        back_up(settings, tmp_path / "copy", as_json=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


async def test_numbers_are_told_as_json(
    settings: Settings, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """For scripts that keep watch over back-ups."""
    await _fill(settings, use_attributes=True)
    await asyncio.to_thread(back_up, settings, tmp_path / "copy", as_json=True)
    told = json.loads(capfdbinary.readouterr().out)
    assert (told["folder"], told["objects"], told["log_files"]) == (str(tmp_path / "copy"), 1, 2)


@pytest.mark.parametrize("use_attributes", [True, False])
async def test_a_bucket_may_be_called_tmp(settings: Settings, tmp_path: Path, use_attributes: bool) -> None:
    """Names that Millrace uses inside are names like any others for buckets and in keys; only drafts stay behind."""
    await _fill(settings, use_attributes=use_attributes)
    objects = FilesystemObjects(settings.objects_dir, use_attributes=use_attributes)
    await objects.create_bucket("tmp", region="eu-west-1", owner="7")
    keys = ["tmp", "tmp2/tmp/a", "uploads/b/tmp/c", "odd//tmp/d", "x" * 300 + "/tmp", "folder/tmp/", "\u00e9/./tmp"]
    for key in keys:
        await objects.put(ObjectRef("tmp", key), _pieces(key.encode()), ObjectMeta(user={"key": str(len(key))}))
    await objects.put_bucket_document("tmp", "policy", "{}")
    upload = await objects.create_upload(ObjectRef("tmp", "tmp"))
    await objects.put_part(ObjectRef("tmp", "tmp"), upload.upload_id, 1, _pieces(b"x"))
    draft = settings.objects_dir / ".millrace" / "tmp" / "tmp" / "draft"
    draft.parent.mkdir(exist_ok=True)
    draft.write_bytes(b"half")
    await asyncio.to_thread(back_up, settings, tmp_path / "copy", as_json=False)
    copied = FilesystemObjects(replace(settings, data_dir=tmp_path / "copy").objects_dir, use_attributes=use_attributes)
    for key in keys:
        found = await copied.get(ObjectRef("tmp", key))
        assert found.meta.user == {"key": str(len(key))}
        assert b"".join([piece async for piece in copied.read(found.ref)]) == key.encode()
    state = await copied.get_bucket_state("tmp")
    assert state.documents == (await objects.get_bucket_state("tmp")).documents
    assert [it.owner for it in await copied.list_buckets() if it.name == "tmp"] == ["7"]
    assert len(await copied.list_parts(upload.ref, upload.upload_id)) == 1
    assert not list((tmp_path / "copy" / "objects" / ".millrace").rglob("draft"))
