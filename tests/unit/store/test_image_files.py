"""The image store: tags and digests, layers made once, drafts of the dead, and what removal leaves alone."""

import multiprocessing
import os
import signal
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from millrace.ports.images import ImageConfig, ImageName, ImageStep, Manifest
from millrace.store.image_files import ImageFiles
from millrace.store.image_removal import find_unused, remove_unused, sweep_drafts

NOBODY: frozenset[str] = frozenset()
_SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def images(tmp_path: Path) -> ImageFiles:
    return ImageFiles(tmp_path / "images")


def layer(images: ImageFiles, key: str, text: str = "x", *, again: bool = False) -> str:
    """Make a layer of one file."""
    with images.making(key), images.draft() as draft:
        (draft / "upper").mkdir()
        (draft / "upper" / "file").write_text(text)
        return images.keep_layer(key, draft / "upper", again=again)[0]


def image(images: ImageFiles, *layers: str, tag: str | None = None, user: str = "root") -> Manifest:
    """Make an image of layers."""
    steps = [ImageStep(text="RUN", layer=it, size=1) for it in layers]
    manifest = images.add(base="debian:12", layers=layers, config=ImageConfig(user=user), steps=steps)
    if tag is not None:
        images.tag(ImageName.parse(tag), manifest.digest)
    return manifest


def kept(images: ImageFiles) -> Sequence[str]:
    return sorted(it.name for it in (images.folder / "layers").iterdir())


def test_the_same_image_has_the_same_digest(images: ImageFiles) -> None:
    """Layers and configuration make it; neither the date nor the tag does."""
    first = image(images, layer(images, "a"), tag="shop/x:1")
    assert image(images, "a", tag="shop/y") == first
    assert image(images, "a", user="1000").digest != first.digest
    assert [(it.repository, it.tag, it.digest == first.digest) for it in images.list_tags()] == [
        ("shop/x", "1", True),
        ("shop/y", "latest", True),
    ]


def test_images_are_found_by_tag_and_digest_whatever_the_registry(images: ImageFiles) -> None:
    """ECR's addresses included."""
    made = image(images, tag="shop/x:1")
    for name in (
        "shop/x:1",
        "localhost:5000/shop/x:1",
        "1.dkr.ecr.us-east-1.amazonaws.com/shop/x:1",
        f"x@{made.digest}",
    ):
        assert images.find(ImageName.parse(name)) == made
    assert images.find(ImageName.parse("shop/x")) is None
    assert images.find(ImageName.parse(f"x@sha256:{'0' * 64}")) is None


def test_a_digest_takes_all_tags_of_its_image_away(images: ImageFiles) -> None:
    """In its repository only."""
    made = image(images, tag="x:1")
    for tag in ("x:2", "y:1"):
        images.tag(ImageName.parse(tag), made.digest)
    assert images.untag(ImageName.parse(f"x@{made.digest}"))
    assert not images.untag(ImageName.parse("x:1"))
    assert [str(it.repository) for it in images.list_tags()] == ["y"]


def test_a_step_that_is_run_again_makes_another_layer(images: ImageFiles) -> None:
    """The cache has the newer one; images on the older one stay whole."""
    old = layer(images, "a", "old")
    new = layer(images, "a", "new", again=True)
    assert images.find_step("a") == (new, 3)
    assert (images.layer_folder(old) / "file").read_text() == "old"


def test_a_layer_without_a_note_is_taken_as_it_is(images: ImageFiles) -> None:
    """As a builder leaves it that is killed between the two."""
    layer(images, "a", "first")
    (images.folder / "steps" / "a").unlink()
    assert images.find_step("a") is None
    assert layer(images, "a", "second") == "a"
    assert (images.layer_folder("a") / "file").read_text() == "first"


def _make(folder: Path, to_parent: Connection) -> None:
    images = ImageFiles(folder)
    with images.making("key"):
        made = images.find_step("key") is None
        if made:
            with images.draft() as draft:
                (draft / "upper").mkdir()
                images.keep_layer("key", draft / "upper")
    to_parent.send(made)


def test_two_processes_make_a_layer_once(images: ImageFiles) -> None:
    """The second waits, and finds it."""
    pairs = [_SPAWN.Pipe() for _ in range(2)]
    processes = [_SPAWN.Process(target=_make, args=(images.folder, theirs)) for _, theirs in pairs]
    for process in processes:
        process.start()
    assert sorted(ours.recv() for ours, _ in pairs) == [False, True]
    for process in processes:
        process.join()


def _begin(folder: Path, to_parent: Connection) -> None:
    images = ImageFiles(folder)
    with images.building(), images.making("key"), images.draft() as draft:
        (draft / "upper").mkdir()
        to_parent.send("begun")
        to_parent.recv()


def test_what_a_killed_builder_began_is_swept(images: ImageFiles) -> None:
    """While it lives, neither its draft nor any layer is touched."""
    layer(images, "unused")
    ours, theirs = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_begin, args=(images.folder, theirs))
    process.start()
    assert ours.recv() == "begun"
    assert sweep_drafts(images) == 0
    assert remove_unused(images, in_use=NOBODY) is None
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert sweep_drafts(images) == 1
    assert list((images.folder / "drafts").iterdir()) == []
    assert layer(images, "key") == "key"


def test_only_what_nothing_needs_is_removed(images: ImageFiles) -> None:
    """Tags, and digests that jobs run, keep images; images keep layers, also those that the cache has forgotten."""
    for key in ("shared", "tagged", "used", "gone", "failed"):
        layer(images, key)
    older = layer(images, "gone", again=True)
    image(images, "shared", "tagged", tag="x:1")
    used = image(images, "shared", "used")
    gone = image(images, "shared", "gone", older)
    found = find_unused(images, in_use=frozenset({used.digest}))
    assert remove_unused(images, in_use=frozenset({used.digest})) == found
    assert (found.images, found.size) == ((gone.digest,), 2)
    assert kept(images) == ["shared", "tagged", "used"]
    assert [images.find_step(key) is None for key in ("shared", "gone", "failed")] == [False, True, True]
    assert not find_unused(images, in_use=frozenset({used.digest}))


def test_what_is_young_is_kept_if_that_is_asked(images: ImageFiles) -> None:
    """gc leaves what a build has just made."""
    image(images, layer(images, "a"))
    now = datetime.now(UTC)
    assert not find_unused(images, in_use=NOBODY, before=now - timedelta(hours=1))
    assert find_unused(images, in_use=NOBODY, before=now + timedelta(hours=1))


def _hold(folder: Path, digest: str, to_parent: Connection) -> None:
    to_parent.send(ImageFiles(folder).hold(digest))
    to_parent.recv()


def test_an_image_that_a_process_runs_stays(images: ImageFiles) -> None:
    """Without tag or job too, until that process ends, however it ends."""
    made = image(images, layer(images, "a"))
    ours, theirs = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_hold, args=(images.folder, made.digest, theirs))
    process.start()
    assert ours.recv() is True
    assert not remove_unused(images, in_use=NOBODY)
    assert kept(images) == ["a"]
    process.kill()
    process.join()
    assert remove_unused(images, in_use=NOBODY)
    assert kept(images) == []
    assert not images.hold(made.digest)


def test_a_layer_with_closed_folders_is_kept_and_removed(images: ImageFiles) -> None:
    """As programs leave them."""
    with images.draft() as draft:
        closed = draft / "upper" / "closed"
        closed.mkdir(parents=True)
        (closed / "file").touch(mode=0)
        closed.chmod(0)
        images.keep_layer("a", draft / "upper")
    assert kept(images) == ["a"]
    assert remove_unused(images, in_use=NOBODY)
    assert kept(images) == []
