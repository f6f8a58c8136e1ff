"""Transform jobs whose instances share one object, through boto3."""

import gzip
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.integration.platform import Platform

MODEL = Path(__file__).parents[1] / "programs" / "slow_model.py"
ROWS = b"".join(b"%d,%s\n" % (number, b"y" * (number % 300)) for number in range(25_000))
"""3.8 MB."""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A server with an image that gives bodies back; one object lies in the bucket."""
    platform = Platform(tmp_path_factory.mktemp("ranges"))
    with (platform.settings.data_dir / "host-images.toml").open("a") as file:
        file.write(f'[[image]]\nmatch = "echo:*"\ncommand = ["{sys.executable}", "{MODEL}"]\n')
    platform.start()
    platform.put("s3://shop/large/rows.csv", ROWS)
    platform.model("echo", "echo:latest")
    yield platform
    assert platform.stop() == 0


def job(platform: Platform, folder: Path, name: str, *, instances: int, **environment: str) -> dict[str, Any]:
    """Run a job over the object to its end."""
    variables = {"FRAMED": "1", "SLEEP": "0.02", "JOURNAL": str(folder / name), **environment}
    platform.transform(
        name,
        "echo",
        "s3://shop/large/",
        Environment=variables,
        MaxPayloadInMB=1,
        BatchStrategy="MultiRecord",
        TransformOutput={"S3OutputPath": f"s3://shop/{name}"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": instances},
    )
    return platform.ended_transform(name)


def test_three_instances_share_one_object(platform: Platform, tmp_path: Path) -> None:
    """Each has a model of its own that gets a part of the records; there is one output, in order."""
    ended = job(platform, tmp_path, "shared", instances=3, MILLRACE_RANGE_SPLIT="1")
    assert ended["TransformJobStatus"] == "Completed", ended
    assert platform.keys("s3://shop/shared/") == ["shared/rows.csv.out"]
    assert platform.get("s3://shop/shared/rows.csv.out") == ROWS
    asked = [line.split() for line in (tmp_path / "shared").read_text().splitlines()]
    assert len({process for process, *_ in asked}) == 3
    assert sum(int(records) for _, records, _ in asked) == ROWS.count(b"\n")
    assert not list((platform.settings.objects_dir / ".millrace").glob("*/drafts/*"))


def test_one_instance_sends_what_several_do(platform: Platform, tmp_path: Path) -> None:
    """Where an object is cut does not depend on how many instances there are, so mini-batches don't either."""
    sent = {}
    for count in (1, 2):
        job(platform, tmp_path, f"cut-for-{count}", instances=count, MILLRACE_RANGE_SPLIT="1")
        lines = (tmp_path / f"cut-for-{count}").read_text().splitlines()
        sent[count] = sorted(line.split()[1:] for line in lines)
    assert sent[1] == sent[2]


def test_ranges_give_one_compressed_output(platform: Platform, tmp_path: Path) -> None:
    """Each instance compresses what its ranges gave; any reader of gzip takes the whole for one file."""
    ended = job(
        platform,
        tmp_path,
        "packed",
        instances=2,
        MILLRACE_RANGE_SPLIT="1",
        MILLRACE_OUTPUT_COMPRESSION="gzip",
    )
    assert ended["TransformJobStatus"] == "Completed", ended
    assert gzip.decompress(platform.get("s3://shop/packed/rows.csv.out")) == ROWS
    assert not list((platform.settings.objects_dir / ".millrace").glob("*/drafts/*"))


def test_an_object_that_is_not_longer_than_a_range_is_not_cut(platform: Platform, tmp_path: Path) -> None:
    """One instance has it, whatever is asked for."""
    assert (
        job(platform, tmp_path, "whole", instances=2, MILLRACE_RANGE_SPLIT="true")["TransformJobStatus"] == "Completed"
    )
    asked = (tmp_path / "whole").read_text().splitlines()
    assert len({line.split()[0] for line in asked}) == 1


def test_the_log_tells_why_an_object_is_whole(platform: Platform) -> None:
    """Others of the same job are cut; its output is there all the same."""
    rows = b"".join(
        b"%d,%s\n" % (number, random.Random(number).randbytes(300).hex().encode()) for number in range(6000)
    )
    platform.put("s3://shop/mixed/a.csv.gz", gzip.compress(rows))
    platform.put("s3://shop/mixed/b.csv", rows)
    platform.transform(
        "mixed",
        "echo",
        "s3://shop/mixed/",
        Environment={
            "FRAMED": "1",
            "JOURNAL": "/dev/null",
            "MILLRACE_RANGE_SPLIT": "1",
            "MILLRACE_INPUT_COMPRESSION": "auto",
        },
        MaxPayloadInMB=1,
        BatchStrategy="SingleRecord",
        MaxConcurrentTransforms=4,
        TransformOutput={"S3OutputPath": "s3://shop/mixed-out"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 2},
    )
    ended = platform.ended_transform("mixed")
    assert ended["TransformJobStatus"] == "Completed", ended
    assert platform.get("s3://shop/mixed-out/a.csv.gz.out") == platform.get("s3://shop/mixed-out/b.csv.out") == rows
    told = [line for line in platform.log("/aws/sagemaker/TransformJobs", "mixed/") if "is not cut" in line]
    assert len(told) == 1, "the first instance tells it"
    assert "s3://shop/mixed/a.csv.gz is not cut into ranges: its name says that it is compressed (gzip)" in told[0]


@pytest.mark.parametrize(
    ("environment", "members", "told"),
    [
        (
            {"MILLRACE_RANGE_SPLIT": "0"},
            {},
            'or the length of a range in MB, 1 to 999999. Got "0"',
        ),
        ({"MILLRACE_RANGE_SPLIT": "yes"}, {}, 'Got "yes" instead.'),
        ({"MILLRACE_SCHEDULING": "random"}, {}, r"must be one of [balanced, modulo]. Got "),
        (
            {"MILLRACE_RANGE_SPLIT": "true"},
            {"SplitType": "None"},
            "SplitType to be one of [Line, RecordIO, TFRecord]: an object is one record. Got ",
        ),
        (
            {"MILLRACE_RANGE_SPLIT": "8"},
            {"CompressionType": "Gzip"},
            'CompressionType to be "None": what is compressed',
        ),
        (
            {"MILLRACE_RANGE_SPLIT": "true", "MILLRACE_INPUT_COMPRESSION": "zstd"},
            {},
            'MILLRACE_INPUT_COMPRESSION to be "auto" or absent',
        ),
        (
            {"MILLRACE_RANGE_SPLIT": "true", "MILLRACE_OUTPUT_FORMAT": "parquet"},
            {},
            "MILLRACE_OUTPUT_FORMAT to be absent: outputs are put together of text",
        ),
    ],
)
def test_jobs_that_cannot_be_cut_are_refused(
    platform: Platform, environment: dict[str, str], members: dict[str, str], told: str
) -> None:
    """When they are created, with what stands against it."""
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://shop/large/"}}
    with pytest.raises(ClientError) as caught:
        platform.transform(
            "refused",
            "echo",
            "s3://shop/large/",
            Environment=environment,
            TransformInput={"DataSource": source, "ContentType": "text/csv", "SplitType": "Line", **members},
        )
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    assert told in caught.value.response["Error"]["Message"]
