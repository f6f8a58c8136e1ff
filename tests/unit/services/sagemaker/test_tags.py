"""Tags of resources, changed by several clients at once."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace.clock import SystemClock
from millrace.errors import ValidationError
from millrace.ports.documents import DocumentStore
from millrace.services.sagemaker.tags import KIND, MAX_TAGS, remove_tags, set_tags
from millrace.store.sql_documents import SqlDocumentStore
from millrace.store.sqlite import SqliteDatabase

REGION = "us-east-1"
ARN = "arn:aws:sagemaker:us-east-1:000000000000:model/m"


@pytest.fixture
def documents(tmp_path: Path) -> Iterator[DocumentStore]:
    database = SqliteDatabase(tmp_path / "state.db")
    yield SqlDocumentStore(database, clock=SystemClock())
    database.close()


async def _tags(documents: DocumentStore) -> dict[str, str]:
    return dict((await documents.get(KIND, REGION, ARN)).content["tags"])


def _tag(number: int) -> dict[str, str]:
    return {"Key": f"k{number}", "Value": "v"}


async def test_no_tag_is_lost_among_clients(documents: DocumentStore) -> None:
    """Tags added and removed at once all count."""
    await set_tags(documents, REGION, ARN, [_tag(number) for number in range(10)])
    await asyncio.gather(
        *(remove_tags(documents, REGION, ARN, [f"k{number}"]) for number in range(10)),
        *(set_tags(documents, REGION, ARN, [_tag(number)]) for number in range(10, 20)),
    )
    assert sorted(await _tags(documents)) == [f"k{number}" for number in range(10, 20)]


async def test_the_limit_holds_among_clients(documents: DocumentStore) -> None:
    """Of clients that together add more tags than a resource may have, the last are refused."""
    adding = [
        set_tags(documents, REGION, ARN, [_tag(number) for number in range(start, start + 20)])
        for start in (0, 20, 40, 60)
    ]
    outcomes = await asyncio.gather(*adding, return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, ValidationError)]
    assert [str(error) for error in refused] == [f"{ARN} would have 60 tags; at most {MAX_TAGS} are allowed"] * 2
    assert len(await _tags(documents)) == 40


async def test_removing_what_is_not_there_is_no_mistake(documents: DocumentStore) -> None:
    """Unknown keys are passed over, also on a resource without tags."""
    await remove_tags(documents, REGION, ARN, ["none"])
    assert await set_tags(documents, REGION, ARN, [_tag(1)]) == [_tag(1)]
    await remove_tags(documents, REGION, ARN, ["none"])
    assert await _tags(documents) == {"k1": "v"}
