"""Where the input of a local transform is, and where its outputs go."""

import os
from pathlib import Path

import pytest

from millrace.commands.local_places import check_places, input_place, output_place
from millrace.dataplane.listing import list_inputs
from millrace.errors import UsageError
from millrace.jobs.transform import SourceType, TransformSpec
from millrace.names import ObjectPrefix
from millrace.store.filesystem import FilesystemObjects


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


async def _taken(tmp_path: Path, scratch: Path, text: str) -> list[str]:
    """Return the names of outputs of what is taken as input."""
    aliases: dict[str, Path] = {}
    source = input_place(text, aliases, scratch, is_manifest=False)
    output = output_place(str(tmp_path / "out"), aliases, make=True)
    spec = TransformSpec(model="m", source=source.place, source_type=source.kind, output=output)
    objects = FilesystemObjects(tmp_path / "objects", aliases=aliases)
    try:
        await check_places(objects, spec, told_input=text, told_output="out")
        return [entry.output.key for entry in await list_inputs(objects, spec)]
    finally:
        objects.close()


@pytest.mark.parametrize("name", ["a.csv", 'a b#?%20é".csv'])
async def test_who_names_a_file_means_that_file(tmp_path: Path, scratch: Path, name: str) -> None:
    """Not others whose names begin like its own, as a prefix would."""
    for one in (name, f"{name}.bak"):
        (tmp_path / one).write_text("1\n")
    assert await _taken(tmp_path, scratch, str(tmp_path / name)) == [f"{name}.out"]


async def test_who_names_a_folder_means_all_in_it(tmp_path: Path, scratch: Path) -> None:
    """Below it, too; an address with a scheme is the same as a path."""
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for one in ("a.csv", "sub/b.csv"):
        (tmp_path / "in" / one).write_text("1\n")
    assert await _taken(tmp_path, scratch, f"file://{tmp_path}/in") == ["a.csv.out", "sub/b.csv.out"]


@pytest.mark.parametrize("text", ["in", "s3://shop/in/"])
async def test_an_input_without_objects_is_refused(tmp_path: Path, scratch: Path, text: str) -> None:
    """A transform of nothing is seldom meant."""
    (tmp_path / "in").mkdir()
    place = text if text.startswith("s3:") else str(tmp_path / text)
    with pytest.raises(UsageError, match=f"--input: there is no object under {place}"):
        await _taken(tmp_path, scratch, place)


async def test_outputs_need_a_bucket(tmp_path: Path, scratch: Path) -> None:
    """Which is told before the model is started."""
    (tmp_path / "a.csv").write_text("1\n")
    aliases: dict[str, Path] = {}
    source = input_place(str(tmp_path / "a.csv"), aliases, scratch, is_manifest=False)
    spec = TransformSpec(
        model="m", source=source.place, source_type=source.kind, output=ObjectPrefix("nowhere", "scored")
    )
    objects = FilesystemObjects(tmp_path / "objects", aliases=aliases)
    try:
        with pytest.raises(UsageError, match="--output: bucket nowhere of s3://nowhere/scored does not exist"):
            await check_places(objects, spec, told_input="a.csv", told_output="s3://nowhere/scored")
    finally:
        objects.close()


def test_a_manifest_is_taken_for_one(tmp_path: Path, scratch: Path) -> None:
    """It is no data, though it is a file."""
    (tmp_path / "m.json").write_text("[]")
    source = input_place(str(tmp_path / "m.json"), {}, scratch, is_manifest=True)
    assert (source.place.prefix, source.kind) == ("m.json", SourceType.MANIFEST)


def test_a_name_that_no_key_can_be_is_refused(tmp_path: Path, scratch: Path) -> None:
    """Keys are UTF-8, names of files need not be."""
    path = os.fsencode(tmp_path) + b"/\xff.csv"
    Path(os.fsdecode(path)).write_text("1\n")
    with pytest.raises(UsageError, match=r"names of files must be UTF-8, got b'.*xff.csv'"):
        input_place(os.fsdecode(path), {}, scratch, is_manifest=False)
