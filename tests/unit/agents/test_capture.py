"""Manifests are written by the one who may, and never cost the job its end."""

from millrace.agents.capture import write_manifests
from millrace.dataplane.capture import CapturedObjects, ManifestPlan
from millrace.errors import LeaseLost
from millrace.names import ObjectPrefix, ObjectRef
from millrace.ports.objects import ObjectMeta
from millrace.testing.objects import MemoryObjects

META = ObjectMeta(headers={"content-type": "application/json"})


def plan(uri: str) -> ManifestPlan:
    group = CapturedObjects(folder=ObjectPrefix("b", "in/"), refs=[ObjectRef("b", "in/a.csv")])
    return ManifestPlan(ref=ObjectRef.parse(uri), groups=(group,))


async def held() -> None:
    """Hold the lease."""


async def lost() -> None:
    raise LeaseLost("attempt 2 has it")


async def test_manifests_are_stored() -> None:
    """Text and attached facts are there once the function returns, and an older manifest is replaced."""
    objects = MemoryObjects()
    objects.add("s3://b/c/m.json", b"old")
    told: list[str] = []
    await write_manifests([plan("s3://b/c/m.json")], META, objects=objects, check_lease=held, report=told.append)
    assert objects.data("s3://b/c/m.json") == b'[{"prefix":"s3://b/in/"},"a.csv"]'
    assert (await objects.get(ObjectRef("b", "c/m.json"))).meta.headers["content-type"] == "application/json"
    assert (told, objects.open_writers) == ([], 0)


async def test_a_manifest_that_cannot_be_written_is_reported() -> None:
    """The bucket went away: that is told, the other manifest is written, and nothing is raised."""
    objects = MemoryObjects()
    objects.add("s3://b/x", b"")
    told: list[str] = []
    plans = [plan("s3://gone/m.json"), plan("s3://b/m.json")]
    await write_manifests(plans, META, objects=objects, check_lease=held, report=told.append)
    (line,) = told
    assert line.startswith("gone/m.json: the data capture manifest could not be written: NoSuchBucket")
    assert objects.keys("b", "m.json") == ["m.json"]


async def test_without_the_lease_nothing_is_written() -> None:
    """The attempt that has taken over writes its own; the old one stays silent and leaves nothing open."""
    objects = MemoryObjects()
    objects.add("s3://b/x", b"")
    told: list[str] = []
    await write_manifests([plan("s3://b/m.json")], META, objects=objects, check_lease=lost, report=told.append)
    assert (told, objects.keys("b"), objects.open_writers) == ([], ["x"], 0)
