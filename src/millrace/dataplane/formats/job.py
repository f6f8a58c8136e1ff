"""Decide once per job how its objects are read and its outputs written: the one thing that the transform loop asks.

What needs pyarrow is imported when it is first used: the import takes a fifth of a second and an extra that few jobs
need.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from datetime import datetime
from functools import partial

from millrace.dataplane.batch import payload_former, record_end
from millrace.dataplane.csv_records import PLACEHOLDER_ROW, CsvRecordCount
from millrace.dataplane.formats.answer_rows import AnswerRows
from millrace.dataplane.formats.checks import check_formats, joins_tables
from millrace.dataplane.formats.compress import encoder_of
from millrace.dataplane.formats.csv_payloads import csv_payload_former
from millrace.dataplane.formats.decompress import codec_of, decompressed
from millrace.dataplane.formats.header import CountBehindHeader, HeaderedPayloads, HeaderLine, without_header
from millrace.dataplane.formats.kept_rows import Rows
from millrace.dataplane.formats.options import Codec, CsvHeader, FormatOptions, TableForm, format_options
from millrace.dataplane.formats.output_names import row_names
from millrace.dataplane.formats.writers import EncodedWriter, KeptText, KeptTextWriter, encoded
from millrace.dataplane.job_filters import input_filter
from millrace.dataplane.jsonpath import Format, format_of
from millrace.dataplane.long_records import CsvEnd, RecordEnd
from millrace.dataplane.payload import BEGINNING, PayloadFormer
from millrace.dataplane.processing import Processing, processing_of
from millrace.dataplane.record_count import RecordCount, record_count
from millrace.dataplane.record_scan import CsvScan, FrameScan, RecordScan
from millrace.dataplane.rows import serialize_csv
from millrace.dataplane.split import FRAMINGS
from millrace.jobs.transform import BatchStrategy, JoinSource, TransformSpec
from millrace.names import ObjectRef
from millrace.ports.objects import ObjectInfo, ObjectStore, ObjectWriter

__all__ = ["JobFormats"]

_TABLE_TYPES: Mapping[TableForm, str] = {
    TableForm.PARQUET: "application/vnd.apache.parquet",
    TableForm.ARROW: "application/vnd.apache.arrow.file",
}


def _ignore(_: object) -> None:
    """Take what nobody wants to know."""


class JobFormats:
    """The formats of one job; `options` that ask for nothing leave everything as it is without them."""

    def __init__(self, spec: TransformSpec, options: FormatOptions | None = None) -> None:
        """Read the options of the job's Environment, and check them; raises ValidationError."""
        self.options = format_options(spec.environment) if options is None else options
        check_formats(spec, self.options)
        self._spec = spec
        self.joins_tables = joins_tables(spec, self.options)
        """Whether the rows of answers become columns of the input's table, and no text is joined."""
        self._text_type = format_of(spec.content_type) or ""
        self._row_type = format_of(spec.accept) or ""
        self._input_filter = input_filter(spec)
        self._writes_header = bool(self.options.output_columns) and self.options.output_format is None

    @property
    def reads_tables(self) -> bool:
        """Whether objects are read by `chunks` itself, in any order of places, and not from their stored bytes."""
        return self.options.input_format is not None

    @property
    def writes_tables(self) -> bool:
        """Whether the assembled rows of an output are not the output, but become it by `table`."""
        return self.options.output_format is not None

    @property
    def is_plain(self) -> bool:
        """Whether objects are read and written as they are, but for how they are compressed."""
        return not (self.reads_tables or self.converts or self._writes_header or self.header() is not None)

    # -- reading

    def codec(self, key: str) -> Codec | None:
        """Return how the object of a key is compressed, None if it is not."""
        return codec_of(key, self._spec.compression, self.options.input_compression)

    def header(self) -> HeaderLine | None:
        """Return a new header, empty as yet, for an object that has one; None for one that has none."""
        options = self.options
        if options.input_format is None:
            return None if options.csv_header is None else HeaderLine(options.csv_header, self._input_filter)
        joins = self._spec.processing.join_source is JoinSource.INPUT
        if options.csv_header is None and not (self._writes_header and joins and self._text_type == Format.CSV):
            return None
        return HeaderLine(options.csv_header or CsvHeader.SKIP, self._input_filter, stored=False)

    async def chunks(
        self,
        objects: ObjectStore,
        ref: ObjectRef,
        stored: Callable[[int], AsyncGenerator[bytes, None]],
        *,
        header: HeaderLine | None,
        chunk_bytes: int,
        start: int = 0,
        whole: bool = False,
        part: tuple[int, int] | None = None,
        on_open: Callable[[ObjectInfo], None] = _ignore,
        on_read: Callable[[int], None] = _ignore,
    ) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of an object's records in chunks of at most `chunk_bytes`, those of a header left out.

        Args:
            objects: Where the object is.
            ref: The object.
            stored: Opens its bytes as they are stored, from some byte on; not called for tables.
            header: What is told of its header, from `header()`.
            chunk_bytes: Also about as much of a table is decoded at a time.
            start: Bytes of records, from behind a header, that are not wanted again. They cost nothing where the object
                is neither compressed nor a table; else they are read or decoded anew, and thrown away.
            whole: Whether the chunks are one request's body, which then begins with a header that is repeated.
            part: First byte of a range of the object, and of what follows it: of a table, the row groups are read that
                begin there. Of other objects `stored` knows what is wanted.
            on_open: Told the facts of a table: its ETag is that of the version that is read.
            on_read: Told how many stored bytes of a table were read.

        Raises:
            CorruptGzip, CorruptZstd, UnfitFormat: The object is at fault: UNREADABLE.
            NoSuchKey, NoSuchBucket: It is not there.
        """
        async with AsyncExitStack() as stack:

            async def through(stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
                """Have a stream closed at the end, before the one that it reads."""
                return await stack.enter_async_context(aclosing(stream))

            codec = self.codec(ref.key)
            if self.reads_tables:
                named = header is not None
                text = self._table_text(objects, ref, named, chunk_bytes, part, on_open, on_read)
                plain = await through(text)
            else:
                at_once = start if header is None and codec is None else 0
                start -= at_once
                plain = await through(stored(at_once))
                if codec is not None:
                    plain = await through(decompressed(plain, codec, chunk_bytes=chunk_bytes))
            if header is not None:
                quoted = self.options.keeps_quoted_newlines
                plain = await through(without_header(plain, header, quoted_newlines=quoted))
            begun = not whole
            async for chunk in plain:
                if start >= len(chunk):
                    start -= len(chunk)
                    continue
                if not begun and header is not None and header.sent:
                    yield header.sent
                begun = True
                yield chunk[start:] if start else chunk
                start = 0

    def _table_text(
        self,
        objects: ObjectStore,
        ref: ObjectRef,
        named: bool,
        chunk_bytes: int,
        part: tuple[int, int] | None,
        on_open: Callable[[ObjectInfo], None],
        on_read: Callable[[int], None],
    ) -> AsyncGenerator[bytes, None]:
        from millrace.dataplane.formats.table_reader import table_lines

        assert self.options.input_format is not None, "the caller asks `reads_tables`"
        return table_lines(
            objects,
            ref,
            self.options.input_format,
            columns=self.options.input_columns,
            media_type=self._text_type,
            header=named,
            # Told now, not when all answers are there.
            joined=[column.name for column in self.options.output_columns] if self.joins_tables else (),
            chunk_bytes=chunk_bytes,
            part=part,
            on_open=on_open,
            on_read=on_read,
        )

    @property
    def keeps_quoted_newlines(self) -> bool:
        """Whether records are those of CSV that may hold line feeds between quotes."""
        return self.options.keeps_quoted_newlines and self._text_type == Format.CSV

    def record_scan(self) -> Callable[[], RecordScan] | None:
        """Return what makes a scan for the beginnings of records; None if each line feed ends one."""
        framing = FRAMINGS.get(self._spec.split)
        if framing is not None:
            return lambda: FrameScan(framing())
        return CsvScan if self.keeps_quoted_newlines else None

    def record_count(self) -> RecordCount:
        """Return a new count of the records of an object whose `whole` chunks go by."""
        count = CsvRecordCount() if self.keeps_quoted_newlines else record_count(self._spec.split)
        return CountBehindHeader(count) if self.options.csv_header is CsvHeader.REPEAT else count

    def former(
        self,
        strategy: BatchStrategy,
        limit: int,
        header: HeaderLine | None,
        place: tuple[int, int] = BEGINNING,
    ) -> PayloadFormer:
        """Return a new former for one object; `limit` is in bytes, 0 means none.

        `place` is the number and first byte of the record that it is fed first.
        """
        if self.keeps_quoted_newlines:
            make: Callable[[int], PayloadFormer] = partial(csv_payload_former, strategy, place=place)
        else:
            make = partial(payload_former, self._spec.split, strategy, place=place)
        return make(limit) if header is None else HeaderedPayloads(header, make, limit)

    def record_end(self, record: int, offset: int) -> RecordEnd:
        """Return what looks for the end of one record, which has that number and first byte."""
        if self.keeps_quoted_newlines:
            return CsvEnd(record, offset)
        return record_end(self._spec.split, record, offset)

    # -- writing

    def processing(self, job_start: datetime) -> Processing | AnswerRows | None:
        """Return what filters records and completes answers, or None if bytes pass through untouched."""
        if not self.writes_tables:
            return processing_of(self._spec, job_start, quoted_newlines=self.keeps_quoted_newlines)
        spec = self._spec
        if self.joins_tables:
            spec = replace(spec, processing=replace(spec.processing, join_source=JoinSource.NONE))
        quoted, no_row = self.keeps_quoted_newlines, PLACEHOLDER_ROW + b"\n"
        processing = processing_of(spec, job_start, quoted_newlines=quoted, no_row=no_row)
        if processing is not None and processing.rewrites_answers:
            return processing
        return AnswerRows(self._row_type, counts=self.joins_tables, processing=processing)

    def output_start(self, header: HeaderLine | None) -> bytes:
        """Return what an object's output begins with: names of its columns where they are asked for, or nothing.

        Raises:
            UnfitFormat: OutputFilter selects a column that is not there, or a table would have two of one name.
        """
        if self._row_type != Format.CSV or not (self._writes_header or self.writes_tables):
            return b""
        names = row_names(self._spec, self.options, header)
        if self.writes_tables:
            return b""  # names that don't fit were told now, not when all answers are there
        return serialize_csv([column.name for column in names.columns]) + b"\n"

    def output_headers(self) -> dict[str, str]:
        """Return headers of an output object beyond those of the job, by lower-case name."""
        options = self.options
        if options.output_format is not None:
            return {"content-type": _TABLE_TYPES[options.output_format]}
        return {} if options.output_compression is None else {"content-encoding": str(options.output_compression)}

    @property
    def converts(self) -> bool:
        """Whether an output is other bytes than the text that is written."""
        return self.options.output_format is not None or self.options.output_compression is not None

    async def open_writer(
        self,
        open_object: Callable[[], Awaitable[ObjectWriter]],
        *,
        objects: ObjectStore,
        ref: ObjectRef,
        header: HeaderLine | None,
        text: KeptText | None,
        at: int = 0,
        etag: str | None = None,
    ) -> ObjectWriter:
        """Return what takes the assembled text of one output and writes it in the job's format.

        Args:
            open_object: Opens the object itself: at once, or where text is kept, when that is complete; then it may
                not be one that is gone on with.
            objects: Where the input is.
            ref: The input.
            header: The input's, read already unless this goes on with an output.
            text: Where the text is kept that is converted when it is complete, for jobs with `converts`. None where
                the output is not gone on with, which tables don't allow.
            at: Bytes of an earlier writer's that are kept, as its `checkpoint` told them: of the object, or of the
                text. 0 to begin anew.
            etag: That of the input's version.

        Raises:
            UnfitFormat: OutputFilter does not fit the header, or a table would have two columns of one name.
        """
        begin = b"" if at else self.output_start(header)
        codec = None if self.writes_tables else self.options.output_compression
        writer: ObjectWriter
        if self.converts and text is not None:
            if codec is None:
                convert = partial(self.table, objects=objects, ref=ref, header=header, etag=etag)
            else:
                convert = partial(encoded, encoder=encoder_of(codec))
            writer = KeptTextWriter(text, open_writer=open_object, convert=convert)
        else:
            assert not self.writes_tables, "a table is made of text that was kept"
            writer = await open_object()
            if codec is not None:
                writer = EncodedWriter(writer, encoder_of(codec))
        if begin:
            await writer.write(begin)
        return writer

    def compressed_part(self, text: Rows, *, is_first: bool) -> AsyncGenerator[bytes, None]:
        """Return the compressed form of a part of an output: such parts, one behind the other, are one file.

        An output may have no byte. So that the file still reads as empty, the first part is never nothing.
        """
        codec = self.options.output_compression
        assert codec is not None, "outputs that are compressed have one"
        return encoded(text, encoder_of(codec, resumed=not is_first))

    def table(
        self, rows: Rows, *, objects: ObjectStore, ref: ObjectRef, header: HeaderLine | None, etag: str | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Return the bytes of one output: the table of its assembled rows. Only for jobs that write tables.

        Args:
            rows: What was assembled for the object, `output_start` and line feeds between answers left out.
            objects: Where the input is.
            ref: The input; a join of tables reads it again.
            header: The input's, as it was read.
            etag: That of the input's version, as `chunks` told it.

        Raises:
            UnfitFormat: The rows, or what is joined with them, don't fit.
        """
        from millrace.dataplane.formats.convert import TableOutput, joined_table, table_of_rows

        options = self.options
        assert options.output_format is not None, "the caller asks `writes_tables`"
        if self._row_type == Format.CSV:
            names = row_names(self._spec, options, header)
            columns, more = names.columns, names.more
        else:
            columns, more = options.output_columns, not options.output_columns
        output = TableOutput(
            form=options.output_format,
            codec=options.output_compression,
            media_type=self._row_type,
            columns=columns,
            more=more,
        )
        if not self.joins_tables:
            return table_of_rows(rows, output)
        assert options.input_format is not None, "tables are joined"
        return joined_table(rows, output, objects=objects, ref=ref, form=options.input_format, etag=etag)
