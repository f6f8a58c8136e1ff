"""`millrace transform --explain`: tell what a transform would do, and what people have stumbled over in its like."""

from collections.abc import Iterator, Sequence

from millrace.commands.local_transform import LocalTransform
from millrace.dataplane.formats.job import JobFormats
from millrace.dataplane.jsonpath import Format, format_of
from millrace.dataplane.plan import InputObject, list_inputs
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
        f"model: {', '.join(container.image for container in local.containers)}, one instance; not started",
        *[f"warning: {text}" for text in pitfalls(spec, inputs)],
    ]


def _objects(local: LocalTransform, inputs: Sequence[InputObject]) -> Iterator[str]:
    yield f"{len(inputs)} objects, {_size(sum(entry.size for entry in inputs))} as stored"
    for entry in inputs[:SHOWN_OBJECTS]:
        refused = f"  refused: {entry.refused}" if entry.refused else ""
        yield f"  {local.told(entry.ref)} ({_size(entry.size)}) -> {local.told(entry.output)}{refused}"
    rest = inputs[SHOWN_OBJECTS:]
    if rest:
        yield f"  and {len(rest)} more, {_size(sum(entry.size for entry in rest))}"


def _size(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"


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
    accept, content = format_of(spec.accept), format_of(spec.content_type)
    single = spec.strategy is BatchStrategy.SINGLE_RECORD
    if content == Format.JSON and splits and not single:
        yield (
            "application/json with SplitType Line and MultiRecord sends several documents in one body, one on a line; "
            "a model that parses one document fails on them: use SingleRecord, or application/jsonlines"
        )
    if accept == Format.JSON and splits and spec.assemble_with is AssembleWith.NONE and spec.processing.is_identity:
        yield "AssembleWith None puts JSON answers behind each other with nothing between; use Line"
    if splits and spec.assemble_with is AssembleWith.NONE and accept == Format.CSV and single:
        yield "AssembleWith None adds no line feed: rows run together unless the model ends each answer with one"
    if splits and spec.assemble_with is AssembleWith.LINE and not single and spec.processing.is_identity:
        yield (
            "AssembleWith Line adds a line feed behind each answer: if the model ends its answers with one, there is an "
            "empty line between payloads"
        )
    if not splits and spec.strategy is BatchStrategy.MULTI_RECORD:
        yield "BatchStrategy says nothing without a SplitType: each object is one request"
    if not splits:
        limit = DEFAULT_MAX_PAYLOAD_BYTES if spec.max_payload_bytes is None else spec.max_payload_bytes
        large = sum(1 for entry in inputs if limit and entry.size > limit)
        if large:
            yield f"{large} of {len(inputs)} objects are larger than MaxPayloadInMB and will fail, since they are not split"
    if splits and content == Format.CSV and "MILLRACE_CSV_HEADER" not in spec.environment:
        yield "a header line of CSV is sent as a record; MILLRACE_CSV_HEADER (--csv-header) says what to do with it"
    yield from _place_pitfalls(spec, inputs)


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
