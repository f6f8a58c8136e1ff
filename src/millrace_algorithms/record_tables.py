"""Read and write tables as RecordIO-protobuf."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace_algorithms.errors import BadRowWidth, MalformedRecord
from millrace_algorithms.number_text import Column
from millrace_algorithms.protobuf import Record, Tensor, decode, encode
from millrace_algorithms.recordio import frame, record_blocks, unframe
from millrace_algorithms.tables import FloatMatrix, FloatVector, SparseRows, Table

__all__ = ["BLOCK_BYTES", "RecordTableReader", "write_records", "write_table"]

BLOCK_BYTES = 1024 * 1024
"""Framed bytes that are decoded at once."""

_FRAME_HEADER_BYTES = 8


class RecordTableReader:
    """Reads RecordIO-protobuf as tables: uniform dense records by numpy, all others one by one."""

    def __init__(self) -> None:
        self.rows = 0
        """Records read so far."""

    def read(self, chunks: Iterable[bytes], block_bytes: int = BLOCK_BYTES) -> Iterator[Table]:
        """Yield the records in order, one table a block.

        Raises:
            MalformedRecord: Bytes are no RecordIO or no record with `features["values"]`.
            BadRowWidth: A record has another width than those before it in its block.
        """
        for block in record_blocks(chunks, block_bytes):
            table = _read_uniform(block, self.rows) or _read_each(block, self.rows)
            if len(table):
                self.rows += len(table)
                yield table


def _read_uniform(block: bytes, first_row: int) -> Table | None:
    """Return the table if every record differs from the first one in its numbers only; None if unsure."""
    payload = next(unframe(block, first_row))
    try:
        record = decode(payload)
    except ValueError:
        return None
    features, label = record.features.get("values"), record.label.get("values")
    if features is None or features.keys is not None or features.values.dtype == np.int32 or not features.values.size:
        return None
    if len(record.features) != 1 or (label is not None and (label.values.size != 1 or label.values.dtype == np.int32)):
        return None
    if encode(record) != payload:  # the writers' own layout, in which the values end their map entry
        return None
    stride = _FRAME_HEADER_BYTES + len(payload) + -len(payload) % 4
    if len(block) % stride:
        return None
    rows = np.frombuffer(block, np.uint8).reshape(-1, stride)
    features_end = _FRAME_HEADER_BYTES + len(encode(Record(features=record.features)))
    features_start = features_end - features.values.nbytes
    label_end = _FRAME_HEADER_BYTES + len(payload)
    label_start = label_end - (label.values.nbytes if label is not None else 0)
    for start, end in ((0, features_start), (features_end, label_start), (label_end, stride)):
        if start < end and not (rows[:, start:end] == rows[0, start:end]).all():
            return None
    return Table(
        features=_numbers(rows[:, features_start:features_end], features.values.dtype),
        labels=None if label is None else _numbers(rows[:, label_start:label_end], label.values.dtype)[:, 0],
        first_row=first_row,
    )


def _numbers(columns: npt.NDArray[np.uint8], dtype: np.dtype[Any]) -> FloatMatrix:
    return np.frombuffer(np.ascontiguousarray(columns), dtype).reshape(len(columns), -1)


def _read_each(block: bytes, first_row: int) -> Table:
    features: list[Tensor] = []
    labels: list[float] = []
    for number, payload in enumerate(unframe(block, first_row), first_row + 1):
        try:
            record = decode(payload)
        except ValueError as exc:
            raise MalformedRecord(str(exc), record=number) from exc
        tensor = record.features.get("values")
        if tensor is None:
            raise MalformedRecord(f"expected features['values'], got {sorted(record.features)}", record=number)
        _check_sparse(tensor, number)
        features.append(tensor)
        label = record.label.get("values")
        if label is not None and label.values.size:
            if label.values.size != 1 or label.keys is not None:
                raise MalformedRecord(f"expected one label value, got {label.values.size}", record=number)
            labels.append(float(label.values[0]))
    if labels and len(labels) != len(features):
        raise MalformedRecord(f"only {len(labels)} of {len(features)} records have a label", record=first_row + 1)
    return Table(
        features=stack(features, first_row),
        labels=np.array(labels, np.float32) if labels else None,
        first_row=first_row,
    )


def _check_sparse(tensor: Tensor, number: int) -> None:
    if tensor.keys is None:
        return
    if not tensor.shape:
        raise MalformedRecord("sparse features need a shape", record=number)
    if tensor.keys.size != tensor.values.size:
        raise MalformedRecord(f"{tensor.keys.size} keys for {tensor.values.size} values", record=number)
    width = _width(tensor)
    if tensor.keys.size and int(tensor.keys.max()) >= width:
        raise MalformedRecord(f"key {tensor.keys.max()} outside shape {list(tensor.shape)}", record=number)


def _width(tensor: Tensor) -> int:
    """Return how many numbers the tensor stands for; no values with a shape are all zero."""
    if tensor.keys is None and (tensor.values.size or not tensor.shape):
        return int(tensor.values.size)
    width = 1
    for size in tensor.shape:
        width *= size
    return width


def stack(tensors: Sequence[Tensor], first_row: int) -> FloatMatrix | SparseRows:
    """Return the tensors as rows: sparse if one of them is; raises BadRowWidth if their widths differ."""
    width = _width(tensors[0]) if tensors else 0
    for row, tensor in enumerate(tensors, first_row + 1):
        if _width(tensor) != width:
            raise BadRowWidth(row=row, expected=width, got=_width(tensor))
    dtype: type[np.floating[Any]] = np.float64 if any(t.values.dtype == np.float64 for t in tensors) else np.float32
    if all(t.keys is None and t.values.size == width for t in tensors):
        dense: FloatMatrix = np.array([t.values for t in tensors], dtype).reshape(len(tensors), width)
        return dense
    keys = [np.arange(t.values.size, dtype=np.int64) if t.keys is None else t.keys for t in tensors]
    offsets = np.zeros(len(tensors) + 1, np.int64)
    np.cumsum([len(k) for k in keys], out=offsets[1:])
    values: FloatVector = np.concatenate([t.values for t in tensors]).astype(dtype)
    return SparseRows(offsets=offsets, keys=np.concatenate(keys), values=values, width=width)


def write_table(table: Table) -> bytes:
    """Return the table as framed records in the SDK's layout; sparse rows stay sparse."""
    if not isinstance(table.features, SparseRows):
        labels = {} if table.labels is None else {"values": table.labels[:, None]}
        return _write_uniform({"values": table.features}, labels)
    rows = table.features
    out = []
    for i in range(len(rows)):
        part = slice(rows.offsets[i], rows.offsets[i + 1])
        tensor = Tensor(values=rows.values[part], keys=rows.keys[part], shape=(rows.width,))
        label = {} if table.labels is None else {"values": Tensor(values=table.labels[i : i + 1])}
        out.append(frame(encode(Record(features={"values": tensor}, label=label))))
    return b"".join(out)


def write_records(columns: Sequence[Column]) -> bytes:
    """Return one framed record for each row, the columns as float32 labels, no features: the form of answers."""
    label = {c.name: c.values if c.values.ndim == 2 else c.values[:, None] for c in columns}
    return _write_uniform({}, {name: values.astype(np.float32, copy=False) for name, values in label.items()})


def _write_uniform(features: Mapping[str, FloatMatrix], label: Mapping[str, FloatMatrix]) -> bytes:
    """Return records that differ in their numbers only: one encoded record, repeated, with the numbers laid over."""
    columns = [*features.values(), *label.values()]
    count = len(columns[0])
    if not count:
        return b""
    parts: list[bytes] = []
    spans: list[tuple[int, FloatMatrix | FloatVector]] = []
    position = _FRAME_HEADER_BYTES
    for is_feature, name, values in [(True, n, v) for n, v in features.items()] + [
        (False, n, v) for n, v in label.items()
    ]:
        entry = {name: Tensor(values=np.zeros(values.shape[1], values.dtype))}
        message = encode(Record(features=entry) if is_feature else Record(label=entry))
        parts.append(message)
        position += len(message)
        spans.append((position, values))
    framed = np.frombuffer(frame(b"".join(parts)), np.uint8)
    rows = np.tile(framed, (count, 1))
    for end, values in spans:
        size = values.shape[1] * values.itemsize
        rows[:, end - size : end] = np.ascontiguousarray(values).view(np.uint8).reshape(count, size)
    return rows.tobytes()
