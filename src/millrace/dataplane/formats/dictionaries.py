"""Tell the types that columns have without dictionaries, or with such as pyarrow can decode. Pure."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa

__all__ = ["decodable_batch", "decodable_schema", "plain_type"]


def plain_type(kind: Any) -> Any:
    """Return a type with the types of values for those of dictionaries, also within lists, structs and maps."""
    return _replaced(kind, lambda found: found.value_type if pa.types.is_dictionary(found) else found)


def decodable_schema(schema: Any) -> Any:
    """Return a schema whose dictionaries have no views as values.

    Polars writes its categories as dictionaries of string views, which pyarrow reads, and can neither decode nor write
    to Parquet. To other dictionaries it casts them.
    """
    return pa.schema([field.with_type(_replaced(field.type, _without_views)) for field in schema], schema.metadata)


def decodable_batch(batch: Any, schema: Any) -> Any:
    """Return a record batch with the types of what `decodable_schema` made of its schema."""
    if batch.schema.equals(schema):
        return batch
    columns = [
        column if column.type == field.type else column.cast(field.type)
        for column, field in zip(batch.columns, schema, strict=True)
    ]
    return pa.record_batch(columns, schema=schema)


def _without_views(kind: Any) -> Any:
    if pa.types.is_dictionary(kind):
        if pa.types.is_string_view(kind.value_type):
            return pa.dictionary(kind.index_type, pa.string(), kind.ordered)
        if pa.types.is_binary_view(kind.value_type):
            return pa.dictionary(kind.index_type, pa.binary(), kind.ordered)
    return kind


def _replaced(kind: Any, replace: Callable[[Any], Any]) -> Any:
    """Return a type with `replace` done to it and to all types within it."""
    types, kind = pa.types, replace(kind)
    if types.is_struct(kind):
        return pa.struct([_field(field, replace) for field in kind])
    if types.is_list(kind):
        return pa.list_(_field(kind.value_field, replace))
    if types.is_large_list(kind):
        return pa.large_list(_field(kind.value_field, replace))
    if types.is_fixed_size_list(kind):
        return pa.list_(_field(kind.value_field, replace), kind.list_size)
    if types.is_map(kind):
        return pa.map_(_field(kind.key_field, replace), _field(kind.item_field, replace), kind.keys_sorted)
    return kind


def _field(field: Any, replace: Callable[[Any], Any]) -> Any:
    return field.with_type(_replaced(field.type, replace))
