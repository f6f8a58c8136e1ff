"""Send one record of a job to its container and tell what was sent, what came back and what would be written."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from typing import Any

from millrace.clock import Clock
from millrace.dataplane.answer_text import whole_text
from millrace.dataplane.assemble import assemble
from millrace.dataplane.bad_records import halves
from millrace.dataplane.chain_failures import FAILURE_HEADER, failure_in_place
from millrace.dataplane.client import Answer, Client, ClientError
from millrace.dataplane.execution_parameters import EffectiveSettings
from millrace.dataplane.formats.unreadable import UNREADABLE
from millrace.dataplane.inputs import Inputs
from millrace.dataplane.limits import Limits
from millrace.dataplane.payload import Payload, UnusableRecord
from millrace.dataplane.plan import InputObject
from millrace.dataplane.processing import RecordError
from millrace.dataplane.progress import Counters
from millrace.dataplane.reading import ObjectReader
from millrace.dataplane.retry import failure_of_status
from millrace.dataplane.rules import PATH, Rules
from millrace.errors import ClientFailure
from millrace.jobs.transform import MIB, InstanceOutcome, Progress, TransformSpec
from millrace.jobs.transform_options import JobOptions
from millrace.names import ObjectRef
from millrace.ports.objects import NoSuchBucket, NoSuchKey, ObjectStore, ObjectUnreadable
from millrace.ports.runtime import Address
from millrace.told import printable

__all__ = ["SHOWN_BYTES", "DryRun", "shown"]

SHOWN_BYTES = 4096
"""Of a body as much is shown; a longer one is cut, and that is told."""

SHOWN_BINARY = 512
"""The same for bytes that are no text, which take three times the room."""

MAX_RECORD_BYTES = 100 * MIB
"""Longest record that is sent where payloads have no limit: it is held whole here."""


class DryRun:
    """A data plane that sends one record and writes nothing; `lines` tell what happened, for people.

    `told` says an object's name as the person who asked knows it. `taken` is whether the record has its output.
    """

    def __init__(self, told: Callable[[ObjectRef], str]) -> None:
        self._told = told
        self.lines: list[str] = []
        self.taken = False

    async def run(
        self,
        spec: TransformSpec,
        inputs: Inputs,
        *,
        options: JobOptions,
        objects: ObjectStore,
        address: Address,
        effective: EffectiveSettings,
        clock: Clock,
        limits: Limits,
        stop: asyncio.Event,
        **_: Any,
    ) -> InstanceOutcome:
        """Do what `run_transform` would do to the first record; a stop drops the request.

        Raises:
            ClientFailure: The first object cannot be read, or no payload can be formed of it.
        """
        rules = Rules(spec, effective=effective, options=options, limits=limits, address=address, job_start=clock.now())
        trying = asyncio.create_task(self._try_first(rules, inputs, objects, address))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({trying, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if trying.done():
                trying.result()
        finally:
            for task in (trying, stopping):
                task.cancel()
            await asyncio.wait({trying, stopping})
        progress = Progress(objects_total=inputs.objects, listed=inputs.is_complete)
        return InstanceOutcome(progress=progress, stopped=stop.is_set())

    async def _try_first(self, rules: Rules, inputs: Inputs, objects: ObjectStore, address: Address) -> None:
        while entries := await inputs.take():
            for entry in entries:
                if await self._try_object(rules, entry, objects, address):
                    return

    async def _try_object(self, rules: Rules, entry: InputObject, objects: ObjectStore, address: Address) -> bool:
        """Send the first record of an object; False if there is none."""
        reader = ObjectReader(
            objects, entry, formats=rules.formats, chunk_bytes=rules.limits.chunk_bytes, counters=Counters()
        )
        try:
            payload = await _first_record(rules, reader)
        except (*UNREADABLE, NoSuchKey, NoSuchBucket, ObjectUnreadable, UnusableRecord, RecordError) as exc:
            raise ClientFailure(f"{self._told(entry.ref)}: {exc}") from exc
        if payload is not None:
            await self._try(rules, entry, reader, payload, address)
        return payload is not None

    async def _try(
        self, rules: Rules, entry: InputObject, reader: ObjectReader, payload: Payload, address: Address
    ) -> None:
        self.lines += [f"settings: {rules.effective}", "", f"record {payload.record} of {self._told(entry.ref)}"]
        body = payload.joined()
        self.lines += _request_lines(rules, body)
        timeout = rules.spec.invocation_timeout_seconds
        content = _once(body) if rules.chunked else body
        async with Client(address) as client:
            try:
                answer = await client.invoke(
                    "POST",
                    PATH,
                    rules.headers,
                    content,
                    timeout_seconds=timeout,
                    max_answer_bytes=rules.limits.answer_bytes,
                )
            except ClientError as exc:
                self.lines += ["", f"no answer: {exc}"]
                return
        absence = _absence(answer, timeout_seconds=timeout)
        self.lines += ["", *(_answer_lines(answer) if absence is None else [f"no answer: {absence}"])]
        if not 200 <= answer.status < 300:
            return
        try:
            text = _written(rules, reader, payload, answer.body)
        except (RecordError, *UNREADABLE) as exc:
            self.lines += ["", f"the answer can't be written: {exc}"]
            return
        self.taken = True
        table = f", as rows of the {rules.formats.options.output_format} table" if rules.formats.writes_tables else ""
        self.lines += ["", f"output, first of {self._told(entry.output)}{table}:", *shown(text)]


async def _first_record(rules: Rules, reader: ObjectReader) -> Payload | None:
    """Return the first record of an object that would be sent, as a payload of its own; None if there is none."""
    limit = rules.effective.max_payload_bytes or MAX_RECORD_BYTES
    former = rules.formats.former(rules.effective.strategy, limit, reader.header)
    async with aclosing(reader.chunks()) as chunks:
        async for chunk in chunks:
            former.feed(chunk)
            while (payload := former.take()) is not None:
                if (record := _sendable(rules, reader, payload)) is not None:
                    return record
            if rules.splits and former.buffered > limit + rules.limits.chunk_bytes:
                break
            if not rules.splits and former.buffered > limit:
                raise ClientFailure(f"the object must have at most {limit} bytes to be one payload")
    former.finish()
    while (payload := former.take()) is not None:
        if (record := _sendable(rules, reader, payload)) is not None:
            return record
    return None


def _sendable(rules: Rules, reader: ObjectReader, payload: Payload) -> Payload | None:
    """Return the first record of a payload that the filters leave something of, ready to send."""
    for record in _records(rules, payload):
        if rules.processing is not None and not rules.processing.prepare(record):
            continue
        if reader.header is not None:
            reader.header.prefix(record)
        return record
    return None


def _records(rules: Rules, payload: Payload) -> Iterator[Payload]:
    """Yield the records of a payload, each as a payload of its own, as bad records are found."""
    waiting = [payload]
    while waiting:
        first = waiting.pop()
        parts = [first]
        if first.records > 1:
            quoted = rules.formats.keeps_quoted_newlines
            parts = halves(first, first.joined(), rules.spec.split, quoted_newlines=quoted)
        if len(parts) == 1:
            yield parts[0]
        else:
            waiting += reversed(parts)


def _written(rules: Rules, reader: ObjectReader, payload: Payload, answer: bytes) -> bytes:
    """Return what an output that begins with this answer begins with."""
    if rules.counts_rows is not None:
        rules.counts_rows(payload, answer)
    elif rules.rewrites and rules.processing is not None:
        answer = whole_text(rules.processing.complete(payload, answer))
    begin = rules.formats.output_start(reader.header)
    return begin + b"".join(bytes(part) for part in assemble([answer], rules.line_end))


def _absence(answer: Answer, *, timeout_seconds: float) -> str | None:
    """Return why a container of a chain has no answer, if the chain says so; None for an answer."""
    told, why = failure_of_status(answer.status), answer.header(FAILURE_HEADER.decode())
    if told is None or why is None:
        return None
    failure = failure_in_place(told, why.encode(), timeout_seconds=timeout_seconds)
    return None if failure is told else printable(f"{failure.message}: {answer.body.decode('utf-8', 'replace')}")


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _request_lines(rules: Rules, body: bytes) -> list[str]:
    head = rules.head if rules.chunked else b"%b%d\r\n\r\n" % (rules.head, len(body))
    return ["", *(f"> {line}" for line in head.decode("latin-1").rstrip().split("\r\n")), *shown(body)]


def _answer_lines(answer: Answer) -> list[str]:
    headers = [printable(f"< {name}: {value}") for name, value in answer.headers]
    return [f"< status {answer.status}", *headers, *shown(answer.body)]


def shown(body: bytes) -> list[str]:
    """Return the lines that show a body: text as it is, control characters escaped, other bytes in hexadecimal."""
    part = body[:SHOWN_BYTES]
    try:
        text = part.decode()
    except UnicodeDecodeError as exc:
        if len(body) == len(part) or exc.start < len(part) - 3:  # else it is cut in the middle of a character
            part = body[:SHOWN_BINARY]
            rows = [part[at : at + 32].hex(" ") for at in range(0, len(part), 32)]
            return [*(f"  {row}" for row in rows), *_rest(len(body) - len(part))]
        part = part[: exc.start]
        text = part.decode()
    lines = [f"  {printable(line)}" for line in text.removesuffix("\n").split("\n")]
    return [*(lines if body else ["  (empty)"]), *_rest(len(body) - len(part))]


def _rest(size: int) -> list[str]:
    return [f"  ... and {size} bytes more"] if size > 0 else []
