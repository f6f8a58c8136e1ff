"""Transform jobs of thousands of small objects, on a real server with real containers."""

import os
import signal
from pathlib import Path

from tests.integration.platform import Platform, wait_until

COUNT = 3000
"""More than are written before the agent has another process write them."""


def test_a_killed_agent_of_many_small_objects_is_replaced(own_platform: Platform) -> None:
    """Whenever the agent is killed, each object has one whole output in the end, and no process stays behind."""
    stored = own_platform.settings.objects_dir / "shop"
    source, outputs = stored / "many", stored / "t-many"
    source.mkdir(parents=True)
    for number in range(COUNT):
        (source / f"{number:04d}.csv").write_bytes(b"%d,%d" % (number, number))
    model = own_platform.model("rowsum-many", MODE="rowsum")
    output = {"S3OutputPath": "s3://shop/t-many", "Accept": "text/csv"}
    own_platform.transform("t-many", model, "s3://shop/many/", TransformOutput=output, **whole_objects())
    wait_until("outputs", lambda: len(names(outputs)) > COUNT // 3)
    for agent in own_platform.agents():
        os.kill(agent, signal.SIGKILL)
    assert own_platform.ended_transform("t-many")["TransformJobStatus"] == "Completed"
    assert names(outputs) == {f"{number:04d}.csv.out" for number in range(COUNT)}
    for number in range(COUNT):
        assert (outputs / f"{number:04d}.csv.out").read_bytes().strip() == b"%d" % (2 * number)


def names(folder: Path) -> set[str]:
    """Return the names in a folder, which may not be there yet."""
    return set(os.listdir(folder)) if folder.is_dir() else set()


def whole_objects() -> dict[str, object]:
    """Return the input of a job that sends whole objects, several at a time."""
    where = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://shop/many/"}}
    return {
        "TransformInput": {"DataSource": where, "ContentType": "text/csv", "SplitType": "None"},
        "MaxConcurrentTransforms": 4,
    }
