"""Convert the rows of a finished output to a table, by themselves or as further columns of the input's table.

A table cannot be gone on with once its writer is gone, so it is made from rows that were kept: in one go, with bounded
memory, and from the beginning if it is broken off. The same rows give the same bytes.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from millrace.dataplane.formats.absent_rows import AbsentRows
from millrace.dataplane.formats.answer_columns import AnswerColumns, answer_columns
from millrace.dataplane.formats.arrow_errors import arrow_errors
from millrace.dataplane.formats.columns import OutputColumn
from millrace.dataplane.formats.dictionaries import plain_type
from millrace.dataplane.formats.kept_rows import Rows
from millrace.dataplane.formats.one_thread import OneThread
from millrace.dataplane.formats.options import Codec, TableForm
from millrace.dataplane.formats.output_names import check_joined_names
from millrace.dataplane.formats.raw_values import truth_values
from millrace.dataplane.formats.row_blocks import row_blocks
from millrace.dataplane.formats.table_reader import table_batches
from millrace.dataplane.formats.table_writer import TableWriter
from millrace.dataplane.formats.unreadable import UnfitFormat
from millrace.dataplane.jsonpath import Format
from millrace.names import ObjectRef
from millrace.ports.objects import ObjectStore

__all__ = ["TableOutput", "joined_table", "table_of_rows"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TableOutput:
    """What a table is made of and like."""

    form: TableForm
    codec: Codec | None = None
    media_type: str
    """Of the rows."""
    columns: Sequence[OutputColumn] = ()
    """What is known of the columns of the rows."""
    more: bool = True
    """Whether rows of CSV may have columns behind these, which get names of ours."""


async def table_of_rows(rows: Rows, output: TableOutput) -> AsyncGenerator[bytes, None]:
    """Yield the bytes of a table whose columns are those of the rows.

    Rows are read twice if not all types are stated: first to find the types, then to write.

    Raises:
        UnfitFormat: Rows don't fit their media type, the columns, or each other.
    """
    columns = answer_columns(output.media_type, output.columns, more=output.more)
    with OneThread() as thread:
        await _find_types(columns, rows, output, thread)
        writer = await thread.run(TableWriter, output.form, columns.schema, output.codec)
        async with aclosing(_parsed(columns, rows, output, AbsentRows(output.media_type), thread)) as tables:
            async for table in tables:
                if await thread.run(writer.add, table):
                    async with aclosing(thread.given(writer.write)) as pieces:
                        async for piece in pieces:
                            yield piece
        async with aclosing(thread.given(writer.finish)) as pieces:
            async for piece in pieces:
                yield piece


async def joined_table(
    rows: Rows,
    output: TableOutput,
    *,
    objects: ObjectStore,
    ref: ObjectRef,
    form: TableForm,
    etag: str | None = None,
) -> AsyncGenerator[bytes, None]:
    """Yield the bytes of the input's table with the columns of the rows added: row i to row i.

    The input's columns are read again and pass as they are, without ever being text. A row of the input whose answer
    is an ABSENT_ROW is left out.

    Args:
        rows: As many as the input's table has.
        output: What the table becomes.
        objects: Where the input is.
        ref: The input.
        form: Its format.
        etag: That of the version that was transformed.

    Raises:
        UnfitFormat: As `table_of_rows`; or the numbers of rows differ, a column has the name of another, or the input
            is not the same any more.
    """
    columns = answer_columns(output.media_type, output.columns, more=output.more)
    absent = AbsentRows(output.media_type)
    async with AsyncExitStack() as stack:
        thread = stack.enter_context(OneThread())
        await _find_types(columns, rows, output, thread)
        inputs = await stack.enter_async_context(aclosing(table_batches(objects, ref, form, thread=thread, etag=etag)))
        tables = await stack.enter_async_context(aclosing(_parsed(columns, rows, output, absent, thread)))
        queue = _RowQueue(columns.schema)
        schema = _joined_schema(await anext(inputs), columns.schema, output.form)
        writer = await thread.run(TableWriter, output.form, schema, output.codec)

        def add_beside(batch: Any, row: int) -> bool:
            with arrow_errors(f"Failed to join columns of {output.form}"):
                joined = _beside(batch, queue.take(batch.num_rows), schema)
                if (present := absent.present(row, batch.num_rows)) is not None:
                    joined = joined.filter(truth_values(present))
            return writer.add(joined)

        done = 0
        async for batch in inputs:
            while queue.rows < batch.num_rows and (table := await anext(tables, None)) is not None:
                queue.add(table)
            if queue.rows < batch.num_rows:
                raise UnfitFormat(
                    f"a join needs an answer row for each row of {ref}: row {done + queue.rows + 1} has none"
                )
            full = await thread.run(add_beside, batch, done + 1)
            done += batch.num_rows
            if full:
                async with aclosing(thread.given(writer.write)) as pieces:
                    async for piece in pieces:
                        yield piece
        while not queue.rows and (table := await anext(tables, None)) is not None:
            queue.add(table)
        if queue.rows:
            raise UnfitFormat(f"a join needs a row of {ref} for each answer row: it has {done} rows, answers have more")
        async with aclosing(thread.given(writer.finish)) as pieces:
            async for piece in pieces:
                yield piece


async def _find_types(columns: AnswerColumns, rows: Rows, output: TableOutput, thread: OneThread) -> None:
    if columns.schema is not None:
        return
    row, absent = 1, AbsentRows(output.media_type)
    async with aclosing(_blocks(rows, output)) as blocks:
        async for block in blocks:
            row += await thread.run(columns.look, absent.fill(block, row), row)
    columns.settle()


async def _parsed(
    columns: AnswerColumns, rows: Rows, output: TableOutput, absent: AbsentRows, thread: OneThread
) -> AsyncGenerator[Any, None]:
    row = 1
    async with aclosing(_blocks(rows, output)) as blocks:
        async for block in blocks:
            table = await thread.run(columns.parse, absent.fill(block, row), row)
            row += table.num_rows
            yield table


async def _blocks(rows: Rows, output: TableOutput) -> AsyncGenerator[bytes, None]:
    async with (
        aclosing(rows()) as chunks,
        aclosing(row_blocks(chunks, quoted_newlines=output.media_type == Format.CSV)) as blocks,
    ):
        async for block in blocks:
            yield block


class _RowQueue:
    """Holds parsed rows until as many as a batch of the input has are taken."""

    def __init__(self, schema: Any) -> None:
        self._tables: list[Any] = []
        self._schema = schema
        self.rows = 0

    def add(self, table: Any) -> None:
        self._tables.append(table)
        self.rows += table.num_rows

    def take(self, count: int) -> Any:
        held = pa.concat_tables(self._tables) if self._tables else self._schema.empty_table()
        self._tables = [held.slice(count)]
        self.rows -= count
        return held.slice(0, count)


def _joined_schema(given: Any, added: Any, form: TableForm) -> Any:
    check_joined_names(given.names, added.names)
    if form is TableForm.ARROW:
        # Its files hold one dictionary per column, but each batch may come with another.
        given = pa.schema([field.with_type(plain_type(field.type)) for field in given], given.metadata)
    return pa.schema([*given, *added], given.metadata)


def _beside(batch: Any, answers: Any, schema: Any) -> Any:
    given = [
        column if column.type == field.type else column.cast(field.type)
        for column, field in zip(batch.columns, schema, strict=False)
    ]
    return pa.table([*given, *answers.columns], schema=schema)
