"""Settle once how an instance's share of a transform job is run: what the transform loop asks again and again. Pure."""

from collections.abc import Callable
from datetime import datetime

from millrace.dataplane.answer_lines import may_tell_rows
from millrace.dataplane.assemble import LineEnd
from millrace.dataplane.autotune_settings import AutotuneSettings
from millrace.dataplane.client import Headers, request_head
from millrace.dataplane.execution_parameters import EffectiveSettings
from millrace.dataplane.formats.absent_rows import ABSENT_ROW
from millrace.dataplane.formats.answer_rows import AnswerRows
from millrace.dataplane.formats.header import HeaderLine
from millrace.dataplane.formats.job import JobFormats
from millrace.dataplane.job_filters import input_filter
from millrace.dataplane.limits import Limits
from millrace.dataplane.long_records import PassingOver
from millrace.dataplane.payload import NoPayloads, Payload, PayloadFormer, PayloadTooLarge
from millrace.dataplane.placeholders import counts_rows, placeholder
from millrace.dataplane.plan import InputObject
from millrace.dataplane.processing import Processing
from millrace.dataplane.tuning import tuning_settings
from millrace.dataplane.widening import PlaceholderRow, Widening
from millrace.jobs.transform import AssembleWith, BatchStrategy, SplitType, TransformSpec
from millrace.jobs.transform_options import Autotune, JobOptions, OnError
from millrace.ports.objects import ObjectMeta
from millrace.ports.runtime import Address

__all__ = ["PATH", "Rules", "output_meta"]

PATH = "/invocations"


def output_meta(spec: TransformSpec) -> ObjectMeta:
    """Return what is attached to an output object.

    Source:
        batch-transform.md 5.1: Accept as its type, else application/octet-stream; KmsKeyId as SSE-KMS.
    """
    headers = {"content-type": spec.accept or "application/octet-stream"}
    if spec.output_kms_key:
        headers["x-amz-server-side-encryption"] = "aws:kms"
        headers["x-amz-server-side-encryption-aws-kms-key-id"] = spec.output_kms_key
    return ObjectMeta(headers=headers)


class Rules:
    """What follows from a job's settings; nothing of it changes while the job runs."""

    def __init__(
        self,
        spec: TransformSpec,
        *,
        effective: EffectiveSettings,
        options: JobOptions,
        limits: Limits,
        address: Address,
        job_start: datetime,
        autotune: AutotuneSettings | None = None,
        tells_rows: bool = False,
    ) -> None:
        self.spec = spec
        self.effective = effective
        self.options = options
        self.limits = limits
        if autotune is None and options.autotune is Autotune.THROUGHPUT:
            autotune = tuning_settings(spec, effective, limits)
        self.autotune = autotune
        """The bounds of the search for concurrency and payload size, None if those stay as they are."""
        self.formats = JobFormats(spec)
        self.processing: Processing | AnswerRows | None = self.formats.processing(job_start)
        self.rewrites = self.processing is not None and self.processing.rewrites_answers
        """Whether answers are not written as they are."""
        self.filters_input = self.processing is not None and not input_filter(spec).is_identity
        """Whether what is sent is made of the records, which are held for the answer, and can be made again."""
        self.isolates = options.on_error is not OnError.FAIL
        """Whether bad records are found and left out."""
        self.counts_rows: Callable[[Payload, bytes], None] | None = None
        """Raises RecordError if an answer has not a row for each record, where somebody wants that."""
        if options.strict_counts and not self.rewrites:
            self.counts_rows = counts_rows(spec, quoted_newlines=self.formats.keeps_quoted_newlines)
        self.line_end = LineEnd.NOTHING
        if spec.assemble_with is AssembleWith.LINE and not self.rewrites:
            self.line_end = LineEnd.WHERE_MISSING if options.on_error is OnError.SKIP else LineEnd.ALWAYS
        meta = output_meta(spec)
        self.meta = ObjectMeta(headers={**meta.headers, **self.formats.output_headers()})
        self.headers: Headers = [
            (name, value) for name, value in (("Content-Type", spec.content_type), ("Accept", spec.accept)) if value
        ]
        self.chunked = effective.max_payload_bytes == 0
        """Whether bodies have no limit, and are sent chunked."""
        framing = b"Transfer-Encoding: chunked\r\n\r\n" if self.chunked else b"Content-Length: "
        self.head = request_head("POST", PATH, address, self.headers) + framing
        self.tells_rows = (tells_rows or options.report) and may_tell_rows(spec)
        """Whether lines of outputs are counted as rows."""
        self.splits = spec.split is not SplitType.NONE
        self.streams = (
            self.chunked
            and self.processing is None
            and not self.isolates
            and autotune is None
            and options.range_bytes is None
            and self.counts_rows is None
            and not (self.splits and effective.strategy is BatchStrategy.SINGLE_RECORD)
        )
        """Whether objects are streamed through whole, and nothing of them is held."""
        self.leaves_out_whole_objects = not self.splits and options.on_error is OnError.QUARANTINE
        """Whether an object that is one record has no output if that is bad."""
        self.commits_parts = self.splits and not self.streams
        """Whether outputs are committed in parts; those of objects that are one payload are one piece."""
        self.writes_small = not (self.splits or self.streams or self.isolates) and self.formats.is_plain
        """Whether an object's output is the answer to its one payload, and nothing else is written for it."""
        many = self.splits and effective.strategy is BatchStrategy.MULTI_RECORD
        self.read_ahead = limits.read_ahead_chunks * limits.chunk_bytes + (effective.max_payload_bytes if many else 0)

    def reads_as_stored(self, entry: InputObject) -> bool:
        """Return whether an object's records are its stored bytes, so that its size says how long they are."""
        return not self.formats.reads_tables and self.formats.codec(entry.ref.key) is None

    def reads_small(self, entry: InputObject) -> bool:
        """Return whether an object, of a job that `writes_small`, is one small payload."""
        limit = self.effective.max_payload_bytes
        return (
            0 < entry.size <= self.limits.small_object_bytes
            and not 0 < limit < entry.size
            and (self.formats.codec(entry.ref.key) is None)
        )

    def prepare_again(self, payload: Payload, header: HeaderLine | None) -> None:
        """Make the body of a payload again as it was sent."""
        assert self.processing is not None, "it is made of the payload's records"
        payload.body = payload.raw
        self.processing.prepare(payload)
        if header is not None:
            header.prefix(payload)

    def passing_over(self, former: PayloadFormer, error: PayloadTooLarge, header: HeaderLine | None) -> PassingOver:
        """Return what takes the place of a former that came to a record which is too long."""
        formats, effective = self.formats, self.effective

        def follow(record: int, offset: int) -> PayloadFormer:
            if not self.splits:
                return NoPayloads((record - 1, offset))
            return formats.former(effective.strategy, effective.max_payload_bytes, header, (record, offset))

        return PassingOver(error, formats.record_end(error.record, error.offset), former.rest(), follow=follow)

    def placeholder(self, record: bytes | None) -> bytes | None:
        """Return what is written for a bad record, which is None if it is not held; None if nothing is."""
        if self.options.on_error is not OnError.SKIP:
            return ABSENT_ROW + b"\n" if self.formats.joins_tables else None
        if not self.rewrites or self.processing is None:
            return placeholder(self.spec)
        row = self.processing.placeholder(record)
        return row if record is None or not self._widens else PlaceholderRow.of(record, row)

    @property
    def _widens(self) -> bool:
        joins = isinstance(self.processing, Processing) and self.processing.joins_csv
        return joins and self.options.on_error is OnError.SKIP

    def widening(self) -> Widening | None:
        """Return what makes the rows of one object equally wide; None if they are, or are no rows of CSV."""
        processing = self.processing
        if not self._widens or not isinstance(processing, Processing):
            return None
        named = len(self.formats.options.output_columns) or None
        return Widening(processing.placeholder, processing.width, columns=named)
