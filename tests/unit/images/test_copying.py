"""What COPY and ADD put into a layer."""

import gzip
import io
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from millrace.images.copying import LayerWriter, Ownership, copy_entries
from millrace.images.patterns import IgnoreRules
from millrace.images.problems import StepFailed
from millrace.images.sources import plan_copy, read_contents
from millrace.images.view import View


class Copying:
    """A context, an image of one layer over a skeleton, and copies from the one into the other."""

    def __init__(self, folder: Path) -> None:
        self.context, self.skeleton, self.layer, self.upper = (
            folder / name for name in ("context", "skeleton", "layer", "upper")
        )
        for it in (self.context, self.skeleton / "usr/bin", self.layer, self.upper):
            it.mkdir(parents=True)
        (self.skeleton / "bin").symlink_to("usr/bin")

    def file(self, name: str, text: str = "", *, mode: int = 0o644) -> Path:
        place = self.context / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(mode)
        return place

    def archive(self, name: str, *members: tarfile.TarInfo, mode: str = "w") -> None:
        with tarfile.open(self.context / name, mode) as archive:  # type: ignore[call-overload]
            for member in members:
                member.size = len(member.name) if member.isreg() else 0
                archive.addfile(member, io.BytesIO(member.name.encode()))

    def copy(
        self,
        *sources: str,
        to: str = "app",
        into_folder: bool = True,
        unpacks: bool = False,
        rules: str = "",
        mode: int | None = None,
    ) -> dict[str, str]:
        """Copy, and return the new layer's files and links."""
        view = View([self.context])
        entries = plan_copy(view, sources, into_folder=into_folder, unpacks=unpacks, rules=IgnoreRules(rules))
        owner = Ownership(mode=mode)
        writer = LayerWriter(self.upper, [self.layer], skeleton=self.skeleton, grafts=(), owner=owner)
        copy_entries(writer, entries, to, mode=mode, contents=read_contents(entries))
        return self.files()

    def files(self) -> dict[str, str]:
        return {
            str(it.relative_to(self.upper)): f"-> {it.readlink()}" if it.is_symlink() else it.read_text()
            for it in sorted(self.upper.rglob("*"))
            if it.is_symlink() or it.is_file()
        }

    def digest(self) -> str:
        return read_contents(plan_copy(View([self.context]), ["."], into_folder=True, unpacks=False)).digest


@pytest.fixture
def there(tmp_path: Path) -> Copying:
    return Copying(tmp_path)


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    return info


def test_folders_give_what_is_in_them_and_links_stay(there: Copying) -> None:
    """Also links that lead nowhere or out, empty folders, and odd names."""
    there.file("d/x", "1")
    there.file("d/é \n\udcff", "2")
    (there.context / "d/empty").mkdir()
    (there.context / "d/out").symlink_to("../../../etc/passwd")
    assert there.copy("d") == {"app/x": "1", "app/é \n\udcff": "2", "app/out": "-> ../../../etc/passwd"}
    assert (there.upper / "app/empty").is_dir()


def test_links_that_are_named_are_followed_inside_the_context(there: Copying) -> None:
    """An absolute one begins at the context's root; one to a secret of the machine finds nothing."""
    there.file("x", "1")
    (there.context / "inside").symlink_to("/x")
    (there.context / "outside").symlink_to("../../../etc/passwd")
    assert there.copy("inside") == {"app/inside": "1"}
    with pytest.raises(StepFailed, match="outside does not exist"):
        there.copy("outside")


def test_sources_stay_in_the_context(there: Copying) -> None:
    """A path above it is refused by its text."""
    with pytest.raises(StepFailed, match=r"\.\./x lies outside of the build context"):
        there.copy("../x")


def test_links_of_the_image_lead_to_their_targets(there: Copying) -> None:
    """/bin is /usr/bin; a file takes the place of a link."""
    (there.layer / "cfg").symlink_to("/etc/passwd")
    there.file("cfg", "mine")
    assert there.copy("cfg", to="bin") == {"usr/bin/cfg": "mine"}
    assert there.copy("cfg", to="cfg", into_folder=False)["cfg"] == "mine"


@pytest.mark.parametrize(("source", "image"), [("x", "app/x/y"), ("x/y", "app/x")])
def test_files_and_folders_do_not_replace_each_other(there: Copying, source: str, image: str) -> None:
    """As in Docker."""
    there.file(source)
    (there.layer / image).parent.mkdir(parents=True)
    (there.layer / image).touch()
    with pytest.raises(StepFailed, match=r"no folder|is a folder"):
        there.copy(".")


def test_modes_and_times_are_kept_without_the_rights_of_others(there: Copying) -> None:
    """Folders that nobody may write to get their files all the same; set-user bits go."""
    there.file("d/tool", mode=0o4750)
    os.utime(there.context / "d/tool", (1, 1))
    (there.context / "d").chmod(0o555)
    there.copy(".")
    status = (there.upper / "app/d/tool").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime) == (0o750, 1)
    assert stat.S_IMODE((there.upper / "app/d").stat().st_mode) == 0o555


def test_a_mode_given_is_that_of_all(there: Copying) -> None:
    """--chmod."""
    there.file("d/x")
    there.copy(".", mode=0o700)
    assert {stat.S_IMODE((there.upper / it).stat().st_mode) for it in ("app/d", "app/d/x")} == {0o700}


def test_folders_of_the_image_keep_their_modes(there: Copying) -> None:
    """A layer's folder would hide them otherwise."""
    (there.layer / "tmp").mkdir()
    (there.layer / "tmp").chmod(0o1777)
    there.file("x")
    there.copy("x", to="tmp")
    assert stat.S_IMODE((there.upper / "tmp").stat().st_mode) == 0o1777


def test_ignored_files_are_left_out(there: Copying) -> None:
    """But for those that a later rule takes in again; a file that is named is refused."""
    for name in ("a/x", "a/keep", "b/y", "z"):
        there.file(name)
    assert list(there.copy(".", rules="a\nz\n!a/keep")) == ["app/a/keep", "app/b/y"]
    with pytest.raises(StepFailed, match=r"z is left out by \.dockerignore"):
        there.copy("z", rules="z")


def test_several_matches_need_a_folder(there: Copying) -> None:
    """They would overwrite each other."""
    there.file("a.py"), there.file("b.py")
    with pytest.raises(StepFailed, match="2 sources match"):
        there.copy("*.py", into_folder=False)
    assert list(there.copy("*.py")) == ["app/a.py", "app/b.py"]


def test_a_wildcard_may_match_nothing_beside_sources_that_match(there: Copying) -> None:
    """As in Docker; all of them together must match something, and a plain name must be there."""
    there.file("package.json"), there.file("left")
    assert list(there.copy("package.json", "yarn.lock*", "l?ft", rules="left")) == ["app/package.json"]
    with pytest.raises(StepFailed, match=r"nothing matches a\* b\*"):
        there.copy("a*", "b*")
    with pytest.raises(StepFailed, match=r"yarn\.lock does not exist"):
        there.copy("package.json", "yarn.lock")


def test_pipes_are_refused(there: Copying) -> None:
    """Nobody may write to the other end."""
    os.mkfifo(there.context / "p")
    with pytest.raises(StepFailed, match="p is neither file, folder nor link"):
        there.copy(".")


def test_digests_are_of_what_is_copied(there: Copying) -> None:
    """Bytes, modes, names and links count, times do not."""
    file = there.file("x", "1")
    digests = {there.digest()}
    os.utime(file, (5, 5))
    assert there.digest() in digests
    changes: list[Callable[[], object]] = [
        lambda: file.write_text("2"),
        lambda: file.chmod(0o755),
        lambda: (there.context / "l").symlink_to("x"),
        lambda: file.rename(there.context / "y"),
    ]
    for change in changes:
        change()
        digests.add(there.digest())
    assert len(digests) == 5


def test_what_changes_while_it_is_copied_fails_the_build(there: Copying) -> None:
    """It would be kept under the key of what it was."""
    file = there.file("x", "1")
    entries = plan_copy(View([there.context]), ["x"], into_folder=True, unpacks=False)
    contents = read_contents(entries)
    file.write_text("2")
    writer = LayerWriter(there.upper, [], skeleton=there.skeleton, grafts=(), owner=Ownership())
    with pytest.raises(StepFailed, match="x was changed while it was copied"):
        copy_entries(writer, entries, "app", contents=contents)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_archives_are_unpacked(there: Copying, mode: str) -> None:
    """However they are compressed; hard links stay such, and folders may close behind their files."""
    there.archive(
        "a",
        member("d", tarfile.DIRTYPE, mode=0o555),
        member("d/x"),
        member("d/h", tarfile.LNKTYPE, "d/x"),
        member("s", tarfile.SYMTYPE, "/etc/passwd"),
        mode=mode,
    )
    assert there.copy("a", unpacks=True) == {"app/d/x": "d/x", "app/d/h": "d/x", "app/s": "-> /etc/passwd"}
    assert (there.upper / "app/d/h").stat().st_nlink == 2


def test_files_that_are_no_archives_are_copied(there: Copying) -> None:
    """Such as zeros, which tar takes for an empty archive, and whatever has the name of one."""
    there.file("z.tar", "\0" * 2048)
    there.file("n.tgz", "\x1f not gzip")
    assert list(there.copy("z.tar", "n.tgz", unpacks=True)) == ["app/n.tgz", "app/z.tar"]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (member("../x"), "leads out"),
        (member("/../x"), "leads out"),
        (member("p", tarfile.FIFOTYPE), "device or a pipe"),
        (member("c", tarfile.CHRTYPE), "device or a pipe"),
        (member("h", tarfile.LNKTYPE, "../../secret"), "no file before it"),
        (member("h", tarfile.LNKTYPE, "s"), "no file before it"),
    ],
)
def test_hostile_archives_are_refused(there: Copying, bad: tarfile.TarInfo, words: str) -> None:
    """By the member that leads out, or is nothing that an image holds."""
    there.archive("a.tar", member("s", tarfile.SYMTYPE, "/etc/passwd"), bad)
    with pytest.raises(StepFailed, match=words):
        there.copy("a.tar", unpacks=True)


def test_archives_write_through_no_link_of_theirs(there: Copying, tmp_path: Path) -> None:
    """A file below a link to a folder of the machine is in the layer, where the image has that folder."""
    outside = tmp_path / "outside"
    outside.mkdir()
    there.archive("a.tar", member("s", tarfile.SYMTYPE, str(outside)), member("s/x"))
    there.copy("a.tar", unpacks=True)
    assert list(outside.iterdir()) == []
    assert (there.upper / str(outside).lstrip("/") / "x").read_text() == "s/x"


@pytest.mark.parametrize(("headers", "size"), [(1, 2 * 1024 * 1024), (1500, 1)])
@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_headers_of_archives_are_bounded(there: Copying, kind: bytes, headers: int, size: int) -> None:
    """A long one, or a long chain of them, is told, not read into memory."""
    header = tarfile.TarInfo("long")
    header.type, header.size = kind, size
    content = b"x" * size + b"\0" * (-size % 512)
    (there.context / "a.tar.gz").write_bytes(gzip.compress((header.tobuf() + content) * headers))
    with pytest.raises(StepFailed, match=r"a\.tar\.gz can't be unpacked: .*header"):
        there.copy("a.tar.gz", unpacks=True)


def test_absolute_names_in_archives_are_meant_below_the_destination(there: Copying) -> None:
    """Of files, folders and what hard links stand for; symbolic links keep their targets."""
    there.archive(
        "a.tar",
        member("/", tarfile.DIRTYPE),
        member("//d", tarfile.DIRTYPE),
        member("/d/x"),
        member("/h", tarfile.LNKTYPE, "/d/x"),
        member("/s", tarfile.SYMTYPE, "/d/x"),
    )
    assert there.copy("a.tar", unpacks=True) == {"app/d/x": "/d/x", "app/h": "/d/x", "app/s": "-> /d/x"}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
@pytest.mark.parametrize("left", [0.3, 0.5, 0.8])
def test_damaged_archives_are_told(there: Copying, mode: str, left: float) -> None:
    """By the archive's name, wherever it breaks off."""
    there.archive("a", *(member(f"{number}{os.urandom(20).hex()}") for number in range(200)), mode=mode)
    file = there.context / "a"
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * left) + 100])
    with pytest.raises(StepFailed, match="a can't be unpacked"):
        there.copy("a", unpacks=True)
