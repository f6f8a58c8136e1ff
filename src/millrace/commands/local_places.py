"""Find where the input of a local transform is, and where its outputs go; local folders become buckets of its own."""

import os
from dataclasses import dataclass
from pathlib import Path

import orjson

from millrace.dataplane.listing import has_input
from millrace.errors import UsageError
from millrace.jobs.transform import SourceType, TransformSpec
from millrace.names import ObjectPrefix
from millrace.ports.objects import NoSuchBucket, ObjectStore

__all__ = ["Source", "check_places", "input_place", "output_place"]

ONE_FILE = "one-file.manifest"


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where the input is, as a job names it."""

    place: ObjectPrefix
    kind: SourceType


def input_place(text: str, aliases: dict[str, Path], scratch: Path, *, is_manifest: bool) -> Source:
    """Return where the input is.

    Args:
        text: What `--input` says.
        aliases: Folders by the bucket that stands for them; gets what is needed.
        scratch: A folder of the transform's own.
        is_manifest: Whether a manifest is meant, not data.

    Raises:
        UsageError: There is no such file or folder.
    """
    kind = SourceType.MANIFEST if is_manifest else SourceType.PREFIX
    place = _place(text, "--input")
    if isinstance(place, ObjectPrefix):
        return Source(place=place, kind=kind)
    if not place.exists():
        raise UsageError(f"--input: there is no file or folder {place}")
    if place.is_dir():
        return Source(place=ObjectPrefix(_alias(aliases, place), ""), kind=kind)
    folder = _alias(aliases, place.parent)
    if is_manifest:
        return Source(place=ObjectPrefix(folder, place.name), kind=kind)
    # As a prefix its name would take `a.csv.bak` along with `a.csv`; whoever names one file means that one.
    try:
        manifest = orjson.dumps([{"prefix": f"s3://{folder}/"}, place.name])
    except orjson.JSONEncodeError:
        raise UsageError(f"--input: names of files must be UTF-8, got {os.fsencode(place)!r}") from None
    (scratch / ONE_FILE).write_bytes(manifest)
    return Source(place=ObjectPrefix(_alias(aliases, scratch), ONE_FILE), kind=SourceType.MANIFEST)


def output_place(text: str, aliases: dict[str, Path], *, make: bool) -> ObjectPrefix:
    """Return where outputs go; a local folder is made if it is to be.

    Raises:
        UsageError: It is a file, or can't be made or written into.
    """
    place = _place(text, "--output")
    if isinstance(place, ObjectPrefix):
        return place
    if place.is_file():
        raise UsageError(f"--output: {place} is a file; outputs go into a folder")
    if make:
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise UsageError(f"--output: can't make folder {place}: {exc.strerror}") from exc
        if not os.access(place, os.W_OK):
            raise UsageError(f"--output: can't write into {place}")
    return ObjectPrefix(_alias(aliases, place), "")


async def check_places(objects: ObjectStore, spec: TransformSpec, *, told_input: str, told_output: str) -> None:
    """Look whether there is any input, and a bucket for outputs.

    Raises:
        UsageError: There is not; the model need not be started to find that out.
    """
    if not await has_input(objects, spec):
        raise UsageError(f"--input: there is no object under {told_input}")
    try:
        await objects.get_bucket(spec.output.bucket)
    except NoSuchBucket:
        raise UsageError(f"--output: bucket {spec.output.bucket} of {told_output} does not exist") from None


def _alias(aliases: dict[str, Path], folder: Path) -> str:
    """Return the name of a bucket that stands for a folder: one that no bucket of a data directory can have."""
    bucket = f"local_{len(aliases)}"
    aliases[bucket] = folder
    return bucket


def _place(text: str, option: str) -> ObjectPrefix | Path:
    if text.startswith("s3://"):
        try:
            return ObjectPrefix.parse(text)
        except ValueError as exc:
            raise UsageError(f"{option}: {exc}") from None
    scheme, separator, rest = text.partition("://")
    if separator and scheme != "file":
        raise UsageError(f"{option}: s3:// and file:// addresses and paths are taken, got {text!r}")
    return Path(rest if separator else text).expanduser().absolute()
