"""Headers of objects that are read again."""

from datetime import UTC, datetime
from pathlib import Path

from millrace.http.stages import serialize
from millrace.names import ObjectRef
from millrace.ports.objects import ObjectInfo, ObjectMeta
from millrace.protocol.message import BodyResult, FileRegion, Result
from millrace.protocol.operations import service
from millrace.services.s3.kept_heads import KeptHeads


def fact(etag: str) -> ObjectInfo:
    """Return facts about some object."""
    return ObjectInfo(
        ref=ObjectRef("shop", "k"), size=3, etag=etag, modified_at=datetime(2026, 1, 2, tzinfo=UTC), meta=ObjectMeta()
    )


def test_an_object_is_described_once() -> None:
    """Each object has its own head, which is made once while it is kept."""
    heads, described = KeptHeads(2), list[str]()
    infos = [fact(etag) for etag in "abc"]

    def describe(info: ObjectInfo) -> Result:
        described.append(info.etag)
        return {"ETag": info.etag}

    for info in (infos[0], infos[1], infos[0], infos[2], infos[2], infos[0]):
        assert heads.of(info, lambda info=info: describe(info)).members == {"ETag": info.etag}  # type: ignore[misc]
    assert described == ["a", "b", "c", "a"]


def test_an_answer_with_kept_headers_is_that_without() -> None:
    """The first answer with a head and later ones are what the operation writes of its members."""
    operation = service("s3").operation("GetObject")
    members = {"ETag": '"e"', "ContentLength": 3, "ContentType": "text/csv", "Metadata": {"a": "b"}, "TagCount": None}
    region = FileRegion(Path("object"), 0, 3)
    plain = serialize(operation, {**members, "Body": region}, "id")
    heads = KeptHeads()
    info = fact("e")
    for _ in range(2):
        assert serialize(operation, BodyResult(heads.of(info, lambda: members), region), "id") == plain
