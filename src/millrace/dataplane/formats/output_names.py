"""Name the columns of an output. Pure."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from millrace.dataplane.formats.checks import joins_tables
from millrace.dataplane.formats.columns import OutputColumn
from millrace.dataplane.formats.header import HeaderLine
from millrace.dataplane.formats.options import FormatOptions
from millrace.dataplane.formats.unreadable import UnfitFormat
from millrace.dataplane.job_filters import output_filter
from millrace.dataplane.jsonpath import FilterError
from millrace.jobs.transform import JoinSource, TransformSpec

__all__ = ["RowNames", "check_distinct_names", "check_joined_names", "row_names"]

_ID_COLUMNS = (OutputColumn(name="SageMakerInferenceId"), OutputColumn(name="SageMakerInferenceTime"))


@dataclass(frozen=True, kw_only=True, slots=True)
class RowNames:
    """The first columns of rows of CSV; `more` tells that columns without a name may follow."""

    columns: tuple[OutputColumn, ...] = ()
    more: bool = True


def row_names(spec: TransformSpec, options: FormatOptions, header: HeaderLine | None) -> RowNames:
    """Return what is known of the columns of an object's output.

    They are the columns of the header, where a text is joined with the answers; those of MILLRACE_OUTPUT_COLUMNS, which
    are the answer's (of a join without a header all of the row's); what OutputFilter selects of both; and the two of
    inference ids.

    Raises:
        UnfitFormat: OutputFilter selects a column that is not there, or a table would have two columns of one name.
    """
    joins = spec.processing.join_source is JoinSource.INPUT and not joins_tables(spec, options)
    given = [OutputColumn(name=name) for name in header.names()] if joins and header is not None else []
    columns = (*given, *options.output_columns)
    selected = output_filter(spec)
    if not options.output_columns:
        names = RowNames(columns=columns) if selected.is_identity and not spec.tags_rows else RowNames()
        return _checked(names, options)
    if not selected.is_identity:
        try:
            columns = tuple(columns[int(at)] for at in selected.columns([str(at) for at in range(len(columns))]))
        except FilterError as exc:
            listed = ", ".join(column.name for column in columns)
            raise UnfitFormat(f"Failed to apply OutputFilter {selected.text} to the columns [{listed}]: {exc}") from exc
    names = RowNames(columns=(*columns, *_ID_COLUMNS) if spec.tags_rows else columns, more=False)
    return _checked(names, options)


def _checked(names: RowNames, options: FormatOptions) -> RowNames:
    if options.output_format is not None:
        check_distinct_names([column.name for column in names.columns])
    return names


def check_distinct_names(names: Sequence[str]) -> None:
    """Raise UnfitFormat if a table would have two columns of one name: few readers take one."""
    name, count = next(iter(Counter(names).most_common(1)), ("", 0))
    if count > 1:
        listed = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
        raise UnfitFormat(
            f'a table must have each column once, but the output would have "{name}" {count} times: [{listed}]; '
            "name the answer's columns by MILLRACE_OUTPUT_COLUMNS"
        )


def check_joined_names(given: Collection[str], added: Sequence[str]) -> None:
    """Raise UnfitFormat if columns that are joined to a table have names of its own."""
    for name in added:
        if name in given:
            raise UnfitFormat(
                f'the input has a column "{name}" already; name the answer\'s columns by MILLRACE_OUTPUT_COLUMNS'
            )
