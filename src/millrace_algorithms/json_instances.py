"""Read instances from JSON and JSON Lines requests.

Four forms of an instance are read: `{"features": [..]}`, `{"data": {"features": {"values": [..]}}}`, and the sparse
ones with `keys` and `shape` beside `values`. Rows of the first form, all spelled alike, are parsed at compiled speed as
one text whose row separator is what stands between two rows' numbers.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import orjson

from millrace_algorithms.delimited_numbers import BLOCK_BYTES, HEAD, TAIL, DelimitedParser, split_at
from millrace_algorithms.errors import BadRowWidth, MalformedText
from millrace_algorithms.lines import line_blocks, with_line_feeds
from millrace_algorithms.tables import FloatMatrix, SparseRows, Table

__all__ = ["InstanceReader"]

_FEATURES = rb'\{\s*"features"\s*:\s*\['
_DOCUMENT_HEAD = re.compile(rb'\s*\{\s*"instances"\s*:\s*\[\s*' + _FEATURES)
_DOCUMENT_TAIL = re.compile(rb"\]\s*\}\s*\]\s*\}\s*\Z")
_LINE_HEAD = re.compile(rb"[ \t]*" + _FEATURES)
_LINE_TAIL = re.compile(rb"\][ \t]*\}[ \t]*\Z")
_SEPARATOR = re.compile(rb"\]\s*\}\s*,\s*" + _FEATURES)
_LINE_SEPARATOR = re.compile(rb"\][ \t]*\}[ \t]*\n[ \t]*" + _FEATURES)
_TAIL_BYTES = 64
"""How far from the end a tail may begin and still take the fast path."""


class InstanceReader:
    """Reads the instances of one request, keeping the parser's buffers from block to block."""

    def __init__(self) -> None:
        self._parser = DelimitedParser()
        self.rows = 0

    def read_json(self, body: bytes) -> Iterator[Table]:
        """Yield the instances of `{"instances": [..]}`; raises MalformedText or BadRowWidth."""
        yield from self._read_alike(body, _DOCUMENT_HEAD, _DOCUMENT_TAIL, _SEPARATOR) or [self._read_document(body)]

    def read_json_lines(self, chunks: Iterable[bytes]) -> Iterator[Table]:
        """Yield the instances of one object a line; raises MalformedText or BadRowWidth."""
        for lines in line_blocks(chunks, BLOCK_BYTES):
            block = with_line_feeds(lines)
            yield from self._read_alike(block, _LINE_HEAD, _LINE_TAIL, _LINE_SEPARATOR) or [self._read_lines(block)]

    def _read_alike(
        self, text: bytes, head: re.Pattern[bytes], tail: re.Pattern[bytes], separator: re.Pattern[bytes]
    ) -> list[Table]:
        """Return the tables of instances that are all in the short form and spelled alike; none if unsure."""
        begin = head.match(text)
        end = tail.search(text, max(0, len(text) - _TAIL_BYTES))
        if begin is None or end is None or begin.end() > end.start():
            return []
        rows = text[begin.end() : end.start()]
        first_end = rows.find(b"]")
        between = separator.match(rows, first_end) if first_end >= 0 else None
        if first_end >= 0 and between is None:
            return []
        tables: list[Table] = []
        seen = self.rows
        delimiter = between.group() if between else b"\0"  # of which a single row has none
        for block in split_at(rows, delimiter):
            matrix = self._parser.parse(b"".join((HEAD, block, TAIL)), delimiter)
            if matrix is None or (tables and matrix.shape[1] != tables[0].width):
                return []
            tables.append(Table(features=matrix, first_row=seen, fits_float32=self._parser.fits_float32))
            seen += len(matrix)
        self.rows = seen
        return tables

    def _read_document(self, body: bytes) -> Table:
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError as exc:
            raise MalformedText(f"not JSON: {exc}") from exc
        if not isinstance(document, dict) or not isinstance(document.get("instances"), list):
            raise MalformedText("expected a JSON object with a list of 'instances'")
        return self._table(document["instances"])

    def _read_lines(self, block: bytes) -> Table:
        instances = []
        for number, line in enumerate(block.split(b"\n"), self.rows + 1):
            try:
                instances.append(orjson.loads(line))
            except orjson.JSONDecodeError as exc:
                raise MalformedText(f"row {number} is not JSON: {exc}") from exc
        return self._table(instances)

    def _table(self, instances: list[Any]) -> Table:
        first_row = self.rows
        rows = [_vector(instance, number) for number, instance in enumerate(instances, first_row + 1)]
        self.rows += len(rows)
        width = rows[0][2] if rows else 0
        for number, (_, _, got) in enumerate(rows, first_row + 1):
            if got != width:
                raise BadRowWidth(row=number, expected=width, got=got)
        return Table(features=_stack(rows, width), first_row=first_row)


_Vector = tuple[list[float], list[int] | None, int]
"""Values, keys if sparse, width."""


def _vector(instance: Any, number: int) -> _Vector:
    """Return the numbers of one instance in any of the documented forms."""
    container = instance.get("data", instance) if isinstance(instance, dict) else None
    features = container.get("features") if isinstance(container, dict) else None
    if isinstance(features, list):
        return _checked_numbers(features, "features", number), None, len(features)
    if not isinstance(features, dict):
        raise MalformedText(f"row {number}: expected 'features' or 'data.features', got {_shown(instance)}")
    values = _checked_numbers(features.get("values"), "values", number)
    if "keys" not in features:
        return values, None, len(values)
    keys, shape = features["keys"], features.get("shape")
    if not _all_counts(keys) or len(keys) != len(values):
        raise MalformedText(f"row {number}: 'keys' must be a list of {len(values)} integers, got {_shown(keys)}")
    if not _all_counts(shape) or not shape:
        raise MalformedText(f"row {number}: sparse features need a 'shape' of integers, got {_shown(shape)}")
    width = int(np.prod(shape, dtype=object))
    if keys and max(keys) >= width:
        raise MalformedText(f"row {number}: key {max(keys)} outside shape {shape}")
    return values, keys, width


def _checked_numbers(values: Any, name: str, number: int) -> list[float]:
    if not isinstance(values, list):
        raise MalformedText(f"row {number}: {name!r} must be a list of numbers, got {_shown(values)}")
    for value in values:
        if type(value) is not float and type(value) is not int:
            raise MalformedText(f"row {number}: {name!r} must be a list of numbers, got {_shown(value)} in it")
    return values


def _all_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(v) is int and v >= 0 for v in values)


def _shown(value: Any) -> str:
    return orjson.dumps(value).decode()[:80]


def _stack(rows: list[_Vector], width: int) -> FloatMatrix | SparseRows:
    if all(keys is None for _, keys, _ in rows):
        dense: FloatMatrix = np.array([values for values, _, _ in rows], np.float64).reshape(len(rows), width)
        return dense
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(values) for values, _, _ in rows], out=offsets[1:])
    keys = [list(range(len(values))) if keys is None else keys for values, keys, _ in rows]
    return SparseRows(
        offsets=offsets,
        keys=np.array([k for row in keys for k in row], np.int64),
        values=np.array([v for values, _, _ in rows for v in values], np.float64),
        width=width,
    )
