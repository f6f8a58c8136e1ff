"""`millrace transform --explain`: tell what a transform would do, and what people have stumbled over in its like."""

from collections.abc import Iterator, Sequence

from millrace.commands.explain_shares import explain_shares
from millrace.commands.local_transform import LocalTransform
from millrace.commands.sizes import counted, told_size
from millrace.dataplane.formats.job import JobFormats
from millrace.dataplane.jsonpath import Format, format_of
from millrace.dataplane.listing import list_inputs
from millrace.dataplane.plan import InputObject
from millrace.jobs.transform import (
    DEFAULT_MAX_PAYLOAD_BYTES,
    MIB,
    AssembleWith,
    BatchStrategy,
    SourceType,
    SplitType,
    TransformSpec,
)
from millrace.names import ObjectPrefix

__all__ = ["expected_requests", "explain_lines", "pitfalls"]

SHOWN_OBJECTS = 20

_TABLE_ENDS = {"parquet": (".parquet", ".pq"), "arrow": (".arrow", ".feather")}

_PACKED_ENDS = (".gz", ".gzip", ".zst", ".zstd")

LOOKED_AT_BYTES = 64 * 1024
"""Of the first object as much is read, to see whether it has a header."""


async def explain_lines(local: LocalTransform) -> list[str]:
    """Return the plan as lines of text.

    Raises:
        ClientFailure: The objects can't be listed, or two have one output.
    """
    spec = local.spec
    inputs = await list_inputs(local.objects, spec)
    return [
        *_objects(local, inputs),
        "",
        *_settings(spec),
        "",
        _requests(spec, inputs),
        *explain_shares(local, inputs),
        _model(local),
        *[f"warning: {text}" for text in pitfalls(spec, inputs)],
        *await _header_warning(local, inputs),
    ]


async def _header_warning(local: LocalTransform, inputs: Sequence[InputObject]) -> list[str]:
    """Return a warning if the first object seems to begin with a header that would be sent as a record."""
    spec, formats = local.spec, JobFormats(local.spec)
    plain = spec.split is SplitType.LINE and format_of(spec.content_type) == Format.CSV
    if not plain or not inputs or formats.options.csv_header is not None:
        return []
    first = inputs[0]
    if formats.reads_tables or formats.codec(first.ref.key) is not None:
        return []
    begin = b"".join([chunk async for chunk in local.objects.read(first.ref, length=LOOKED_AT_BYTES)])
    if not seems_headed(begin):
        return []
    return [
        f"warning: {local.told(first.ref)} seems to begin with a header, which would be sent as a record; "
        "--csv-header skip (or repeat) says what to do with it"
    ]


def seems_headed(begin: bytes) -> bool:
    """Return whether CSV that begins so seems to have a header: no number in its first line, some in its second."""
    lines = begin.split(b"\n", 2)
    if len(lines) < 2:
        return False
    first, second = ([_is_number(field) for field in line.split(b",")] for line in lines[:2])
    return len(first) == len(second) and not any(first) and any(second)


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _model(local: LocalTransform) -> str:
    count = local.spec.instance_count
    instances = "one instance" if count == 1 else f"{count} instances"
    return f"model: {', '.join(container.image for container in local.containers)}, {instances}; not started"


def _objects(local: LocalTransform, inputs: Sequence[InputObject]) -> Iterator[str]:
    yield f"{counted(len(inputs), 'object')}, {told_size(sum(entry.size for entry in inputs))} as stored"
    for entry in inputs[:SHOWN_OBJECTS]:
        refused = f"  refused: {entry.refused}" if entry.refused else ""
        yield f"  {local.told(entry.ref)} ({told_size(entry.size)}) -> {local.told(entry.output)}{refused}"
    rest = inputs[SHOWN_OBJECTS:]
    if rest:
        yield f"  and {len(rest)} more, {told_size(sum(entry.size for entry in rest))}"


def _settings(spec: TransformSpec) -> Iterator[str]:
    asked = "asked from the container at its start, else"
    concurrency, payload, strategy = spec.max_concurrent_transforms, spec.max_payload_bytes, spec.strategy
    yield f"SplitType={spec.split}, AssembleWith={spec.assemble_with}, CompressionType={spec.compression}"
    yield f"ContentType={spec.content_type or 'none is sent'}, Accept={spec.accept or 'none is sent'}"
    yield f"MaxConcurrentTransforms={f'{concurrency}' if concurrency else f'{asked} 1'}"
    default = f"{asked} {DEFAULT_MAX_PAYLOAD_BYTES // MIB}"
    yield f"MaxPayloadInMB={default if payload is None else payload // MIB}"
    yield f"BatchStrategy={strategy or f'{asked} {BatchStrategy.MULTI_RECORD}'}"
    processing = spec.processing
    if not processing.is_identity:
        yield (
            f"InputFilter={processing.input_filter}, OutputFilter={processing.output_filter}, "
            f"JoinSource={processing.join_source}"
        )
    for name, value in sorted(spec.environment.items()):
        if name.startswith("MILLRACE_"):
            yield f"{name}={value}"


def expected_requests(spec: TransformSpec, inputs: Sequence[InputObject]) -> int | None:
    """Return how many requests there will be at least; None if only the records could tell."""
    if spec.split is SplitType.NONE:
        return len(inputs)
    if spec.strategy is BatchStrategy.SINGLE_RECORD:
        return None
    limit = DEFAULT_MAX_PAYLOAD_BYTES if spec.max_payload_bytes is None else spec.max_payload_bytes
    if not limit:
        return len(inputs)
    return sum(max(1 if entry.size else 0, -(-entry.size // limit)) for entry in inputs)


def _requests(spec: TransformSpec, inputs: Sequence[InputObject]) -> str:
    count = expected_requests(spec, inputs)
    if count is None:
        return "requests: one for each record"
    if spec.split is SplitType.NONE:
        return f"requests: {count}, one for each object"
    formats = JobFormats(spec)
    stored = not formats.reads_tables and all(formats.codec(entry.ref.key) is None for entry in inputs)
    known = spec.strategy is not None and spec.max_payload_bytes is not None
    about = "" if known else " with the settings' defaults"
    more = "" if stored else "; more, as the objects are compressed or tables"
    return f"requests: about {count}{about}{more}"


def pitfalls(spec: TransformSpec, inputs: Sequence[InputObject]) -> Iterator[str]:
    """Yield a sentence for each thing in a request that is allowed, and seldom meant."""
    splits = spec.split is not SplitType.NONE
    single = spec.strategy is BatchStrategy.SINGLE_RECORD
    if format_of(spec.content_type) == Format.JSON and splits and not single:
        yield (
            "application/json with SplitType Line and MultiRecord sends several documents in one body, one on a line; "
            "a model that parses one document fails on them: use SingleRecord, or application/jsonlines"
        )
    if spec.split is SplitType.LINE and spec.assemble_with is AssembleWith.NONE and spec.processing.is_identity:
        yield (
            "SplitType is Line, AssembleWith None: no line feed is put between answers, and rows run together unless "
            "the model ends each answer with one; AssembleWith Line goes with SplitType Line"
        )
    if not splits and spec.strategy is BatchStrategy.MULTI_RECORD:
        yield "BatchStrategy says nothing without a SplitType: each object is one request"
    if not splits:
        limit = DEFAULT_MAX_PAYLOAD_BYTES if spec.max_payload_bytes is None else spec.max_payload_bytes
        large = sum(1 for entry in inputs if limit and entry.size > limit)
        if large:
            yield f"{large} of {len(inputs)} objects are larger than MaxPayloadInMB and fail: they are not split"
    if spec.content_type and not spec.accept:
        yield "ContentType is given, Accept is not: the model chooses the type of its answers"
    yield from _format_pitfalls(spec, inputs)
    yield from _place_pitfalls(spec, inputs)


def _format_pitfalls(spec: TransformSpec, inputs: Sequence[InputObject]) -> Iterator[str]:
    """Yield a sentence where names tell that objects are not the lines of text that they are taken for."""
    formats = JobFormats(spec)
    if spec.split is not SplitType.LINE or formats.reads_tables:
        return
    for table, ends in _TABLE_ENDS.items():
        if names := [entry.ref.key for entry in inputs if entry.ref.key.lower().endswith(ends)]:
            yield f"{names[0]} is called like a table; --input-format {table} has its rows sent, not its bytes as lines"
    packed = [entry.ref.key for entry in inputs if entry.ref.key.lower().endswith(_PACKED_ENDS)]
    unpacked = [key for key in packed if formats.codec(key) is None]
    if unpacked:
        yield f"{unpacked[0]} is called like a compressed object; --input-compression auto goes by the end of each name"


def _place_pitfalls(spec: TransformSpec, inputs: Sequence[InputObject]) -> Iterator[str]:
    source, output = spec.source, spec.output
    if not inputs:
        yield "no object matches the input: the transform would end at once"
    if spec.source_type is SourceType.PREFIX:
        if source.prefix and not source.prefix.endswith("/"):
            strangers = [entry for entry in inputs if not _below(entry.ref.key, source.prefix)]
            if strangers:
                yield (
                    f"the input is a prefix, not a folder: it takes {strangers[0].ref.key} too; "
                    f"end it with / to take the folder {source.prefix}/ only"
                )
        if output.bucket == source.bucket and _folder(output).startswith(source.prefix):
            yield "the output is below the input prefix: the next run reads this one's outputs as input"
    done = sum(1 for entry in inputs if entry.ref.key.endswith((".out", ".errors.jsonl")))
    if done:
        yield f"{done} of the input's objects look like outputs of an earlier transform (.out, .errors.jsonl)"
    other = sum(1 for entry in inputs if entry.ref.key.rpartition("/")[2].startswith((".", "_")))
    if other:
        yield f"{other} of the input's objects have names that start with . or _, and are sent like the others"
    empty = sum(1 for entry in inputs if not entry.size)
    if empty:
        yield f"{empty} of the input's objects are empty"


def _below(key: str, prefix: str) -> bool:
    return key == prefix or key.startswith(f"{prefix}/")


def _folder(output: ObjectPrefix) -> str:
    return output.prefix.rstrip("/") + "/" if output.prefix else ""
