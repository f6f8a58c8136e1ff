"""The test vectors of batch-transform.md section 9, run through the data plane."""

import asyncio
import gzip
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.acceptance.transform_rig import (
    ECHO,
    HEX,
    LEN,
    MIB,
    ONE,
    ROWSUM,
    TRIM,
    fix,
    header,
    job,
    never,
    run_job,
    status,
)

from millrace.clock import SystemClock
from millrace.dataplane import list_inputs, parse_source_type, validate_spec, wait_until_healthy
from millrace.dataplane.capture import iter_manifest, plan_manifests
from millrace.errors import ValidationError
from millrace.jobs.transform import (
    AssembleWith,
    BatchStrategy,
    Compression,
    DataCapture,
    DataProcessing,
    JoinSource,
    SourceType,
    SplitType,
    TransformSpec,
)
from millrace.names import ObjectPrefix, sagemaker_arn
from millrace.testing.clock import ManualClock
from millrace.testing.model_server import CLOSE, Behaviour, ModelReply, ModelRequest, ModelServer
from millrace.testing.objects import MemoryObjects

LINE = {"split": SplitType.LINE}
SINGLE = {"split": SplitType.LINE, "strategy": BatchStrategy.SINGLE_RECORD}
MULTI = {"split": SplitType.LINE, "strategy": BatchStrategy.MULTI_RECORD}
LINES = {"assemble_with": AssembleWith.LINE}
CSV = {"content_type": "text/csv", "accept": "text/csv", **SINGLE, **LINES}
JSONL = {"content_type": "application/jsonlines", "accept": "application/jsonlines", **SINGLE, **LINES}
JSON = {"content_type": "application/json", "accept": "application/json"}


def processing(input_filter: str = "$", join: bool = False, output_filter: str = "$") -> dict[str, Any]:
    source = JoinSource.INPUT if join else JoinSource.NONE
    return {"processing": DataProcessing(input_filter=input_filter, output_filter=output_filter, join_source=source)}


@dataclass
class Vector:
    """One row of a table of vectors: `expect` is the output, None stands for "fail"."""

    id: str
    section: str
    settings: dict[str, Any]
    given: bytes
    model: Behaviour
    expect: bytes | None
    requests: list[bytes] | None = None
    count: int | None = None
    message: str | None = None
    extra: dict[str, bytes] = field(default_factory=dict)


def vectors(section: str, *rows: tuple[Any, ...]) -> list[Any]:
    """Make parameters: (id, settings, input, model, output[, more fields])."""
    made = []
    for name, settings, given, model, expect, *more in rows:
        vector = Vector(name, section, settings, given, model, expect, **(more[0] if more else {}))
        made.append(pytest.param(vector, id=name, marks=pytest.mark.spec(f"B §{section} {name}")))
    return made


def request_is(*bodies: bytes) -> dict[str, Any]:
    return {"requests": list(bodies)}


async def check(vector: Vector) -> None:
    result = await run_job(job(**vector.settings), vector.model, vector.given)
    if vector.expect is None:
        assert result.failed
        assert result.objects.keys("b", "out/") == []
    else:
        assert not result.failed, result.outcome.failures
        assert result.output == vector.expect
    if vector.requests is not None:
        assert result.server.bodies == vector.requests
    if vector.count is not None:
        assert len(result.server.bodies) == vector.count
    if vector.message is not None:
        assert any(vector.message in text for text in result.texts), result.texts


# -- 9.1, what concerns rules between members


def join(**settings: Any) -> TransformSpec:
    return job(**{**CSV, **processing(join=True), **settings})


CAPTURE = DataCapture(destination=ObjectPrefix("b", "captured"), generate_inference_id=True)


def ids(**settings: Any) -> TransformSpec:
    return job(**settings, capture=CAPTURE)


def section(name: str) -> str:
    """Return where a rule (X) or a vector (A) is in the specification; other names say so themselves."""
    return {"A": "B §9.1 ", "X": "B §1.2 "}.get(name[0], "") + name


REFUSED = [
    ("A09", job(max_payload_bytes=101 * MIB), "MaxPayloadInMB must not exceed 100"),
    ("A10", job(max_concurrent_transforms=10, max_payload_bytes=11 * MIB), "product of MaxConcurrentTransforms"),
    ("A10", job(max_concurrent_transforms=51, max_payload_bytes=2 * MIB), "must not exceed 100"),
    ("A12", job(invocation_timeout_seconds=3601.0), "less than or equal to 3600"),
    ("A12", job(invocation_max_retries=4), "less than or equal to 3"),
    ("A13", job(invocation_timeout_seconds=0.0), "greater than or equal to 1"),
    ("A13", job(instance_count=0), "greater than or equal to 1"),
    ("A14", job(instance_count=101), "less than or equal to 100"),
    ("A16", job(environment={f"V{n}": "" for n in range(17)}), "length less than or equal to 16"),
    ("A16", job(environment={"1A": ""}), "regular expression pattern"),
    ("A16", job(environment={"A": "x" * 10_241}), "length less than or equal to 10240"),
    ("A17", job(**{**CSV, **processing("$[" + "1" * 61 + "]")}), "at most 63 characters, got 64"),
    (
        "A18",
        job(**JSONL, **processing(join=True, output_filter="$['account_id','SageMakerOutput']")),
        "Invalid OutputFilter: \"$['account_id','SageMakerOutput']\". Unexpected \"_\" in JsonPath. Supported "
        "operators for \"application/jsonlines\" are ['$', '[', ']', '*', '.', ' ', ',', ':', '-', ''']",
    ),
    ("A19", job(**CSV, **processing("$.id")), 'Unexpected "." in JsonPath'),
    (
        "A20",
        job(**CSV, **processing(output_filter="$[0:2,246:]")),
        "Invalid JsonPath: $[0:2,246:]: only single range filters of format (eg: [1:5]) are supported. "
        "Format [0:2,246:] is not supported",
    ),
    ("A21", join(accept="application/json"), "ContentType and Accept to be equal"),
    ("A22", join(assemble_with=AssembleWith.NONE), "SplitType to equal AssembleWith"),
    ("A23", join(content_type="image/png", accept="image/png"), "one of [text/csv, application/json,"),
    (
        "X10",
        join(split=SplitType.NONE, assemble_with=AssembleWith.NONE),
        'requires SplitType and AssembleWith to be "Line"',
    ),
    ("X12", join(split=SplitType.RECORDIO), "SplitType to equal AssembleWith"),
    (
        "X12",
        job(**{**CSV, **processing("$[1:]"), "split": SplitType.RECORDIO}),
        'InputFilter other than "$" requires TransformInput.SplitType to be "None" or "Line". '
        'Got InputFilter "$[1:]" and SplitType "RecordIO" instead.',
    ),
    (
        "X12",
        job(**{**JSONL, **processing(output_filter="$.a"), "split": SplitType.TFRECORD}),
        'Got OutputFilter "$.a" and SplitType "TFRecord" instead.',
    ),
    ("X13", job(**processing("$[1:]")), "InputFilter requires ContentType"),
    ("X14", job(content_type="text/csv", **processing(output_filter="$[0]")), "OutputFilter requires Accept"),
    ("X17", job(**CSV, **processing("$[0,5:]")), "only single range filters"),
    ("X26", ids(), "GenerateInferenceId requires TransformOutput.Accept to be one of [text/csv, application/json,"),
    ("X26", ids(accept="image/png"), 'Got "image/png" instead'),
    (
        "B §6.7",
        job(capture=DataCapture(destination=ObjectPrefix("b", "ü" * 481))),
        "DestinationS3Uri must have a key of at most 961 bytes, so that the keys of manifests below it have at most "
        "1,024. Got 962 bytes instead.",
    ),
]

ACCEPTED = [
    ("A09", job(max_payload_bytes=100 * MIB)),
    ("A10", job(max_concurrent_transforms=10, max_payload_bytes=10 * MIB)),
    ("A10", job(max_concurrent_transforms=100, max_payload_bytes=MIB)),
    ("A11", job(max_concurrent_transforms=100, max_payload_bytes=0)),
    ("A12", job(invocation_timeout_seconds=3600.0, invocation_max_retries=3)),
    ("A17", job(**{**CSV, **processing("$[" + ",".join(["1"] * 30) + "]")})),
    ("A24", job(content_type="text/csv", **processing("$[1:]"))),
    ("A26", job(strategy=BatchStrategy.SINGLE_RECORD)),
    ("X06", job(assemble_with=AssembleWith.LINE)),
    ("X18", job(content_type="image/png", **processing())),
    ("X26", job(capture=replace(CAPTURE, generate_inference_id=False))),
    ("X26", ids(accept="TEXT/CSV; charset=utf-8")),
    ("X26", job(capture=DataCapture(destination=ObjectPrefix("b", "x" * 961)))),
]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        pytest.param(spec, text, id=f"{name}-{n}", marks=pytest.mark.spec(section(name)))
        for n, (name, spec, text) in enumerate(REFUSED)
    ],
)
def test_a_combination_that_cannot_work_is_refused(spec: TransformSpec, message: str) -> None:
    """What cannot work is refused when the job is made, with a text that names members and values."""
    with pytest.raises(ValidationError) as caught:
        validate_spec(spec)
    assert message in caught.value.message


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(spec, id=f"{name}-{n}", marks=pytest.mark.spec(section(name)))
        for n, (name, spec) in enumerate(ACCEPTED)
    ],
)
def test_an_odd_but_workable_combination_is_accepted(spec: TransformSpec) -> None:
    """What SageMaker accepts is accepted."""
    validate_spec(spec)


@pytest.mark.spec("B §9.1 A25")
@pytest.mark.parametrize("text", ["AugmentedManifestFile", "Converse"])
def test_other_source_types_are_refused(text: str) -> None:
    """Transform jobs read prefixes and manifests only."""
    with pytest.raises(ValidationError, match=r"Supported: \[ManifestFile, S3Prefix\]"):
        parse_source_type(text)


@pytest.mark.spec("B §9.1 A26")
async def test_a_strategy_without_split_is_one_request_per_object() -> None:
    """BatchStrategy has no effect on objects that are not split."""
    result = await run_job(job(strategy=BatchStrategy.SINGLE_RECORD), LEN, b"a\nb\n")
    assert result.server.bodies == [b"a\nb\n"]


# -- 9.2 names

NAMES = [
    ("N01", "in/a.csv", ["in/a.csv"], "s3://b/out", ["out/a.csv.out"]),
    ("N02", "in/", ["in/a.csv", "in/x/b.csv"], "s3://b/out/", ["out/a.csv.out", "out/x/b.csv.out"]),
    ("N03", "in", ["in/a.csv"], "s3://b/out", ["out/a.csv.out"]),
    ("N04", "in/te", ["in/test/a.csv", "in/te.csv"], "s3://b/out", ["out/te.csv.out", "out/test/a.csv.out"]),
    (
        "N05",
        "in/test",
        ["in/test/a.csv", "in/test_small/b.csv"],
        "s3://b/out",
        ["out/a.csv.out", "out/test_small/b.csv.out"],
    ),
    ("N07", "in/", ["in/", "in/a.csv"], "s3://b/out", ["out/a.csv.out"]),
    ("N09", "out/", ["out/a.csv.out"], "s3://b/out2", ["out2/a.csv.out.out"]),
    ("N10", "in/a.csv", ["in/a.csv", "in/a.csv.bak"], "s3://b/out", ["out/a.csv.bak.out", "out/a.csv.out"]),
    ("N11", "in/a.csv", ["in/a.csv"], "s3://b2", ["a.csv.out"]),
]


@pytest.mark.parametrize(
    ("prefix", "keys", "output", "expected"),
    [pytest.param(*row[1:], id=row[0], marks=pytest.mark.spec(f"B §9.2 {row[0]}")) for row in NAMES],
)
async def test_outputs_are_named_after_inputs(prefix: str, keys: list[str], output: str, expected: list[str]) -> None:
    """An output is called as its input below the prefix, with .out."""
    objects = MemoryObjects()
    objects.add("s3://b2/other", b"")
    inputs = {key: b"" if key.endswith("/") else b"x" for key in keys}
    target = ObjectPrefix.parse(output)
    before = set(keys)
    result = await run_job(job(source=ObjectPrefix("b", prefix), output=target), ECHO, inputs, objects=objects)
    made = [key for key in result.objects.keys(target.bucket) if key not in before and key != "other"]
    assert made == expected


@pytest.mark.spec("B §9.2 N06")
async def test_a_manifest_names_its_outputs_by_entry() -> None:
    """Entries of a manifest are names below its prefix."""
    manifest = b'[{"prefix":"s3://b/p/"},"x/a.csv","b.csv"]'
    inputs = {"m.json": manifest, "p/x/a.csv": b"1", "p/b.csv": b"2", "p/c.csv": b"3"}
    spec = job(source=ObjectPrefix("b", "m.json"), source_type=SourceType.MANIFEST)
    result = await run_job(spec, ECHO, inputs)
    assert result.objects.keys("b", "out/") == ["out/b.csv.out", "out/x/a.csv.out"]


@pytest.mark.spec("B §9.2 N08")
async def test_a_compressed_input_keeps_its_suffix() -> None:
    """The output of a.csv.gz is a.csv.gz.out, and not compressed."""
    inputs = {"in/a.csv.gz": gzip.compress(b"plain")}
    result = await run_job(job(compression=Compression.GZIP), ECHO, inputs)
    assert result.objects.data("s3://b/out/a.csv.gz.out") == b"plain"


# -- 9.3 split and batch


def lines(*sizes: int) -> bytes:
    return b"".join(b"x" * (size - 1) + b"\n" for size in sizes)


ONE_MB = {"max_payload_bytes": MIB}

SPLIT = vectors(
    "9.3",
    ("S01", {}, b"a\nb\n", LEN, b"4", request_is(b"a\nb\n")),
    ("S02", LINES, b"a\nb\n", LEN, b"4\n"),
    ("S03", SINGLE, b"a\nbb\n", HEX, b"610a62620a", request_is(b"a\n", b"bb\n")),
    ("S04", {**SINGLE, **LINES}, b"a\nbb", HEX, b"610a\n6262\n"),
    ("S05", {**MULTI, **LINES}, b"a\nbb\n", LEN, b"5\n", {"count": 1}),
    ("S06", {**SINGLE, **LINES}, b"a\r\nb\r\n", HEX, b"610d0a\n620d0a\n"),
    ("S07", {**SINGLE, **LINES}, b"a\n\nb\n", LEN, b"2\n1\n2\n", {"count": 3}),
    ("S08", {**SINGLE, **LINES}, b"\n", LEN, b"1\n"),
    ("S09", LINE, b"", LEN, b"", {"count": 0}),
    ("S09-None", {}, b"", LEN, b"", {"count": 0}),
    (
        "S10",
        {**SINGLE, "content_type": "text/csv"},
        b'"x\ny",1\n',
        HEX,
        b"22780a79222c310a",
        request_is(b'"x\n', b'y",1\n'),
    ),
    ("S11", {**MULTI, **LINES, **ONE_MB}, lines(500_000, 500_000, 500_000), LEN, b"1000000\n500000\n"),
    ("S12", {**MULTI, **LINES, **ONE_MB}, lines(524_288, 524_288), LEN, b"1048576\n", {"count": 1}),
    ("S13", {**MULTI, **LINES, **ONE_MB}, lines(524_288, 524_289), LEN, b"524288\n524289\n"),
    ("S14-ok", {**SINGLE, **ONE_MB}, lines(1_048_576), LEN, b"1048576"),
    (
        "S14-fail",
        {**SINGLE, **ONE_MB},
        lines(1_048_577),
        LEN,
        None,
        {"message": "b/in/a.csv: ClientError: Too much data for max payload size"},
    ),
    ("S15-ok", {}, b"x" * 6_291_456, LEN, b"6291456"),
    ("S15-fail", {}, b"x" * 6_291_457, LEN, None, {"message": "Too much data for max payload size", "count": 0}),
    ("S16", {"max_payload_bytes": 0}, b"x" * 10 * MIB, LEN, b"10485760"),
    ("S18", {**MULTI, **LINES, "compression": Compression.GZIP}, gzip.compress(b"a\nbb\n"), LEN, b"5\n"),
    ("S19", {"compression": Compression.GZIP}, b"a\n", LEN, None, {"message": "ClientError"}),
    ("S24", LINE, b"a\nb\n", LEN, b"4", {"count": 1}),
)


@pytest.mark.parametrize("vector", SPLIT)
async def test_objects_are_split_and_batched(vector: Vector) -> None:
    """Records and payloads are those of section 9.3."""
    await check(vector)


@pytest.mark.spec("B §9.3 S16")
async def test_without_a_payload_limit_the_body_is_chunked() -> None:
    """MaxPayloadInMB 0 sends Transfer-Encoding: chunked and no Content-Length, split or not."""
    for settings in ({}, SINGLE, MULTI):
        spec = job(max_payload_bytes=0, **settings)
        assert (await run_job(spec, header("Transfer-Encoding"), b"x\n")).output == b"chunked"
        assert (await run_job(spec, header("Content-Length"), b"x\n")).output == b"-"
        result = await run_job(spec, ECHO, b"x\ny\n" * 400_000 if settings is MULTI else b"x\ny\n")
        assert result.output == (b"x\ny\n" * 400_000 if settings is MULTI else b"x\ny\n")


@pytest.mark.spec("B §9.3 S17")
async def test_payloads_never_mix_objects() -> None:
    """Two small objects are two requests."""
    result = await run_job(job(**MULTI), LEN, {"in/a.csv": b"a\n", "in/b.csv": b"b\n"})
    assert sorted(result.server.bodies) == [b"a\n", b"b\n"]


@pytest.mark.spec("B §9.3 S20")
async def test_output_order_is_input_order() -> None:
    """The first record's answer comes last, and still stands first."""
    others_answered = asyncio.Event()
    answered = []

    async def behave(request: ModelRequest) -> ModelReply:
        if request.path != "/invocations":
            return ModelReply(status=404)
        if request.body == b"1\n":
            await others_answered.wait()
        answered.append(request.body)
        if len(answered) == 3:
            others_answered.set()
        return ModelReply(request.body.strip())

    spec = job(**SINGLE, **LINES, max_concurrent_transforms=4)
    result = await run_job(spec, behave, b"1\n2\n3\n4\n")
    assert answered[-1] == b"1\n"
    assert result.output == b"1\n2\n3\n4\n"


@pytest.mark.spec("B §9.3 S21")
async def test_instances_without_objects_end_normally() -> None:
    """Two objects on four instances: two work, two have nothing to do."""
    made = []
    for instance in range(4):
        inputs = {"in/a.csv": b"1", "in/b.csv": b"2"}
        result = await run_job(job(instance_count=4), LEN, inputs, instance=instance)
        assert not result.failed
        made.append(result.objects.keys("b", "out/"))
    assert made == [["out/a.csv.out"], ["out/b.csv.out"], [], []]


def with_parameters(parameters: bytes, behaviour: Behaviour) -> Behaviour:
    async def behave(request: ModelRequest) -> ModelReply:
        if request.path == "/execution-parameters":
            return ModelReply(parameters)
        return await behaviour(request)

    return behave


@pytest.mark.spec("B §9.3 S22")
async def test_the_container_may_choose_the_strategy() -> None:
    """Without BatchStrategy, /execution-parameters decides."""
    model = with_parameters(b'{"BatchStrategy":"SINGLE_RECORD"}', LEN)
    assert (await run_job(job(**LINE), model, b"a\nb\n")).server.bodies == [b"a\n", b"b\n"]


@pytest.mark.spec("B §9.3 S23")
async def test_the_request_wins_over_the_container() -> None:
    """BatchStrategy in the request overrules /execution-parameters."""
    model = with_parameters(b'{"BatchStrategy":"SINGLE_RECORD"}', LEN)
    assert (await run_job(job(**MULTI), model, b"a\nb\n")).server.bodies == [b"a\nb\n"]


# -- 9.4 RecordIO and TFRecord

RECORDIO = {"split": SplitType.RECORDIO, "strategy": BatchStrategy.SINGLE_RECORD, **LINES}
TFRECORD = {"split": SplitType.TFRECORD, "strategy": BatchStrategy.SINGLE_RECORD, **LINES}
MANY_FRAMES = {"strategy": BatchStrategy.MULTI_RECORD}
R01 = bytes.fromhex("0a23d7ce0100000061000000 0a23d7ce0300000061626300")
R04 = bytes.fromhex("0a23d7ce0400002061626364 0a23d7ce0400006065666768")
R08 = bytes.fromhex("0b23d7ce00000000")
T01 = bytes.fromhex("01000000000000000175de4161786ee428 0300000000000000b099490e6162636e57f121")
T03 = bytes.fromhex("0500000000000000eab2043e68656c6c6fbb1f1c19")

FRAMED = vectors(
    "9.4",
    ("R01", RECORDIO, R01, HEX, b"61\n616263\n", request_is(b"a", b"abc")),
    ("R02", {**RECORDIO, **MANY_FRAMES}, R01, LEN, b"24\n", request_is(R01)),
    ("R03", RECORDIO, bytes.fromhex("0a23d7ce0500000068656c6c6f000000"), LEN, b"5\n"),
    ("R04", RECORDIO, R04, HEX, b"616263640a23d7ce65666768\n", {"count": 1}),
    ("R04-many", {**RECORDIO, **MANY_FRAMES}, R04, HEX, R04.hex().encode() + b"\n", {"count": 1}),
    ("R05", RECORDIO, bytes.fromhex("0a23d7ce000000200a23d7ce00000060"), HEX, b"0a23d7ce\n"),
    ("R06", RECORDIO, bytes.fromhex("0a23d7ce0800000061620a23d7ce6566"), LEN, b"8\n", {"count": 1}),
    ("R07", RECORDIO, bytes.fromhex("0a23d7ce00000000"), LEN, b"0\n"),
    (
        "R08",
        RECORDIO,
        R08,
        LEN,
        None,
        {
            "message": "b/in/a.csv: ClientError: Failed to split the object as RecordIO at byte 0: "
            "expected the magic 0a 23 d7 ce, got 0b 23 d7 ce",
            "count": 0,
        },
    ),
    ("T01", TFRECORD, T01, HEX, b"61\n616263\n", request_is(b"a", b"abc")),
    ("T02", {**TFRECORD, **MANY_FRAMES}, T01, LEN, b"36\n", request_is(T01)),
    ("T03", TFRECORD, T03, LEN, b"5\n"),
    ("T04", TFRECORD, bytes.fromhex("000000000000000029039807d8ea82a2"), LEN, b"0\n"),
    (
        "T05",
        TFRECORD,
        T03[:-1] + b"\x18",
        LEN,
        None,
        {"message": "the record's bytes have the checksum 191c1fbb, but the record says 181c1fbb", "count": 0},
    ),
    (
        "T06",
        TFRECORD,
        T03[:20],
        LEN,
        None,
        {"message": "at byte 0: the object ends after 20 bytes of a record of at least 21", "count": 0},
    ),
)


@pytest.mark.parametrize("vector", FRAMED)
async def test_framed_records_are_split(vector: Vector) -> None:
    """Requests and outputs are those of section 9.4."""
    await check(vector)


@pytest.mark.parametrize("settings", [RECORDIO, {**RECORDIO, **MANY_FRAMES}, TFRECORD, {**TFRECORD, **MANY_FRAMES}])
async def test_framed_objects_may_be_empty_or_compressed(settings: dict[str, Any]) -> None:
    """An empty object gives an empty output; gzip is decompressed before the records are cut."""
    framed = R01 if settings["split"] is SplitType.RECORDIO else T01
    inputs = {"in/a.csv": gzip.compress(framed), "in/b.csv": b""}
    result = await run_job(job(**settings, compression=Compression.GZIP), LEN, inputs)
    many = settings["strategy"] is BatchStrategy.MULTI_RECORD
    assert result.output == (b"%d\n" % len(framed) if many else b"1\n3\n")
    assert result.objects.data("s3://b/out/b.csv.out") == b""
    assert result.outcome.progress.records == 2


async def test_records_before_a_damaged_one_are_counted() -> None:
    """The failure names the damaged record and its first byte; records before it were sent, its output is not there."""
    damaged = R01 + R08 + R01
    result = await run_job(job(**RECORDIO), HEX, {"in/a.csv": damaged, "in/b.csv": R01})
    assert result.objects.keys("b", "out/") == ["out/b.csv.out"]
    assert result.reason == (
        "ClientError: See job logs for more information. 1 of 2 objects failed; first: in/a.csv, record 3 at byte 24: "
        "Failed to split the object as RecordIO at byte 24: expected the magic 0a 23 d7 ce, got 0b 23 d7 ce"
    )


@pytest.mark.parametrize("settings", [RECORDIO, {**RECORDIO, **MANY_FRAMES}])
async def test_a_framed_record_counts_with_its_framing(settings: dict[str, Any]) -> None:
    """A record of just the limit passes, framing included; a longer one is refused before it is read."""
    fitting = bytes.fromhex("0a23d7ce f8ff0f00") + b"x" * (MIB - 8)
    longer = bytes.fromhex("0a23d7ce fcff0f00") + b"x" * (MIB - 4)
    assert not (await run_job(job(**settings, **ONE_MB), LEN, fitting)).failed
    for given in (longer, longer[:8]):
        result = await run_job(job(**settings, **ONE_MB), LEN, fitting + given)
        failure = result.outcome.failures[0]
        assert failure.message == "Too much data for max payload size: it must be at most 1048576 bytes"
        assert (failure.record, failure.offset) == (2, MIB)


UNLIMITED = {"max_payload_bytes": 0}


@pytest.mark.parametrize(
    ("settings", "given", "records"),
    [
        ({**RECORDIO, **MANY_FRAMES}, R04 * 3, 3),
        ({**TFRECORD, **MANY_FRAMES}, T01, 2),
        ({**MULTI, **LINES}, b"a\n\nb", 3),
        (LINES, b"a\n\nb", 1),
    ],
)
async def test_records_of_streamed_objects_are_counted(settings: dict[str, Any], given: bytes, records: int) -> None:
    """An object that is streamed through as one request counts as many records as it has."""
    result = await run_job(job(**settings, **UNLIMITED), LEN, given)
    assert result.output == b"%d\n" % len(given)
    assert result.outcome.progress.records == records


@pytest.mark.parametrize("damaged", [R08 + R01, R01[:-13]])
async def test_framing_of_streamed_objects_is_checked(damaged: bytes) -> None:
    """Damage is told as in objects that are split, and nothing is written."""
    result = await run_job(job(**{**RECORDIO, **MANY_FRAMES, **UNLIMITED}), LEN, R01 + damaged)
    assert result.objects.keys("b", "out/") == []
    failure = result.outcome.failures[0]
    assert (failure.label, failure.record, failure.offset) == ("ClientError", 3, 24)


async def test_empty_records_without_a_payload_limit_are_requests() -> None:
    """A chunked request of an empty record has an empty body, and the connection can be used again."""
    result = await run_job(job(**RECORDIO, **UNLIMITED), LEN, bytes.fromhex("0a23d7ce00000000") * 2 + R01)
    assert result.output == b"0\n0\n1\n3\n"


# -- 9.5 assembly

ASSEMBLY = vectors(
    "9.5",
    ("B01", SINGLE, b"1\n2\n", fix("x"), b"xx"),
    ("B02", {**SINGLE, **LINES}, b"1\n2\n", fix("x"), b"x\nx\n"),
    ("B03", {**SINGLE, **LINES}, b"1\n2\n", fix("x\n"), b"x\n\nx\n\n"),
    ("B04", {**MULTI, **LINES}, b"1\n2\n", fix("[1,2]"), b"[1,2]\n"),
    ("B05", {**MULTI, **LINES}, b"1,2\n3,4\n", ROWSUM, b"3\n7\n"),
    ("B06", {**SINGLE, **LINES}, b"1\n2\n", status(204), b"\n\n"),
    ("B07", {}, b"\x00\xff", ECHO, b"\x00\xff"),
)


@pytest.mark.parametrize("vector", ASSEMBLY)
async def test_answers_are_assembled(vector: Vector) -> None:
    """Outputs are those of section 9.5."""
    await check(vector)


@pytest.mark.spec("B §9.5 B08")
async def test_a_rerun_replaces_the_output() -> None:
    """An output of an earlier run is replaced."""
    result = await run_job(job(), fix("y"), b"1", before={"out/a.csv.out": b"old"})
    assert result.output == b"y"


@pytest.mark.spec("B §9.5 B09")
async def test_the_key_of_the_output_is_named_to_the_store() -> None:
    """KmsKeyId asks the store for aws:kms with that key; Accept is the output's type."""
    result = await run_job(job(output_kms_key="alias/k", accept="text/csv"), ECHO, b"1")
    page = await result.objects.list_objects("b", prefix="out/")
    assert dict(page.objects[0].meta.headers) == {
        "content-type": "text/csv",
        "x-amz-server-side-encryption": "aws:kms",
        "x-amz-server-side-encryption-aws-kms-key-id": "alias/k",
    }


# -- 9.6 CSV processing


def csv(*filters: Any, **more: Any) -> dict[str, Any]:
    return {**CSV, **processing(*filters), **more}


MANY = {"strategy": BatchStrategy.MULTI_RECORD}
BARE = 'bare " in non quoted field found near: a"b'

CSV_VECTORS = vectors(
    "9.6",
    ("C01", csv("$", True), b"1,2,3\n", ROWSUM, b"1,2,3,6\n", request_is(b"1,2,3\n")),
    ("C02", csv("$[1:]", True), b"9,1,2\n", ROWSUM, b"9,1,2,3\n", request_is(b"1,2\n")),
    (
        "C03",
        csv("$[1:]", True, "$[0,-1]", **MANY),
        b"9,1,2\n8,3,4\n",
        ROWSUM,
        b"9,3\n8,7\n",
        request_is(b"1,2\n3,4\n"),
    ),
    ("C04", csv("$[1:3]"), b"1,2,3,4,5\n", TRIM, b"2,3,4\n", request_is(b"2,3,4\n")),
    ("C05", csv("$[:1]"), b"1,2,3\n", TRIM, b"1,2\n", request_is(b"1,2\n")),
    ("C06", csv("$[2]"), b"1,2,3\n", TRIM, b"3\n", request_is(b"3\n")),
    ("C07", csv("$[0, -1]"), b"1,2,3\n", TRIM, b"1,3\n"),
    ("C08", csv("$[2,0]"), b"1,2,3\n", TRIM, b"3,1\n"),
    ("C09", csv("$", True, "$[7]"), b"1,2\n", ROWSUM, None, {"message": "index 7 is outside of 3 elements"}),
    ("C10", csv("$[5]"), b"1,2\n", TRIM, None, {"message": "index 5 is outside of 2 elements"}),
    ("C11", csv("$", True), b'"a,b",1\n', fix("0"), b'"a,b",1,0\n', request_is(b'"a,b",1\n')),
    ("C12", csv("$", True), b'a"b,1\n', fix("0"), None, {"message": f"Failed to parse input as CSV: {BARE}"}),
    ("C13", csv("$[1:]"), b'a"b,1\n', TRIM, None, {"message": "Failed to parse line: 'a\"b,1' as CSV: " + BARE}),
    (
        "C14",
        csv("$", True, **MANY),
        b"1\n2\n",
        fix("0"),
        None,
        {"message": "mismatched line count between the input and the output: 2 records, 1 row"},
    ),
    ("C15", csv("$", True, **MANY), b"1\n2\n", fix("0\n0\n"), b"1,0\n2,0\n"),
    ("C16", csv("$", True), b"1,2", ROWSUM, b"1,2,3\n", request_is(b"1,2")),
    ("C17", csv("$", True), b"1,2\r\n", fix("0"), b"1,2,0\n", request_is(b"1,2\r\n")),
    ("C18", csv("$", True), b"1\n\n2\n", fix("0"), b"1,0\n2,0\n", {"count": 2}),
    (
        "C19",
        csv("$", True),
        b"1\n",
        fix('{"a":1,"b":2}'),
        None,
        {"message": "Failed to parse output from the algorithm as CSV"},
    ),
    ("C20", csv("$", True), b"1\n", fix("5,6"), b"1,5,6\n"),
    ("C21", csv("$[*]"), b"1,2\n", TRIM, b"1,2\n"),
    ("C22", csv("$", False, "$[0]"), b"1\n", fix("5,6"), b"5\n"),
    ("C23", csv("$", True, "$[-2:]"), b"1,2\n", ROWSUM, b"2,3\n"),
)


@pytest.mark.parametrize("vector", CSV_VECTORS)
async def test_csv_is_filtered_and_joined(vector: Vector) -> None:
    """Requests and outputs are those of section 9.6."""
    await check(vector)


# -- 9.7 JSON processing


def jsonl(*filters: Any, **more: Any) -> dict[str, Any]:
    return {**JSONL, **processing(*filters), **more}


def document(*filters: Any, **more: Any) -> dict[str, Any]:
    return {**JSON, **processing(*filters), **more}


JSON_VECTORS = vectors(
    "9.7",
    ("J01", jsonl("$", True), b'{"key":1}\n', fix('{"label":1}'), b'{"SageMakerOutput":{"label":1},"key":1}\n'),
    ("J02", jsonl("$", True), b'{"SageMakerOutput":0}\n', fix("1"), b'{"SageMakerOutput":1}\n'),
    ("J03", jsonl("$", True), b"[1,2]\n", fix("3"), b'{"SageMakerInput":[1,2],"SageMakerOutput":3}\n'),
    ("J04", jsonl("$", True), b'"t"\n', fix('{"y":1}'), b'{"SageMakerInput":"t","SageMakerOutput":{"y":1}}\n'),
    (
        "J05",
        jsonl("$.features", True, "$['id','SageMakerOutput']"),
        b'{"id":9,"features":[1,2]}\n',
        fix('{"s":0.1}'),
        b'{"SageMakerOutput":{"s":0.1},"id":9}\n',
        request_is(b"[1,2]\n"),
    ),
    (
        "J06",
        jsonl("$", True, **MANY),
        b'{"a":1}\n{"a":2}\n',
        ONE,
        b'{"SageMakerOutput":{"y":1},"a":1}\n{"SageMakerOutput":{"y":1},"a":2}\n',
        {"count": 1},
    ),
    (
        "J07",
        jsonl("$", True, **MANY),
        b'{"a":1}\n{"a":2}\n',
        fix('[{"y":1},{"y":2}]'),
        None,
        {"message": "2 records, 1 row"},
    ),
    ("J08", jsonl("$", True), b'{"a":1}\n', fix('{\n "y": 1\n}'), None, {"message": "as JSON"}),
    (
        "J09",
        document("$", True),
        b'{"b":1,"a":{"d":1,"c":2}}',
        fix('{"y": 3}'),
        b'{"SageMakerOutput":{"y":3},"a":{"c":2,"d":1},"b":1}',
    ),
    ("J10", document("$", True), b"[1, 2]", fix('{"y": 3}'), b'{"SageMakerInput":[1,2],"SageMakerOutput":{"y":3}}'),
    (
        "J11",
        document("$", True, **SINGLE, **LINES),
        b'{"feature_A":"t","feature_B":"u"}\n',
        fix('{"predictions": [[0.76]]}'),
        b'{"SageMakerOutput":{"predictions":[[0.76]]},"feature_A":"t","feature_B":"u"}\n',
    ),
    ("J12", document("$", False, "$['class']"), b"{}", fix('{"class":"x","p":1}'), b'"x"', request_is(b"{}")),
    ("J13", jsonl("$", True, "$.id"), b'{"id":7}\n', fix("1"), b"7\n"),
    ("J14", jsonl("$", True, "$.missing"), b'{"id":7}\n', fix("1"), None, {"message": "no member 'missing'"}),
    (
        "J15",
        jsonl("$", True),
        b'{"n":1.0,"m":12345678901234567890}\n',
        fix("1e3"),
        b'{"SageMakerOutput":1e3,"m":12345678901234567890,"n":1.0}\n',
    ),
    (
        "J16",
        jsonl("$", True),
        '{"t":"é"}\n'.encode(),
        fix("1"),
        '{"SageMakerOutput":1,"t":"é"}\n'.encode(),
    ),
    ("J17", jsonl("$", True), b"{bad\n", fix("1"), None, {"message": "Failed to parse input as JSON"}),
    ("J18", jsonl("$.a.['b','c']"), b'{"a":{"b":1,"c":2,"d":3}}\n', TRIM, b'{"b":1,"c":2}\n'),
    (
        "J19",
        {
            "content_type": "text/csv",
            "accept": "application/json",
            **SINGLE,
            **LINES,
            **processing("$[:1]", False, "$['class']"),
        },
        b"a,b,c\n",
        fix('{"class":"x"}'),
        b'"x"\n',
        request_is(b"a,b\n"),
    ),
    ("J20", JSONL, b'{"b": 1}\n', fix('{"z": 1, "a": 2}'), b'{"z": 1, "a": 2}\n'),
)


@pytest.mark.parametrize("vector", JSON_VECTORS)
async def test_json_is_filtered_and_joined(vector: Vector) -> None:
    """Requests and outputs are those of section 9.7."""
    await check(vector)


# -- 9.7, inference ids

STARTED = datetime(2024, 2, 29, 23, 59, 58, 999_999, UTC)
ID = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
TOLD = f'"SageMakerInferenceId":"{ID}","SageMakerInferenceTime":"2024-02-29T23:59:58Z"'
COLUMNS = f"{ID},2024-02-29T23:59:58Z"

TAGGED = [
    ("J21", CSV, b"1\n", fix("0"), f"0,{COLUMNS}\n"),
    ("J21", {**CSV, **processing("$", True)}, b"1\n", fix("0"), f"1,0,{COLUMNS}\n"),
    ("J21", {**CSV, **processing("$", True, "$[1]")}, b"1\n", fix("0"), f"0,{COLUMNS}\n"),
    ("J21", CSV, b"1\n", fix('"a,""b""",2\r\n\r\n3'), f'"a,""b""",2,{COLUMNS}\n3,{COLUMNS}\n'),
    ("J21", CSV, b"1\n", fix('a"b\n'), None),
    ("J21", {**CSV, **MULTI}, b"1\n\n2\n", ECHO, f"1,{COLUMNS}\n2,{COLUMNS}\n"),
    ("J21", {"accept": "text/csv"}, b"\x89PNG", fix("0.5"), f"0.5,{COLUMNS}\n"),
    ("J21", {"accept": "text/csv", "max_payload_bytes": 0}, b"1", fix("7\n8\n"), f"7,{COLUMNS}\n8,{COLUMNS}\n"),
    ("J21", {"accept": "text/csv", **LINES}, b"", fix("7"), ""),
    ("J22", JSONL, b"{}\n", fix('{"output":0}'), f'{{{TOLD},"output":0}}\n'),
    (
        "J22",
        JSONL,
        b"{}\n",
        fix('{"z": 1.50, "S": [2, {"d": 1, "c": 2}]}'),
        f'{{"S":\\[2,{{"c":2,"d":1}}\\],{TOLD},"z":1.50}}\n',
    ),
    ("J22", JSONL, b"{}\n", fix("[1.0, 2]"), f'{{{TOLD},"SageMakerOutput":\\[1.0,2\\]}}\n'),
    ("J22", JSONL, b"{}\n", fix("1\n2\n"), f'{{{TOLD},"SageMakerOutput":1}}\n{{{TOLD},"SageMakerOutput":2}}\n'),
    (
        "J22",
        {**JSONL, **processing("$", True)},
        b'{"k":1}\n',
        fix('{"y":2}'),
        f'{{{TOLD},"SageMakerOutput":{{"y":2}},"k":1}}\n',
    ),
    (
        "J22",
        {**JSONL, **processing("$", True, "$.SageMakerOutput")},
        b'{"k":1}\n',
        fix('{"y":2}'),
        f'{{{TOLD},"y":2}}\n',
    ),
    ("J22", JSON, b'[{"x": 1}]', fix('{\n "y": 1\n}'), f'{{{TOLD},"y":1}}'),
    ("J22", {**JSON, **LINES}, b"[1]", fix('[{"y": 1}]\n'), f'{{{TOLD},"SageMakerOutput":\\[{{"y":1}}\\]}}\n'),
    ("J22", JSON, b"{}", fix("no json"), None),
]


@pytest.mark.parametrize(
    ("settings", "given", "model", "expected"),
    [
        pytest.param(*row, id=f"{name}-{n}", marks=pytest.mark.spec(f"B §9.7 {name}"))
        for n, (name, *row) in enumerate(TAGGED)
    ],
)
async def test_rows_get_ids(settings: dict[str, Any], given: bytes, model: Behaviour, expected: str | None) -> None:
    """Each row of the output has an id of its own and the job's start, in the form of its type; the model sees none."""
    result = await run_job(ids(**settings), model, given, job_start=STARTED)
    if expected is None:
        assert result.failed
        assert result.objects.keys("b", "out/") == []
        return
    assert not result.failed, result.outcome.failures
    output = result.output.decode()
    assert re.fullmatch(expected, output), output
    found = re.findall(ID, output)
    assert len(set(found)) == len(found)
    assert all(re.search(ID, body.decode("latin-1")) is None for body in result.server.bodies)


@pytest.mark.parametrize("accept", ["text/csv", None])
async def test_streamed_objects_are_told_too(accept: str | None) -> None:
    """Objects without a payload limit are reported like all others, streamed through or held for their ids."""
    capture = replace(CAPTURE, generate_inference_id=accept is not None)
    result = await run_job(job(max_payload_bytes=0, accept=accept, capture=capture), ECHO, b"1")
    assert [entry.ref.key for entry in result.committed] == ["in/a.csv"]


async def test_a_retried_request_gets_one_id() -> None:
    """Ids are made when an answer is processed: failed attempts leave none."""
    clock = ManualClock()
    asked = 0

    async def behave(request: ModelRequest) -> ModelReply:
        nonlocal asked
        asked += request.path == "/invocations"
        return ModelReply(b"0", status=503 if asked < 2 else 200)

    result = await run_job(ids(**CSV), behave, b"1\n", clock=clock, driver=patient(clock, 1), job_start=STARTED)
    assert re.fullmatch(f"0,{COLUMNS}\n", result.output.decode())
    assert result.outcome.progress.retries == 1


async def test_ids_alone_leave_requests_as_they_are() -> None:
    """Blank lines are records unless a filter or join is at work, whether rows get ids or not."""
    body = b"1\n\n\r\n2"
    plain = await run_job(job(**{**CSV, **MULTI}), ROWSUM, body)
    tagged = await run_job(ids(**{**CSV, **MULTI}), ROWSUM, body)
    assert plain.server.bodies == tagged.server.bodies == [body]


@pytest.mark.spec("B §9.7 J23")
async def test_committed_objects_are_told_and_listed() -> None:
    """Two objects are told once each after their outputs are there; one that failed is not told."""
    inputs = {"in/a.csv": b"1\n", "in/bad.csv": b"bad\n", "in/b.csv": b"2\n"}
    spec = ids(**CSV)
    result = await run_job(spec, status(400, only=b"bad"), inputs)
    told = sorted(result.committed, key=lambda entry: entry.ref.key)
    assert [entry.ref.key for entry in told] == ["in/a.csv", "in/b.csv"]
    first, second = plan_manifests(
        CAPTURE,
        told,
        output=spec.output,
        arn=sagemaker_arn("transform-job", "j", region="us-east-1"),
        created_at=STARTED,
        job_start=STARTED,
        index=0,
    )
    assert first.ref.key.startswith("captured/input/2024/02/29/23/")
    assert second.ref.key.startswith("captured/output/2024/02/29/23/")
    assert b"".join(iter_manifest(first.groups)) == b'[{"prefix":"s3://b/in/"},"a.csv","b.csv"]'
    assert b"".join(iter_manifest(second.groups)) == b'[{"prefix":"s3://b/out/"},"a.csv.out","b.csv.out"]'


# -- 9.8 failure and retry

NO_RETRIES = {"invocation_max_retries": 0}
TWO = {"in/a.csv": b"1\n2\n", "in/b.csv": b"1\nbad one\n"}


@pytest.mark.spec("B §9.8 F01")
async def test_a_refused_record_fails_its_object_only() -> None:
    """A 400 fails the object it belongs to; the other object has its output; log and reason are SageMaker's."""
    result = await run_job(job(**SINGLE), status(400, "bad", only=b"bad"), TWO)
    assert result.objects.keys("b", "out/") == ["out/a.csv.out"]
    assert result.reason == (
        "ClientError: See job logs for more information. 1 of 2 objects failed; "
        "first: in/b.csv, record 2 at byte 2: HTTP status 400 received from algorithm: bad"
    )
    assert result.texts[1:5] == [
        "b/in/b.csv: ClientError: 400",
        "b/in/b.csv: ",
        "b/in/b.csv: Message:",
        "b/in/b.csv: bad",
    ]


@pytest.mark.spec("B §9.8 F02")
async def test_a_broken_model_is_the_algorithms_fault() -> None:
    """A 500 gives AlgorithmError and its line in the data log."""
    result = await run_job(job(**SINGLE, **NO_RETRIES), status(500, "oops", only=b"bad"), TWO)
    assert result.reason.startswith("AlgorithmError: See job logs for more information")
    assert "b/in/b.csv: Bad HTTP status received from algorithm: 500" in result.texts


def patient(clock: ManualClock, attempts: int, seconds: float = 10.0) -> Callable[[ModelServer], Awaitable[None]]:
    """Drive a clock through the back-off after each of the first attempts: the ticker sleeps, and the back-off."""

    async def drive(server: ModelServer) -> None:
        for attempt in range(1, attempts + 1):
            await server.received(attempt)
            await clock.sleepers(2)
            clock.advance(seconds)

    return drive


@pytest.mark.spec("B §9.8 F03")
async def test_a_model_that_recovers_is_asked_again() -> None:
    """503 twice, then 200: three requests, and the job completes."""
    clock = ManualClock()
    asked = 0

    async def behave(request: ModelRequest) -> ModelReply:
        nonlocal asked
        asked += request.path == "/invocations"
        return ModelReply(b"ok", status=503 if asked < 3 else 200)

    result = await run_job(job(**SINGLE), behave, b"1\n", clock=clock, driver=patient(clock, 2))
    assert result.output == b"ok"
    assert (len(result.server.bodies), result.outcome.progress.retries) == (3, 2)


@pytest.mark.spec("B §9.8 F04")
async def test_without_retries_one_503_fails() -> None:
    """InvocationsMaxRetries 0 means one request."""
    result = await run_job(job(**SINGLE, **NO_RETRIES), status(503), b"1\n")
    assert result.failed
    assert len(result.server.bodies) == 1


@pytest.mark.spec("B §9.8 F05")
async def test_retries_are_bounded() -> None:
    """InvocationsMaxRetries 3 and a model that always answers 500: four requests."""
    clock = ManualClock()
    result = await run_job(job(**SINGLE), status(500), b"1\n", clock=clock, driver=patient(clock, 3))
    assert result.failed
    assert len(result.server.bodies) == 4


@pytest.mark.spec("B §9.8 F06")
async def test_a_client_error_is_not_retried() -> None:
    """A 400 is final: exactly one request, although the object has two records."""
    result = await run_job(job(**SINGLE), status(400), b"1\n2\n")
    assert len(result.server.bodies) == 1


@pytest.mark.spec("B §9.8 F07")
async def test_a_silent_model_is_given_up() -> None:
    """A time-out counts as an attempt; the last one fails the object with its own text."""
    clock = ManualClock()

    async def drive(server: ModelServer) -> None:
        await server.received(1)
        await clock.sleepers(1)
        clock.advance(1.5)  # the first attempt's time is over
        await clock.sleepers(2)
        clock.advance(5)  # the back-off
        await server.received(2)
        await clock.sleepers(1)
        clock.advance(1.5)

    spec = job(**SINGLE, invocation_timeout_seconds=1.0, invocation_max_retries=1)
    result = await run_job(spec, never, b"1\n", clock=clock, driver=drive)
    assert result.reason.startswith("AlgorithmError")
    assert "b/in/a.csv: Model server did not respond to /invocations request within 1 seconds" in result.texts
    assert len(result.server.bodies) == 2


@pytest.mark.spec("B §9.8 F08")
async def test_a_dropped_connection_is_no_answer() -> None:
    """A model that closes the connection gave no answer."""

    async def behave(request: ModelRequest) -> ModelReply:
        return CLOSE if request.path == "/invocations" else ModelReply(status=404)

    result = await run_job(job(**SINGLE, **NO_RETRIES), behave, b"1\n")
    assert "b/in/a.csv: Unable to get response from algorithm" in result.texts
    assert result.reason.startswith("AlgorithmError")


@pytest.mark.spec("B §9.8 F09")
async def test_nothing_of_a_failed_object_is_visible() -> None:
    """The last of 1000 records fails: there is no output, and its writer was aborted (run_job checks that)."""
    data = b"".join(b"%d\n" % number for number in range(1000))
    spec = job(**SINGLE, max_concurrent_transforms=4)
    result = await run_job(spec, status(400, "no", only=b"999"), data)
    assert result.objects.keys("b", "out/") == []
    assert (result.outcome.failures[0].record, result.outcome.failures[0].offset) == (1000, data.index(b"999"))


@pytest.mark.spec("B §9.8 F11")
async def test_the_body_of_a_ping_does_not_matter() -> None:
    """/ping may answer 200 with a newline."""

    async def newline(request: ModelRequest) -> ModelReply:
        return ModelReply(b"\n")

    async with ModelServer(ECHO, ping=newline) as server:
        await wait_until_healthy(server.address, window_seconds=60, clock=SystemClock())
    assert [request.path for request in server.requests] == ["/ping"]


@pytest.mark.spec("B §9.8 F12")
async def test_objects_after_a_failed_one_are_transformed() -> None:
    """The first key fails, the second is transformed."""
    result = await run_job(job(**SINGLE), status(400, only=b"bad"), {"in/a.csv": b"bad\n", "in/b.csv": b"2\n"})
    assert result.objects.keys("b", "out/") == ["out/b.csv.out"]
    assert result.server.bodies == [b"bad\n", b"2\n"]


@pytest.mark.spec("B §9.8 F14")
async def test_a_failed_rerun_leaves_the_old_output() -> None:
    """An output of an earlier run stays as it is when the new run fails."""
    result = await run_job(job(**SINGLE), status(400), b"1\n", before={"out/a.csv.out": b"old"})
    assert result.failed
    assert result.output == b"old"


# -- 9.9 container contract


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("Content-Type", "text/csv", marks=pytest.mark.spec("B §9.9 E05"), id="E05-content-type"),
        pytest.param("Accept", "application/json", marks=pytest.mark.spec("B §9.9 E05"), id="E05-accept"),
        pytest.param("Content-Type", None, marks=pytest.mark.spec("B §9.9 E06"), id="E06-content-type"),
        pytest.param("Accept", None, marks=pytest.mark.spec("B §9.9 E06"), id="E06-accept"),
    ],
)
async def test_types_are_sent_with_every_request(name: str, value: str | None) -> None:
    """ContentType and Accept go out with every request as given; what is not set is not sent."""
    spec = job(**SINGLE, **LINES)
    if value is not None:
        spec = replace(spec, content_type="text/csv", accept="application/json")
    result = await run_job(spec, header(name), b"1\n2\n")
    assert result.output == f"{value or '-'}\n".encode() * 2


@pytest.mark.spec("B §9.9 E09")
async def test_calls_come_in_order() -> None:
    """/ping until 200, /execution-parameters once, then /invocations."""
    result = await run_job(job(**SINGLE), ECHO, b"1\n2\n")
    paths = [request.path for request in result.server.requests]
    assert paths == ["/ping", "/execution-parameters", "/invocations", "/invocations"]


@pytest.mark.spec("B §9.9 E11")
async def test_the_data_log_begins_with_the_effective_settings() -> None:
    """The first line tells the effective settings, with the time before it."""
    result = await run_job(job(), ECHO, b"1", clock=ManualClock())
    assert result.log[0] == (
        "2020-01-01T00:00:00.000:[sagemaker logs]: "
        "MaxConcurrentTransforms=1, MaxPayloadInMB=6, BatchStrategy=MULTI_RECORD"
    )


@pytest.mark.spec("B §9.9 E12")
async def test_the_containers_concurrency_is_used_and_kept() -> None:
    """With 8 from /execution-parameters, 8 requests are in flight and never more."""
    eight = asyncio.Event()
    waiting = 0

    async def behave(request: ModelRequest) -> ModelReply:
        nonlocal waiting
        if request.path != "/invocations":
            return ModelReply(b'{"MaxConcurrentTransforms":8}')
        waiting += 1
        if waiting == 8:
            eight.set()
        await eight.wait()
        return ModelReply(request.body)

    data = b"".join(b"%d\n" % number for number in range(100))
    result = await run_job(job(**SINGLE), behave, data)
    assert result.output == data
    assert result.server.most_in_flight == 8


@pytest.mark.spec("B §9.9 E13")
async def test_a_job_reads_the_output_of_another() -> None:
    """Many lines per request give one JSON line for each request; a second job takes these one by one."""
    objects = MemoryObjects()

    async def project(request: ModelRequest) -> ModelReply:
        if request.path != "/invocations":
            return ModelReply(status=404)
        rows = [{"projection": [float(it) for it in line.split(b",")]} for line in request.body.split()]
        return ModelReply(json.dumps({"projections": rows}).encode())

    async def count(request: ModelRequest) -> ModelReply:
        if request.path != "/invocations":
            return ModelReply(status=404)
        return ModelReply(json.dumps({"rows": len(json.loads(request.body)["projections"])}).encode())

    lines_of_csv = {**MULTI, **LINES, **ONE_MB, "content_type": "text/csv", "accept": "application/json"}
    made = ObjectPrefix("b", "made")
    first = job(**lines_of_csv, source=ObjectPrefix("b", "in/test.csv"), output=made)
    await run_job(first, project, {"in/test.csv": b"0.5,1.25\n" * 150_000}, objects=objects)
    assert len(objects.data("s3://b/made/test.csv.out").splitlines()) == 2
    chained = {**SINGLE, **LINES, "content_type": "application/json", "accept": "application/json"}
    await run_job(job(**chained, source=made), count, {}, objects=objects)
    answers = [json.loads(line) for line in objects.data("s3://b/out/test.csv.out.out").splitlines()]
    assert [it["rows"] for it in answers] == [116_508, 33_492]


async def test_no_input_is_no_failure() -> None:
    """A prefix under which only folder markers lie gives a job that completes with no output."""
    result = await run_job(job(), ECHO, {"in/": b"", "in/x/": b""})
    assert await list_inputs(result.objects, job()) == []
    assert not result.failed
