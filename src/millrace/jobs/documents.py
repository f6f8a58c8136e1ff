"""Turn frozen dataclasses into JSON documents, and back; the form in which specs and states are stored."""

import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime
from enum import Enum
from functools import cache
from typing import Any, TypeVar

from millrace.moments import from_micros, to_micros
from millrace.names import Arn

__all__ = ["from_document", "to_document"]

T = TypeVar("T")


def to_document(value: Any) -> Any:
    """Return a value made of dicts, lists, strings, numbers, booleans and None only.

    Dataclass fields equal to their default are left out, so that documents stay small and new fields need no
    migration. Times become microseconds since the epoch.
    """
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return to_micros(value)
    if isinstance(value, Arn):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        document = {}
        for entry in fields(value):
            member = getattr(value, entry.name)
            if entry.default is not MISSING and member == entry.default:
                continue
            if entry.default_factory is not MISSING and member == entry.default_factory():
                continue
            document[entry.name] = to_document(member)
        return document
    if isinstance(value, Mapping):
        return {str(key): to_document(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_document(member) for member in value]
    return value


def from_document(cls: type[T], document: Any) -> T:
    """Build a value of a type from its document.

    Unknown members are ignored (a newer release may have written them); missing ones take their default.

    Raises:
        TypeError: A member without default is missing.
    """
    decode: Callable[[Any], Any] = _decoder(cls)  # type: ignore[arg-type]  # a type is hashable
    return typing.cast(T, decode(document))


def _identity(document: Any) -> Any:
    return document


@cache
def _decoder(annotation: Any) -> Callable[[Any], Any]:
    """Return the function that decodes one annotation; built once for each."""
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin in (types.UnionType, typing.Union):
        return _optional(arguments)
    if origin is tuple:
        member = _decoder(arguments[0])
        return tuple if member is _identity else lambda document: tuple(member(entry) for entry in document)
    if origin in (Mapping, dict):
        value = _decoder(arguments[1])
        if value is _identity:
            return _identity
        return lambda document: {key: value(entry) for key, entry in document.items()}
    if origin in (Sequence, list):
        member = _decoder(arguments[0])
        return _identity if member is _identity else lambda document: [member(entry) for entry in document]
    if annotation is datetime:
        return from_micros
    if annotation is Arn:
        return Arn.parse
    if isinstance(annotation, type):
        if issubclass(annotation, Enum):
            return annotation
        if is_dataclass(annotation):
            return _dataclass(annotation)
    return _identity


def _optional(arguments: tuple[Any, ...]) -> Callable[[Any], Any]:
    members = [argument for argument in arguments if argument is not type(None)]
    if len(members) != 1:
        return _identity
    member = _decoder(members[0])
    if member is _identity:
        return _identity
    return lambda document: None if document is None else member(document)


def _dataclass(cls: type) -> Callable[[Any], Any]:
    hints = typing.get_type_hints(cls)
    converting = {}
    known = set()
    for entry in fields(cls):
        known.add(entry.name)
        decode = _decoder(hints[entry.name])
        if decode is not _identity:
            converting[entry.name] = decode

    def decode_dataclass(document: Mapping[str, Any]) -> Any:
        members = {key: value for key, value in document.items() if key in known}
        for name, decode in converting.items():
            if name in members:
                members[name] = decode(members[name])
        return cls(**members)

    return decode_dataclass
