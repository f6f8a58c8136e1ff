"""Archives are packed so that they can be read anywhere, and unpacked trusting nothing."""

import gzip
import io
import tarfile
import zlib
from pathlib import Path

import pytest

from millrace.agents.archives import Tree, pack, unpack
from millrace.agents.links import follow_in_container
from millrace.errors import ClientFailure


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> io.BytesIO:
    """Return a gzip tar with the members given."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    stream.seek(0)
    return stream


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info


def test_what_was_packed_is_unpacked(tmp_path: Path) -> None:
    """Names are relative to the folder, empty folders and modes stay."""
    tree = tmp_path / "model"
    (tree / "deep" / "empty").mkdir(parents=True)
    (tree / "deep" / "weights.bin").write_bytes(bytes(range(256)))
    (tree / "run.sh").write_text("#!/bin/sh\n")
    (tree / "run.sh").chmod(0o755)
    stream = io.BytesIO()
    pack([Tree(tree)], stream)
    target = tmp_path / "target"
    target.mkdir()
    stream.seek(0)
    unpack(stream, target, name="m")
    assert (target / "deep" / "weights.bin").read_bytes() == bytes(range(256))
    assert (target / "deep" / "empty").is_dir()
    assert (target / "run.sh").stat().st_mode & 0o100


def test_trees_are_merged(tmp_path: Path) -> None:
    """Of files of one name the last folder's wins."""
    for number in (1, 2):
        (tmp_path / f"host{number}").mkdir()
        (tmp_path / f"host{number}" / "same.txt").write_text(str(number))
        (tmp_path / f"host{number}" / f"own-{number}.txt").write_text("")
    stream = io.BytesIO()
    pack([Tree(tmp_path / "host1"), Tree(tmp_path / "host2")], stream)
    stream.seek(0)
    with tarfile.open(fileobj=stream) as tar:
        assert sorted(tar.getnames()) == ["own-1.txt", "own-2.txt", "same.txt"]
        same = tar.extractfile("same.txt")
        assert same is not None
        assert same.read() == b"2"


def test_packing_is_deterministic(tmp_path: Path) -> None:
    """The same tree gives the same bytes."""
    (tmp_path / "a.txt").write_text("a")
    streams = [io.BytesIO(), io.BytesIO()]
    for stream in streams:
        pack([Tree(tmp_path)], stream)
    assert streams[0].getvalue() == streams[1].getvalue()


def test_a_link_out_of_the_folder_is_packed_as_its_target(tmp_path: Path) -> None:
    """An archive must not depend on this machine's files."""
    (tmp_path / "outside.txt").write_text("content")
    tree = tmp_path / "model"
    tree.mkdir()
    (tree / "out").symlink_to(tmp_path / "outside.txt")
    (tree / "in").symlink_to("plain.txt")
    (tree / "plain.txt").write_text("plain")
    stream = io.BytesIO()
    pack([Tree(tree)], stream)
    stream.seek(0)
    with tarfile.open(fileobj=stream) as tar:
        assert tar.getmember("out").isreg()
        assert tar.getmember("in").issym()


def test_links_of_a_container_are_followed_as_it_saw_them(tmp_path: Path) -> None:
    """Its /opt/ml is a folder here; what is elsewhere in its root would be another file of this machine."""
    (tmp_path / "secret").write_text("secret")
    tree = tmp_path / "opt_ml" / "model"
    (tree / "deep").mkdir(parents=True)
    (tmp_path / "opt_ml" / "code").mkdir()
    (tmp_path / "opt_ml" / "code" / "train.py").write_text("code")
    (tree / "weights").write_text("weights")
    for name, leads_to in {
        "deep/latest": "/opt/ml/model/weights",
        "deep/above": "../weights",
        "twice": "deep/latest",
        "code": "/opt/ml/code/train.py",
        "loop": "loop",
        "gone": "nothing",
        "host": str(tmp_path / "secret"),
        "up": "../../secret",
        "system": "/etc/hostname",
    }.items():
        (tree / name).symlink_to(leads_to)
    stream = io.BytesIO()
    pack([Tree(tree, follow_in_container(tmp_path / "opt_ml"))], stream)
    stream.seek(0)
    with tarfile.open(fileobj=stream) as tar:
        found = {it.name: it.linkname or tar.extractfile(it).read() for it in tar if not it.isdir()}  # type: ignore[union-attr]
    assert found == {
        "weights": b"weights",
        "code": b"code",
        "twice": "weights",
        "deep/above": "../weights",
        "deep/latest": "../weights",
    }
    target = tmp_path / "target"
    target.mkdir()
    stream.seek(0)
    unpack(stream, target, name="m")
    assert (target / "deep" / "latest").read_text() == "weights"


def test_the_sdk_s_nameless_member_is_accepted(tmp_path: Path) -> None:
    """Archives that the SDK repacked hold one."""
    unpack(archive((member("", tarfile.DIRTYPE), b""), (member("./a"), b"1")), tmp_path, name="m")
    assert (tmp_path / "a").read_bytes() == b"1"


@pytest.mark.parametrize(
    "hostile",
    [
        member("../escaped"),
        member("/absolute"),
        member("deep/../../escaped"),
        member("device", tarfile.CHRTYPE),
        member("pipe", tarfile.FIFOTYPE),
        member("link", tarfile.SYMTYPE, "/etc/passwd"),
        member("link", tarfile.SYMTYPE, "../../outside"),
        member("hard", tarfile.LNKTYPE, "../outside"),
    ],
    ids=lambda info: f"{info.name}-{info.type!r}",
)
def test_members_that_point_out_are_refused(tmp_path: Path, hostile: tarfile.TarInfo) -> None:
    """The failure names archive and member, and nothing is written outside."""
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(ClientFailure, match=r"m\.tar\.gz"):
        unpack(archive((hostile, b"")), target, name="m.tar.gz")
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


CUT = archive((member("a"), b"x" * 9999)).getvalue()[:60]


@pytest.mark.parametrize(
    "broken", [b"", b"plain text", b"\x1f\x8b\x08\x00broken", CUT], ids=["empty", "text", "broken", "cut"]
)
def test_what_is_no_archive_is_a_client_failure(tmp_path: Path, broken: bytes) -> None:
    """Never a traceback."""
    with pytest.raises(ClientFailure, match="m is not a valid"):
        unpack(io.BytesIO(broken), tmp_path, name="m")


def test_what_does_not_fit_is_refused_before_it_is_written(tmp_path: Path) -> None:
    """A header that announces more than the disk holds ends the unpacking."""
    info = member("bomb")
    info.size = 1 << 60
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        tar.addfile(info)
    stream.seek(0)
    with pytest.raises(ClientFailure, match="does not fit"):
        unpack(stream, tmp_path, name="m")
    assert list(tmp_path.iterdir()) == []


def header(name: str, kind: bytes, size: int) -> bytes:
    info = member(name, kind)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
def test_a_header_that_fills_memory_is_refused(tmp_path: Path, kind: bytes) -> None:
    """A header that announces gigabytes is refused before a byte of them is read."""
    bomb = gzip.compress(header("bomb", kind, 1 << 31) + bytes(8 << 20), 1)
    with pytest.raises(ClientFailure, match="header of a member must have at most 1048576 bytes"):
        unpack(io.BytesIO(bomb), tmp_path, name="m")


def test_an_endless_map_of_a_sparse_file_is_refused(tmp_path: Path) -> None:
    """Each block of a sparse file's map says that another follows: the header's bound holds for all of them."""
    first = bytearray(member("sparse", tarfile.GNUTYPE_SPARSE).tobuf(tarfile.GNU_FORMAT))
    first[482] = 1
    first[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(first))[0]  # type: ignore[attr-defined]
    block = bytearray(512)
    block[504] = 1
    with pytest.raises(ClientFailure, match="header of a member must have at most"):
        unpack(io.BytesIO(gzip.compress(bytes(first) + bytes(block) * 4000)), tmp_path, name="m")


def test_a_run_of_digits_costs_no_time(tmp_path: Path) -> None:
    """A pax header of digits alone, on which the library's expression takes quadratic time, is refused unread."""
    digits = header("p", b"x", 1 << 19) + b"1" * (1 << 19)
    with pytest.raises(ClientFailure, match=r"a number of 1,000 digits or more"):
        unpack(io.BytesIO(gzip.compress(digits)), tmp_path, name="m")


def test_an_archive_of_several_gzip_members_is_one(tmp_path: Path) -> None:
    """Tools that compress in parallel write one gzip member after the other."""
    plain = zlib.decompress(archive((member("a"), b"x" * 5000), (member("b"), b"y")).getvalue(), wbits=31)
    parts = b"".join(gzip.compress(plain[at : at + 700]) for at in range(0, len(plain), 700))
    unpack(io.BytesIO(parts), tmp_path, name="m")
    assert (tmp_path / "a").read_bytes() == b"x" * 5000
    assert (tmp_path / "b").read_bytes() == b"y"


DEEP = "d/" * 2000 + "x"


@pytest.mark.parametrize(
    ("hostile", "told"),
    [
        (member(DEEP), "at most 255 folders deep, got 2001"),
        (member("n" * 300), "nnn' can't be unpacked: File name too long"),
        (member("link", tarfile.SYMTYPE, "/etc/passwd"), "'link' is a link to '/etc/passwd', out of the model folder"),
        (member("link", tarfile.SYMTYPE, "../o"), "'link' is a link to '../o', out of the model folder"),
        (member("hard", tarfile.LNKTYPE, "gone"), "'hard' is a hard link to 'gone', which must stand before it"),
    ],
    ids=["deep", "long", "absolute", "outside", "gone"],
)
def test_a_refusal_names_the_member_and_no_folder_of_the_server(
    tmp_path: Path, hostile: tarfile.TarInfo, told: str
) -> None:
    """The owner of the archive learns which member is wrong and why, and nothing of where it was unpacked."""
    with pytest.raises(ClientFailure) as caught:
        unpack(archive((hostile, b"")), tmp_path, name="m")
    assert str(caught.value).startswith("m: member '")
    assert told in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_member_below_a_file_is_told(tmp_path: Path) -> None:
    """What the file system refuses is told with the member's name."""
    with pytest.raises(ClientFailure, match="m: member 'x/y' can't be unpacked"):
        unpack(archive((member("x"), b"1"), (member("x/y"), b"2")), tmp_path, name="m")


def test_a_nul_in_a_name_is_told(tmp_path: Path) -> None:
    """A pax header can hold a name that no file can have."""
    info = member("a")
    info.pax_headers = {"path": "a\0b"}
    with pytest.raises(ClientFailure, match="embedded null byte"):
        unpack(archive((info, b"")), tmp_path, name="m")


def test_hard_links_are_unpacked(tmp_path: Path) -> None:
    """A hard link to a member before it is the same file."""
    unpack(archive((member("a"), b"1"), (member("b", tarfile.LNKTYPE, "a"), b"")), tmp_path, name="m")
    assert (tmp_path / "b").samefile(tmp_path / "a")


def test_unpacking_is_broken_off_within_a_member(tmp_path: Path) -> None:
    """The check comes at least once for each megabyte, and what it raises passes as it is."""
    asked = 0

    class Enough(Exception):
        pass

    def check() -> None:
        nonlocal asked
        asked += 1
        if asked == 30:
            raise Enough

    stream = archive((member("large.bin"), bytes(64 * 1024 * 1024)))
    with pytest.raises(Enough):
        unpack(stream, tmp_path, name="m", check=check)
    assert (tmp_path / "large.bin").stat().st_size < 30 * 1024 * 1024
