"""Tests of jobs whose inputs may not be read, or whose outputs not be written."""

import errno
import os
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from tests.acceptance.transform_rig import ECHO, Result, job, run_job

from millrace.dataplane.listing import check_manifest, list_ahead
from millrace.errors import ClientFailure
from millrace.jobs.transform import BatchStrategy, SourceType, SplitType
from millrace.names import ObjectPrefix, ObjectRef
from millrace.ports.objects import NoSuchBucket, ObjectUnreadable
from millrace.testing.faulty_objects import FaultyObjects, Step, Trouble

KINDS: tuple[dict[str, object], ...] = (
    {},
    {"split": SplitType.LINE, "strategy": BatchStrategy.SINGLE_RECORD},
    {"max_payload_bytes": 0},
)
"""Jobs whose objects are one payload, are cut into records, and are streamed through."""
INPUTS = {"in/a.csv": b"1\n", "in/b.csv": b"2\n"}


def unreadable(ref: ObjectRef) -> Exception:
    return ObjectUnreadable(ref, "the store may not read it (Permission denied)")


def refused(number: int, ref: ObjectRef) -> Exception:
    return OSError(number, os.strerror(number), "/srv/data/o/shop")


def gone(ref: ObjectRef) -> Exception:
    return NoSuchBucket(ref.bucket)


async def run(kind: dict[str, object], step: Step, trouble: Trouble) -> Result:
    """Run a job of two objects of which the first one has trouble."""
    store = FaultyObjects(troubles={(step, 0): trouble})
    result = await run_job(job(**kind), ECHO, INPUTS, objects=store)
    assert result.objects.keys("b", "out/") == ["out/b.csv.out"]
    return result


@pytest.mark.parametrize("kind", KINDS)
async def test_an_input_that_may_not_be_read_fails_by_itself(kind: dict[str, object]) -> None:
    """Other objects get their outputs, and the reason says what is wrong with which."""
    result = await run(kind, Step.READ, unreadable)
    assert result.reason == (
        "ClientError: See job logs for more information. 1 of 2 objects failed; first: in/a.csv: "
        "s3://b/in/a.csv can't be read: the store may not read it (Permission denied)"
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [Step.OPEN, Step.COMMIT])
@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
async def test_an_output_that_may_not_be_written_fails_by_itself(
    kind: dict[str, object], step: Step, number: int
) -> None:
    """The reason names the output, and not where it lies on the machine."""
    result = await run(kind, step, partial(refused, number))
    assert result.reason == (
        "ClientError: See job logs for more information. 1 of 2 objects failed; first: in/a.csv: "
        f"output s3://b/out/a.csv.out could not be written: {os.strerror(number)}"
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [Step.OPEN, Step.COMMIT])
async def test_a_bucket_that_goes_fails_its_outputs(kind: dict[str, object], step: Step) -> None:
    """Also between the first byte of an output and its commit; the input is not said to be missing."""
    result = await run(kind, step, gone)
    assert result.reason == (
        "ClientError: See job logs for more information. 1 of 2 objects failed; first: in/a.csv: "
        "bucket b of the output does not exist"
    )


async def test_an_input_that_may_not_be_listed_fails_its_job(tmp_path: Path) -> None:
    """What is in a folder that may not be entered is not left out unnoticed."""

    def closed(_: ObjectRef) -> Exception:
        return ObjectUnreadable("b/in/secret/", "the store may not read it (Permission denied)")

    store = FaultyObjects(troubles={(Step.LIST, 0): closed})
    store.add("s3://b/in/a.csv", b"1\n")
    with pytest.raises(ClientFailure) as caught:
        await list_ahead(store, job(), tmp_path)
    assert str(caught.value) == (
        "s3://b/in/ can't be listed: b/in/secret/: the store may not read it (Permission denied)"
    )


async def test_a_manifest_that_may_not_be_read_is_told() -> None:
    """When the job is created, by the same words."""

    class Closed(FaultyObjects):
        async def read(self, ref: ObjectRef, *, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
            raise unreadable(ref)
            yield b""

    store = Closed()
    store.add("s3://b/list.json", b"[]")
    spec = job(source=ObjectPrefix("b", "list.json"), source_type=SourceType.MANIFEST)
    with pytest.raises(ClientFailure, match=r"manifest s3://b/list.json can't be read: the store may not read it"):
        await check_manifest(store, spec)
