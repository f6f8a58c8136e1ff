"""Archives are packed so that they can be read anywhere, and unpacked trusting nothing."""

import io
import tarfile
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


@pytest.mark.parametrize("broken", [b"", b"plain text", b"\x1f\x8b\x08\x00broken", CUT])
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
