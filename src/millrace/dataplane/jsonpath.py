"""Parse and apply the JSONPath subset of InputFilter and OutputFilter. Pure.

The extended syntax takes names of any characters but those that end one, and brackets of several slices and indexes.

Slices are inclusive at both ends; an index, a slice bound or a member that is not there is an error; columns come in
the order written.

Source:
    batch-transform.md 6.3; for the extended syntax 8, pains 5 and 6.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "FILTER_LIMIT",
    "LARGEST_NUMBER",
    "Filter",
    "FilterError",
    "Format",
    "InvalidFilter",
    "format_of",
    "parse_filter",
]

FILTER_LIMIT = 63

LARGEST_NUMBER = 2**31 - 1
"""Of a column or an element, from either end: what rows are cut by in compiled code holds no more."""

_CSV_OPERATORS = "$[]* ,:-"
_JSON_OPERATORS = "$[]*. ,:-'"


class InvalidFilter(ValueError):
    """The text is no filter of that media type; the message is what the client reads."""


class FilterError(ValueError):
    """A filter does not fit a record: it names what the record has not."""


class Format:
    """The media types that can be filtered and joined."""

    CSV = "text/csv"
    JSON = "application/json"
    JSON_LINES = "application/jsonlines"
    ALL = (CSV, JSON, JSON_LINES)


def format_of(content_type: str | None) -> str | None:
    """Return the format that a media type names, parameters and case aside; None if it is none of the three."""
    if content_type is None:
        return None
    essence = content_type.partition(";")[0].strip().lower()
    return essence if essence in Format.ALL else None


@dataclass(frozen=True, slots=True)
class _Name:
    """`.name` or `['name']`: the bare value of one member."""

    name: str

    def apply(self, value: Any) -> Any:
        return _member(value, self.name)


@dataclass(frozen=True, slots=True)
class _Names:
    """`['a','b']`: an object with just those members."""

    names: tuple[str, ...]

    def apply(self, value: Any) -> Any:
        return {name: _member(value, name) for name in self.names}


@dataclass(frozen=True, slots=True)
class _Index:
    """`[n]`: the bare value of one element."""

    index: int

    def apply(self, value: Any) -> Any:
        elements = _array(value, f"[{self.index}]")
        return elements[_position(self.index, len(elements))]


@dataclass(frozen=True, slots=True)
class _Indexes:
    """`[n,m]`: an array of those elements, in the order written."""

    indexes: tuple[int, ...]

    def apply(self, value: Any) -> Any:
        elements = _array(value, f"[{','.join(map(str, self.indexes))}]")
        return [elements[_position(index, len(elements))] for index in self.indexes]


@dataclass(frozen=True, slots=True)
class _Slice:
    """`[s:e]`: an array of the elements from s up to and with e."""

    start: int | None
    end: int | None

    def __str__(self) -> str:
        return f"[{'' if self.start is None else self.start}:{'' if self.end is None else self.end}]"

    def apply(self, value: Any) -> Any:
        elements = _array(value, str(self))
        size = len(elements)
        first = 0 if self.start is None else _position(self.start, size)
        last = size - 1 if self.end is None else _position(self.end, size)
        if first > last:
            raise FilterError(f"slice {self} is empty for {size} elements")
        return elements[first : last + 1]


@dataclass(frozen=True, slots=True)
class _Union:
    """`[n,s:e]`: an array of those elements, in the order written."""

    parts: tuple[_Index | _Slice, ...]

    def apply(self, value: Any) -> Any:
        elements: list[Any] = []
        for part in self.parts:
            found = part.apply(value)
            elements += found if isinstance(part, _Slice) else [found]
        return elements


@dataclass(frozen=True, slots=True)
class _Wildcard:
    """`*`: an array of all values; those of an object in the order of its sorted keys."""

    def apply(self, value: Any) -> Any:
        if isinstance(value, dict):
            return [value[key] for key in sorted(value)]
        return list(_array(value, "*"))


_Step = _Name | _Names | _Index | _Indexes | _Slice | _Union | _Wildcard
_SELECTS_MANY = (_Indexes, _Slice, _Union, _Wildcard)


@dataclass(frozen=True, slots=True)
class Filter:
    """A parsed filter."""

    text: str
    steps: tuple[_Step, ...]

    @property
    def is_identity(self) -> bool:
        """Whether it is `$`: bytes pass through unparsed."""
        return not self.steps

    @property
    def members(self) -> tuple[str, ...] | None:
        """The names of the members that it takes of an object, if it begins with them; all it looks at are those."""
        first = self.steps[0] if self.steps else None
        if isinstance(first, _Name):
            return (first.name,)
        return tuple(dict.fromkeys(first.names)) if isinstance(first, _Names) and len(self.steps) == 1 else None

    @property
    def takes_one(self) -> bool:
        """Whether it takes the bare value of one member, or something of it."""
        return isinstance(self.steps[0], _Name) if self.steps else False

    @property
    def behind_first(self) -> "Filter":
        """What it does to that value."""
        return Filter(self.text, self.steps[1:])

    @property
    def column_ranges(self) -> tuple[tuple[int, int], ...]:
        """The first and last column of each range that it takes of a row of CSV; those below 0 count from the end.

        A row that hasn't both, or has the first behind the last, is an error.
        """
        if self.is_identity:
            return ((0, -1),)
        match self.steps[0]:
            case _Index(index):
                return ((index, index),)
            case _Indexes(indexes):
                return tuple((index, index) for index in indexes)
            case _Slice(start, end):
                return ((start or 0, -1 if end is None else end),)
            case _Union(parts):
                return tuple(it for part in parts for it in Filter(self.text, (part,)).column_ranges)
            case _Wildcard():
                return ((0, -1),)
            case _:
                return ()

    def select(self, value: Any) -> Any:
        """Return what the filter selects of a JSON value; raises FilterError."""
        return _select(value, self.steps)

    def columns(self, row: Sequence[str]) -> list[str]:
        """Return the columns that the filter selects of a CSV row; raises FilterError."""
        value = _select(list(row), self.steps)
        return value if isinstance(value, list) else [value]


def _select(value: Any, steps: tuple[_Step, ...]) -> Any:
    for number, step in enumerate(steps, 1):
        value = step.apply(value)
        if isinstance(step, _SELECTS_MANY) and number < len(steps):
            return [_select(element, steps[number:]) for element in value]
    return value


def _member(value: Any, name: str) -> Any:
    if not isinstance(value, dict):
        raise FilterError(f"there is no member '{name}' in {_kind(value)}")
    if name not in value:
        raise FilterError(f"there is no member '{name}' in the object")
    return value[name]


def _array(value: Any, step: str) -> list[Any]:
    if not isinstance(value, list):
        raise FilterError(f"{step} needs an array, got {_kind(value)}")
    return value


def _position(index: int, size: int) -> int:
    position = index + size if index < 0 else index
    if not 0 <= position < size:
        raise FilterError(f"index {index} is outside of {size} elements")
    return position


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array"
    if isinstance(value, str):
        return "a string"
    if value is None or isinstance(value, bool):
        return "null" if value is None else "a boolean"
    return "a number"


def parse_filter(text: str, content_type: str, *, member: str = "InputFilter", extended: bool = False) -> Filter:
    """Parse a filter in the syntax of a media type.

    Args:
        text: Such as `$[1:]` or `$['id','SageMakerOutput']`.
        content_type: text/csv, application/json or application/jsonlines; for `$` it may be anything.
        member: The request's member, for messages.
        extended: Whether the extended syntax is taken.

    Raises:
        InvalidFilter: What is wrong and where.
    """
    if len(text) > FILTER_LIMIT:
        raise InvalidFilter(
            f'Invalid {member}: "{text}". It must have at most {FILTER_LIMIT} characters, got {len(text)}'
        )
    if text == "$":
        return Filter(text, ())
    media_type = format_of(content_type)
    if media_type is None:
        raise InvalidFilter(
            f'Invalid {member}: "{text}". Filters other than "$" need a content type of '
            f"[{', '.join(Format.ALL)}], got {content_type!r}"
        )
    if not extended:
        _check_characters(text, media_type, member)
    return Filter(text, tuple(_Parser(text, member, csv=media_type == Format.CSV, extended=extended).parse()))


def _check_characters(text: str, media_type: str, member: str) -> None:
    csv = media_type == Format.CSV
    operators = _CSV_OPERATORS if csv else _JSON_OPERATORS
    for char in text:
        allowed = char in operators or (char in "0123456789" if csv else char.isalnum())
        if not allowed:
            supported = ", ".join(f"'{operator}'" for operator in operators)
            raise InvalidFilter(
                f'Invalid {member}: "{text}". Unexpected "{char}" in JsonPath. '
                f'Supported operators for "{media_type}" are [{supported}]'
            )


class _Parser:
    """Recursive descent over one filter text."""

    def __init__(self, text: str, member: str, *, csv: bool, extended: bool) -> None:
        self._text = text
        self._member = member
        self._csv = csv
        self._extended = extended
        self._at = 0

    def parse(self) -> list[_Step]:
        if not self._text.startswith("$"):
            raise self._invalid('it must start with "$"')
        self._at = 1
        steps: list[_Step] = []
        while self._at < len(self._text):
            steps.append(self._step())
        if self._csv and (len(steps) != 1 or isinstance(steps[0], _Name | _Names)):
            raise self._invalid("rows of text/csv have columns only: one bracket is allowed")
        return steps

    def _step(self) -> _Step:
        char = self._text[self._at]
        if char == ".":
            self._at += 1
            if self._text[self._at : self._at + 1] == "[":
                return self._bracket(after_dot=True)
            return self._dotted()
        if char == "[":
            return self._bracket(after_dot=False)
        raise self._invalid(f'expected "." or "[" at position {self._at}, got "{char}"')

    def _dotted(self) -> _Step:
        start = self._at
        while self._at < len(self._text) and self._text[self._at] not in "$[].,:*' ":
            self._at += 1
        name = self._text[start : self._at]
        if name:
            return _Name(name)
        if self._text[start : start + 1] == "*":
            self._at += 1
            return _Wildcard()
        raise self._invalid(f"expected a name at position {start}")

    def _bracket(self, *, after_dot: bool) -> _Step:
        end = self._closing_bracket()
        inner = self._text[self._at + 1 : end]
        self._at = end + 1
        content = inner.strip(" ")
        if content.startswith("'"):
            return self._names(inner)
        if after_dot:
            raise self._invalid("only names in quotes may stand in a bracket after a dot")
        if content == "*":
            return _Wildcard()
        if ":" in content and "," in content and self._extended:
            return _Union(tuple(self._slice(part) if ":" in part else self._index(part) for part in inner.split(",")))
        if ":" in content:
            return self._slice(inner)
        indexes = tuple(self._integer(part) for part in content.split(","))
        return _Index(indexes[0]) if len(indexes) == 1 else _Indexes(indexes)

    def _closing_bracket(self) -> int:
        quoted = False
        for position in range(self._at + 1, len(self._text)):
            char = self._text[position]
            if char == "'":
                quoted = not quoted
            elif char == "]" and not quoted:
                return position
        raise self._invalid(f'the "[" at position {self._at} is not closed')

    def _names(self, inner: str) -> _Step:
        names = []
        rest = inner.strip(" ")
        while True:
            end = rest.find("'", 1)
            if not rest.startswith("'") or end < 0:
                raise self._invalid(f"[{inner}] must hold names in single quotes, separated by commas")
            name = rest[1:end]
            if not name:
                raise self._invalid(f"[{inner}] has an empty name")
            names.append(name)
            rest = rest[end + 1 :].lstrip(" ")
            if not rest:
                break
            if not rest.startswith(","):
                raise self._invalid(f"[{inner}] must hold names in single quotes, separated by commas")
            rest = rest[1:].lstrip(" ")
        if len(names) == 1:
            return _Name(names[0])
        for name in names:
            if "." in name:
                raise self._invalid(f"nested name '{name}' cannot stand in a bracket with several names")
        return _Names(tuple(names))

    def _index(self, text: str) -> _Index:
        return _Index(self._integer(text))

    def _slice(self, inner: str) -> _Slice:
        parts = inner.split(":")
        if len(parts) != 2 or "," in inner:
            raise InvalidFilter(
                f"Invalid JsonPath: {self._text}: only single range filters of format (eg: [1:5]) are supported. "
                f"Format [{inner}] is not supported"
            )
        start, end = (None if not part.strip(" ") else self._integer(part) for part in parts)
        return _Slice(start, end)

    def _integer(self, text: str) -> int:
        digits = text.strip(" ")
        if not digits.removeprefix("-").isdigit() or not digits.isascii():
            raise self._invalid(f'expected a column number, got "{digits}"')
        number = int(digits)
        if abs(number) > LARGEST_NUMBER:
            raise self._invalid(f"a column number must be between -{LARGEST_NUMBER} and {LARGEST_NUMBER}, got {digits}")
        return number

    def _invalid(self, why: str) -> InvalidFilter:
        return InvalidFilter(f'Invalid {self._member}: "{self._text}". Invalid JsonPath: {why}')
