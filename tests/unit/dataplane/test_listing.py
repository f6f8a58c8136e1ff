"""Tests of how instances agree on the input that each of them lists."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from millrace.dataplane.listing import agree, listing_digest
from millrace.dataplane.plan import InputObject, assign
from millrace.errors import ClientFailure
from millrace.names import ObjectRef
from millrace.ports.jobs import InstanceRef
from millrace.testing.journal import MemoryJournals

CREATED = datetime(2026, 1, 1, tzinfo=UTC)


def listed(*keys: str, late: str = "", size: int = 1) -> list[InputObject]:
    """Return inputs of these keys; those in `late` were written after the job was created."""
    return [
        InputObject(
            ref=ObjectRef("b", key),
            size=size,
            output=ObjectRef("b", f"{key}.out"),
            version="v",
            modified_at=CREATED + timedelta(seconds=1 if key in late else -1),
        )
        for key in sorted(keys)
    ]


def test_what_is_written_later_shifts_nothing() -> None:
    """An instance that has listed more gives the other objects to the same instances."""
    few, many = listed(*"bdfh"), listed(*"abcdefghi", late="acegi")
    for index in range(3):
        share = assign(many, index, 3, created_at=CREATED)
        assert [entry for entry in share if entry.ref.key in "bdfh"] == assign(few, index, 3, created_at=CREATED)
    shares = [assign(many, index, 3, created_at=CREATED) for index in range(3)]
    assert sorted(entry.ref.key for share in shares for entry in share) == list("abcdefghi")
    assert listing_digest(few, CREATED) == listing_digest(many, CREATED)


@pytest.mark.parametrize("other", [listed(*"ab"), listed(*"abcd"), listed(*"abc", size=2), listed(*"abc", late="c")])
async def test_instances_that_list_other_objects_fail_the_job(other: list[InputObject]) -> None:
    """The later one sees it, before it does anything."""
    journals = MemoryJournals()
    first, second = (journals.open(InstanceRef(job_id=1, index=index, attempt=1)) for index in range(2))
    await agree(first, 1, listing_digest(listed(*"abc"), CREATED))
    with pytest.raises(ClientFailure, match="while the instances of the job began to read it: instance 0 has found"):
        await agree(second, 1, listing_digest(other, CREATED))


async def test_instances_that_list_the_same_agree() -> None:
    """In whatever order they come, and again after a crash."""
    journals = MemoryJournals()
    for index, attempt in ((1, 1), (0, 1), (1, 2)):
        journal = journals.open(InstanceRef(job_id=1, index=index, attempt=attempt))
        await agree(journal, 1, listing_digest(listed(*"abc"), CREATED))


def test_versions_are_told_apart() -> None:
    """Ranges of an object are of one version of it."""
    inputs = listed(*"abc")
    other = [replace(inputs[0], version="w"), *inputs[1:]]
    assert listing_digest(inputs, CREATED) != listing_digest(other, CREATED)
