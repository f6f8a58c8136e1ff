"""RecordIO, TFRecord and JSON Lines through real jobs: brought containers, and the built-in algorithms."""

import io
import json
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from millrace_algorithms.protobuf import decode
from millrace_algorithms.record_tables import write_table
from millrace_algorithms.recordio import unframe
from millrace_algorithms.tables import Table
from tests.framed import recordio, tfrecord
from tests.integration.platform import ROLE, Platform

PROGRAM = Path(__file__).parents[1] / "programs" / "looking_program.py"
RECORDIO = "application/x-recordio-protobuf"
LINES = "application/jsonlines"
ROWS = np.random.default_rng(5).normal(size=(3000, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def looking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A server with a model whose container tells what it was given."""
    running = Platform(tmp_path_factory.mktemp("looking"))
    command = json.dumps([sys.executable, str(PROGRAM)])
    with (running.settings.data_dir / "host-images.toml").open("a") as file:
        file.write(f'[[image]]\nmatch = "looking:*"\ncommand = {command}\n')
    running.start()
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        member = tarfile.TarInfo("m/x.bin")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"bits"))
    container = {"Image": "looking:1", "ModelDataUrl": running.put("s3://shop/m/model.tar.gz", stream.getvalue())}
    running.client("sagemaker").create_model(ModelName="looks", ExecutionRoleArn=ROLE, PrimaryContainer=container)
    yield running
    assert running.stop() == 0


def run(platform: Platform, name: str, model: str, uri: str, **members: Any) -> dict[str, Any]:
    """Run a job whose members are given by their short names, and return its description."""
    transform_input = {"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri}}}
    transform_output = {"S3OutputPath": f"s3://shop/{name}"}
    for member in ("SplitType", "ContentType", "CompressionType"):
        if member in members:
            transform_input[member] = members.pop(member)
    for member in ("AssembleWith", "Accept"):
        if member in members:
            transform_output[member] = members.pop(member)
    platform.transform(name, model, uri, TransformInput=transform_input, TransformOutput=transform_output, **members)
    return platform.ended_transform(name)


@pytest.mark.spec("B §9.9 E07")
@pytest.mark.spec("B §9.9 E08")
def test_a_container_is_started_to_serve_its_model(looking: Platform) -> None:
    """The image's command gets the argument serve, and finds the unpacked model data."""
    looking.put("s3://shop/one/a.csv", b"1,2\n")
    assert run(looking, "started", "looks", "s3://shop/one/")["TransformJobStatus"] == "Completed"
    seen = json.loads(looking.get("s3://shop/started/a.csv.out"))
    assert seen["arguments"] == ["serve"]
    assert seen["model"] == {"m/x.bin": "bits"}
    assert seen["payload"] == b"1,2\n".hex()


@pytest.mark.spec("B §9.9 E10")
def test_containers_of_a_chain_pass_answers_on(looking: Platform) -> None:
    """Each has a port of its own; the second's payload is the first's answer, and the second's answer is the result."""
    looking.client("sagemaker").create_model(
        ModelName="chained", ExecutionRoleArn=ROLE, Containers=[{"Image": "looking:1"}, {"Image": "looking:2"}]
    )
    looking.put("s3://shop/chain/a.rec", recordio(b"one") + recordio(b"two"))
    found = run(
        looking,
        "t-chain",
        "chained",
        "s3://shop/chain/",
        SplitType="RecordIO",
        BatchStrategy="SingleRecord",
        AssembleWith="Line",
    )
    assert found["TransformJobStatus"] == "Completed", found.get("FailureReason")
    second = [json.loads(line) for line in looking.get("s3://shop/t-chain/a.rec.out").splitlines()]
    first = [json.loads(bytes.fromhex(it["payload"])) for it in second]
    assert [bytes.fromhex(it["payload"]) for it in first] == [b"one", b"two"]
    assert len({it["port"] for it in [*first, *second]}) == 2


@pytest.mark.parametrize(
    ("split", "content_type", "framed"),
    [
        ("RecordIO", RECORDIO, [recordio(b"one"), recordio(b"\x0a\x23\xd7\xce"), recordio(b"")]),
        ("TFRecord", "application/x-tfexample", [tfrecord(b"one"), tfrecord(b"\x0a\x23\xd7\xce"), tfrecord(b"")]),
    ],
)
def test_both_strategies_of_both_framings(
    looking: Platform, split: str, content_type: str, framed: list[bytes]
) -> None:
    """SingleRecord sends records without their framing, MultiRecord sends them as they are in the object."""
    uri = f"s3://shop/framed-{split}/"
    looking.put(f"{uri}a.rec", b"".join(framed))
    sent = {}
    for strategy in ("SingleRecord", "MultiRecord"):
        found = run(
            looking,
            f"{split}-{strategy}",
            "looks",
            uri,
            SplitType=split,
            ContentType=content_type,
            AssembleWith="Line",
            BatchStrategy=strategy,
        )
        assert found["TransformJobStatus"] == "Completed", found.get("FailureReason")
        assert found["TransformInput"]["SplitType"] == split
        answers = [json.loads(line) for line in looking.get(f"s3://shop/{split}-{strategy}/a.rec.out").splitlines()]
        sent[strategy] = [bytes.fromhex(it["payload"]) for it in answers]
        assert {it["content_type"] for it in answers} == {content_type}
    assert sent == {"SingleRecord": [b"one", b"\x0a\x23\xd7\xce", b""], "MultiRecord": [b"".join(framed)]}


def test_damaged_framing_is_told_by_record(looking: Platform) -> None:
    """FailureReason names the object, the record, its first byte and what was expected; other objects have outputs."""
    good, damaged = recordio(b"good"), recordio(b"cut")[:-2]
    looking.put("s3://shop/damaged/a.rec", good + damaged)
    looking.put("s3://shop/damaged/b.rec", good)
    found = run(looking, "t-damaged", "looks", "s3://shop/damaged/", SplitType="RecordIO", BatchStrategy="SingleRecord")
    assert found["FailureReason"] == (
        "ClientError: See job logs for more information. 1 of 2 objects failed; first: damaged/a.rec, record 2 at byte "
        "12: Failed to split the object as RecordIO at byte 12: the object ends after 10 bytes of a record of at least "
        "12"
    )
    assert looking.keys("s3://shop/t-damaged/") == ["t-damaged/b.rec.out"]


@pytest.fixture(scope="module")
def pca(platform: Platform) -> str:
    """A model of the built-in PCA, trained from RecordIO-protobuf."""
    platform.put("s3://shop/pca-train/a", write_table(Table(features=ROWS)))
    source = {"S3DataType": "S3Prefix", "S3Uri": "s3://shop/pca-train/", "S3DataDistributionType": "FullyReplicated"}
    platform.train(
        "framed-pca",
        "pca:1",
        InputDataConfig=[{"ChannelName": "train", "DataSource": {"S3DataSource": source}}],
        HyperParameters={"feature_dim": "8", "num_components": "3", "mini_batch_size": "500"},
    )
    trained = platform.ended_training("framed-pca")
    assert trained["TrainingJobStatus"] == "Completed", trained.get("FailureReason")
    container = {"Image": "pca:1", "ModelDataUrl": trained["ModelArtifacts"]["S3ModelArtifacts"]}
    platform.client("sagemaker").create_model(ModelName="framed-pca", ExecutionRoleArn=ROLE, PrimaryContainer=container)
    return "framed-pca"


@pytest.fixture(scope="module")
def projections(platform: Platform, pca: str) -> list[list[float]]:
    """What the model makes of the rows as JSON Lines, many lines per request."""
    lines = b"".join(json.dumps({"features": row}).encode() + b"\n" for row in ROWS.tolist())
    platform.put("s3://shop/pca-lines/rows.jsonl", lines)
    found = run(
        platform,
        "pca-lines-out",
        pca,
        "s3://shop/pca-lines/",
        SplitType="Line",
        ContentType=LINES,
        Accept=LINES,
        BatchStrategy="MultiRecord",
        MaxPayloadInMB=1,
    )
    assert found["TransformJobStatus"] == "Completed", found.get("FailureReason")
    answered = platform.get("s3://shop/pca-lines-out/rows.jsonl.out").splitlines()
    return [json.loads(line)["projection"] for line in answered]


@pytest.mark.spec("algorithms §3.8")
@pytest.mark.parametrize(
    ("strategy", "accept", "assemble"),
    [
        ("MultiRecord", RECORDIO, "None"),
        ("MultiRecord", LINES, "None"),
        ("MultiRecord", "application/json", "Line"),
        ("MultiRecord", "text/csv", "None"),
        ("SingleRecord", RECORDIO, "None"),
        ("SingleRecord", LINES, "None"),
        ("SingleRecord", "text/csv", "None"),
    ],
)
def test_a_built_in_algorithm_reads_and_writes_recordio(
    platform: Platform, pca: str, projections: list[list[float]], strategy: str, accept: str, assemble: str
) -> None:
    """RecordIO-protobuf in, any type out: the numbers are those of JSON Lines, and outputs stay in input order."""
    rows = ROWS if strategy == "MultiRecord" else ROWS[:50]
    name = f"pca-{strategy}-{accept.split('/')[1]}"
    platform.put(f"s3://shop/{name}-in/rows.rec", write_table(Table(features=rows)))
    found = run(
        platform,
        name,
        pca,
        f"s3://shop/{name}-in/",
        SplitType="RecordIO",
        ContentType=RECORDIO,
        Accept=accept,
        AssembleWith=assemble,
        BatchStrategy=strategy,
        MaxConcurrentTransforms=4,
    )
    assert found["TransformJobStatus"] == "Completed", found.get("FailureReason")
    made = platform.get(f"s3://shop/{name}/rows.rec.out")
    np.testing.assert_allclose(parsed(made, accept), projections[: len(rows)], rtol=1e-4, atol=1e-5)


def parsed(output: bytes, accept: str) -> list[list[float]]:
    """Return the projections of an output."""
    if accept == RECORDIO:
        return [decode(payload).label["projection"].values.tolist() for payload in unframe(output)]
    if accept == "text/csv":
        return [[float(number) for number in line.split(b",")] for line in output.splitlines()]
    documents = [json.loads(line) for line in output.splitlines()]
    if accept == LINES:
        return [it["projection"] for it in documents]
    return [record["projection"] for it in documents for record in it["projections"]]
