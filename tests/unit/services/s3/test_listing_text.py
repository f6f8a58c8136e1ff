"""Entries of a listing that are printed at once."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from millrace.names import ObjectRef
from millrace.ports.objects import ObjectInfo, ObjectMeta
from millrace.protocol.operations import service
from millrace.services.s3.kept_entries import KeptEntries
from millrace.services.s3.listing_text import entries_text, entry_members

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
METAS = st.builds(
    ObjectMeta,
    headers=st.one_of(st.just({}), st.fixed_dictionaries({"x-amz-storage-class": TEXTS})),
    checksums=st.dictionaries(st.sampled_from(["crc32", "sha256", "crc64nvme"]), st.just("AAAA"), max_size=2),
    checksum_type=st.sampled_from(["FULL_OBJECT", "COMPOSITE"]),
    owner=st.sampled_from(["", "111122223333"]),
)
INFOS = st.builds(
    ObjectInfo,
    ref=st.builds(ObjectRef, st.just("shop"), TEXTS),
    size=st.integers(0, 1 << 45),
    etag=st.one_of(st.just("0cc175b9c0f1b6a831c399e269772661-2"), TEXTS),
    modified_at=st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    meta=METAS,
)


@given(st.lists(INFOS, max_size=5), st.booleans())
def test_entries_printed_at_once_are_what_the_codec_writes(infos: list[ObjectInfo], with_owner: bool) -> None:
    """Whatever is in keys, ETags and metadata, the page is the same, byte for byte."""

    def owner_of(info: ObjectInfo) -> dict[str, str]:
        return {"ID": f"id of {info.meta.owner}", "DisplayName": "R&D"}

    keys = [info.ref.key for info in infos]
    members = [entry_members(info, info.ref.key, owner_of(info) if with_owner else None) for info in infos]
    serialize = service("s3").operation("ListObjectsV2").serialize
    printed = serialize({"Contents": entries_text(infos, keys, owner_of if with_owner else None)}, "id")
    assert printed == serialize({"Contents": members}, "id")


@given(st.lists(INFOS, max_size=6), st.lists(st.lists(st.integers(0, 5), max_size=8), max_size=6), st.integers(0, 6))
def test_kept_entries_are_what_would_be_printed(infos: list[ObjectInfo], pages: list[list[int]], room: int) -> None:
    """Whichever objects were listed before, and however few are kept, a page is printed as if it were the first."""
    kept = KeptEntries(lambda keys: [f"<{key}>" for key in keys], room)
    for numbers in pages:
        page = [infos[number] for number in numbers if number < len(infos)]
        assert kept.text(page) == entries_text(page, [f"<{info.ref.key}>" for info in page], None)
