"""Decide where the manifests of captured objects go, and what they say. Pure.

Source:
    batch-transform.md 6.7: `<Destination>/input/yyyy/mm/dd/hh/<uuid>.json` and the same below `output`, in the form
    `[{"prefix":"s3://.../"},"a.csv","b.csv"]`, the hour being that of the job's start in UTC; succeeded objects only.
"""

import os.path
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson

from millrace.dataplane.plan import InputObject
from millrace.jobs.transform import DataCapture
from millrace.names import Arn, ObjectPrefix, ObjectRef
from millrace.ports.objects import ObjectMeta

__all__ = ["CapturedObjects", "ManifestPlan", "iter_manifest", "manifest_meta", "plan_manifests"]

CHUNK_ENTRIES = 4096
"""Entries that are worded at a time: with the longest keys, 4 MiB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CapturedObjects:
    """Objects of one bucket below one folder (empty, or ending in "/"), in key order."""

    folder: ObjectPrefix
    refs: Sequence[ObjectRef]


@dataclass(frozen=True, kw_only=True, slots=True)
class ManifestPlan:
    """One manifest to write."""

    ref: ObjectRef
    groups: Sequence[CapturedObjects]


def plan_manifests(
    capture: DataCapture,
    captured: Sequence[InputObject],
    *,
    output: ObjectPrefix,
    arn: Arn,
    created_at: datetime,
    job_start: datetime,
    index: int,
) -> tuple[ManifestPlan, ...]:
    """Return the manifests of one instance, inputs first; none if nothing was captured.

    Their name follows from the job and the instance: another attempt replaces them, and adds none.

    Args:
        capture: What the client asked for.
        captured: The objects that succeeded, in key order.
        output: The job's output path.
        arn: The job's.
        created_at: The job's; tells it from an earlier one of the same name on other data.
        job_start: Aware; gives the folders.
        index: The instance's.
    """
    if not captured:
        return ()
    name = f"{job_start.astimezone(UTC):%Y/%m/%d/%H}/{uuid.uuid5(uuid.NAMESPACE_URL, f'{arn}#{created_at}#{index}')}"
    folder = ObjectPrefix(output.bucket, output.join("").key)
    outputs = CapturedObjects(folder=folder, refs=[entry.output for entry in captured])
    return (
        ManifestPlan(ref=capture.destination.join(f"input/{name}.json"), groups=_input_groups(captured, folder)),
        ManifestPlan(ref=capture.destination.join(f"output/{name}.json"), groups=(outputs,)),
    )


def _input_groups(captured: Sequence[InputObject], output: ObjectPrefix) -> tuple[CapturedObjects, ...]:
    """Return the inputs by bucket: one, save for a manifest of several prefixes."""
    buckets: dict[str, list[InputObject]] = {}
    for entry in captured:
        buckets.setdefault(entry.ref.bucket, []).append(entry)
    groups = []
    for bucket, entries in buckets.items():
        bases = {_base(entry, output) for entry in entries}
        common = os.path.commonprefix(list(bases))  # noqa: RUF071 - keys are texts; cut at a slash right below
        folder = ObjectPrefix(bucket, common[: common.rfind("/") + 1])
        groups.append(CapturedObjects(folder=folder, refs=[entry.ref for entry in entries]))
    return tuple(groups)


def _base(entry: InputObject, output: ObjectPrefix) -> str:
    """Return what precedes an input's name relative to its source, which its output is named by; never all of it."""
    relative = entry.output.key[len(output.prefix) :].removesuffix(".out")
    if entry.ref.key.endswith(relative):
        return entry.ref.key.removesuffix(relative)
    return entry.ref.key.rstrip("/").removesuffix(relative)  # a key that ends in slashes has an output without them


def iter_manifest(groups: Sequence[CapturedObjects]) -> Iterator[bytes]:
    """Yield the text of a manifest piece by piece."""
    opening = b"["
    for group in groups:
        yield opening + orjson.dumps({"prefix": str(group.folder)})
        opening = b","
        start = len(group.folder.prefix)
        for at in range(0, len(group.refs), CHUNK_ENTRIES):
            names = [ref.key[start:] for ref in group.refs[at : at + CHUNK_ENTRIES]]
            yield b"," + orjson.dumps(names)[1:-1]
    yield b"]"


def manifest_meta(capture: DataCapture) -> ObjectMeta:
    """Return what is attached to a manifest: its type, and the key that encrypts it."""
    headers = {"content-type": "application/json"}
    if capture.kms_key:
        headers["x-amz-server-side-encryption"] = "aws:kms"
        headers["x-amz-server-side-encryption-aws-kms-key-id"] = capture.kms_key
    return ObjectMeta(headers=headers)
