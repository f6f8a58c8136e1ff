"""Facts in few bytes."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.ports.objects import ObjectMeta
from millrace.store.facts import ATTRIBUTE, Facts, FactsStore, GroupFacts, identity_etag
from millrace.store.short_facts import pack, packed_headers, unpack

ROOM_BYTES = 64
"""What ext4 keeps in an inode of 256 bytes."""
ETAG = f"{'0123456789abcdef' * 2}-1"


def stat(size: int = 10, time_ns: int = 1_795_269_003_378_703_954) -> os.stat_result:
    names = {"st_mtime_ns": time_ns}
    return os.stat_result((0o100644, 7, 1, 1, 0, 0, size, 0, 0, 0), names)


@given(
    size=st.integers(0, 1 << 33),
    time_ns=st.integers(0, (1 << 63) - 1),
    etag=st.one_of(st.just(ETAG), st.text(max_size=40)),
    headers=st.dictionaries(st.sampled_from(["content-type", "cache-control"]), st.text(max_size=200)),
    origin=st.text(st.characters(exclude_categories=["Cs"])),
)
def test_what_is_attached_is_read(size: int, time_ns: int, etag: str, headers: dict[str, str], origin: str) -> None:
    """Facts are read as they were written, whether they have a short form or not, by themselves or in a group."""
    meta = ObjectMeta(headers=headers, origin=origin)
    facts = Facts(etag=etag, meta=meta)
    about = stat(size, time_ns)
    assert Facts.decode(facts.encode(about), about) == facts
    assert Facts.decode(GroupFacts(ObjectMeta(headers=headers)).encode(about, etag, origin), about) == facts


@pytest.mark.parametrize("content_type", ["application/octet-stream", "text/csv", "x/y"])
def test_outputs_of_jobs_have_room_in_their_inodes(content_type: str) -> None:
    """An output's facts, with the origin of a job, get no block of their own."""
    facts = GroupFacts(ObjectMeta(headers={"content-type": content_type}))
    assert len(facts.encode(stat(), ETAG, "AAAAAAAAAAA BBBBBBBBBBB 1")) <= ROOM_BYTES


def test_more_facts_are_written_as_before() -> None:
    """Tags, several headers and other ETags have no short form."""
    several = {"content-type": "text/csv", "cache-control": "no-cache"}
    assert packed_headers(several) is None
    assert packed_headers({"content-type": "text/csv; name=\u00e4"}) is None
    assert pack(1, 1, "0" * 32, (0, b""), "") is None
    assert pack(1, 1, ETAG.upper(), (0, b""), "") is None
    tagged = Facts(etag=ETAG, meta=ObjectMeta(tags={"a": "b"}))
    assert tagged.encode(stat()).startswith(b"{")


def test_an_edited_file_keeps_its_content_type_only() -> None:
    """The ETag and the origin are of the bytes that they were made for."""
    text = GroupFacts(ObjectMeta(headers={"content-type": "text/csv"})).encode(stat(), ETAG, "w")
    edited = stat(size=11)
    meta = ObjectMeta(headers={"content-type": "text/csv"})
    assert Facts.decode(text, edited) == Facts(etag=identity_etag(edited), meta=meta)


@pytest.mark.parametrize("text", [b"\x01", b"\x01" + b"\xff" * 29, b"\x01\x7f" + bytes(28)])
def test_damaged_facts_are_none(text: bytes, tmp_path: Path) -> None:
    """A file whose facts are damaged counts as put there by hand."""
    with pytest.raises(ValueError, match="expected"):
        unpack(text)
    path = tmp_path / "a"
    path.write_bytes(b"a")
    try:
        os.setxattr(path, ATTRIBUTE, text)
    except OSError:
        pytest.skip("the file system of temporary files has no attributes")
    found = path.stat()
    assert FactsStore(tmp_path / "meta").read(os.fsencode(path), found).etag == identity_etag(found)
