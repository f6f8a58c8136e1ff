"""The query codec: a form of flattened names to parameters, walking the shape; answers are XML. It knows no HTTP."""

from collections.abc import Iterable
from typing import Any

from millrace.protocol.wire_values import BadValue, Reader, text_reader

__all__ = ["MAX_SEGMENTS", "Field", "QueryReaders", "parse_form_tree"]

MAX_SEGMENTS = 64
"""Dots in one field name beyond which a form is refused."""


class Field:
    """One place in the form: its own text, and the places below it."""

    __slots__ = ("children", "text")

    def __init__(self) -> None:
        self.text: str | None = None
        self.children: dict[str, Field] = {}


def parse_form_tree(pairs: Iterable[tuple[str, str]]) -> Field:
    """Arrange `A.member.1.B=x` pairs as a tree.

    Raises:
        BadValue: A name has too many segments.
    """
    root = Field()
    for name, value in pairs:
        segments = name.split(".")
        if len(segments) > MAX_SEGMENTS:
            raise BadValue(f"field names must have at most {MAX_SEGMENTS} segments, got {len(segments)}")
        place = root
        for segment in segments:
            child = place.children.get(segment)
            if child is None:
                child = place.children[segment] = Field()
            place = child
        place.text = value
    return root


class QueryReaders:
    """Builds, once per shape, the function that reads a Field; fields unknown to the shape are ignored."""

    def __init__(self) -> None:
        self._structures: dict[str, Reader] = {}

    def reader(self, shape: Any) -> Reader:
        """Return the reader of a shape."""
        kind = shape.type_name
        if kind == "structure":
            return self._structure(shape)
        if kind == "list":
            below = None if shape.serialization.get("flattened") else shape.member.serialization.get("name", "member")
            return self._list(self.reader(shape.member), below)
        if kind == "map":
            return self._map(shape)
        scalar = text_reader(shape)

        def read(field: Field) -> Any:
            return None if field.text is None else scalar(field.text)

        return read

    def _structure(self, shape: Any) -> Reader:
        known = self._structures.get(shape.name)
        if known is not None:
            return known
        plan: list[tuple[str, tuple[str, ...], Reader]] = []

        def read(field: Field) -> dict[str, Any]:
            result = {}
            name = ""
            try:
                for name, keys, reader in plan:
                    for key in keys:
                        child = field.children.get(key)
                        value = None if child is None else reader(child)
                        if value is not None:
                            result[name] = value
                            break
            except BadValue as bad:
                bad.path.append(name)
                raise
            return result

        self._structures[shape.name] = read
        for name, member in shape.members.items():
            plan.append((name, _member_keys(name, member), self.reader(member)))
        return read

    @staticmethod
    def _list(element: Reader, below: str | None) -> Reader:
        def read(field: Field) -> list[Any] | None:
            place = field if below is None else field.children.get(below)
            if place is None or not place.children:
                return [] if field.text == "" else None
            return [value for child in _in_order(place) if (value := element(child)) is not None]

        return read

    def _map(self, shape: Any) -> Reader:
        below = None if shape.serialization.get("flattened") else "entry"
        key_name = shape.key.serialization.get("name", "key")
        value_name = shape.value.serialization.get("name", "value")
        value_reader = self.reader(shape.value)

        def read(field: Field) -> dict[str, Any] | None:
            place = field if below is None else field.children.get(below)
            if place is None or not place.children:
                return {} if field.text == "" else None
            result = {}
            for child in _in_order(place):
                key, value = child.children.get(key_name), child.children.get(value_name)
                if key is None or key.text is None or value is None:
                    raise BadValue(f"expected {key_name} and {value_name} in each entry")
                result[key.text] = value_reader(value)
            return result

        return read


def _member_keys(name: str, shape: Any) -> tuple[str, ...]:
    """Return the names that a member may have in the form; a flattened list goes by its element's name."""
    own = shape.serialization.get("name", name)
    if shape.type_name == "list" and shape.serialization.get("flattened"):
        element = shape.member.serialization.get("name")
        if element and element != own:
            return (element, own)
    return (own,)


def _in_order(place: Field) -> list[Field]:
    try:
        return [child for _, child in sorted((int(index), child) for index, child in place.children.items())]
    except ValueError:
        raise BadValue(f"expected numbers as indices, got {sorted(place.children)[0]!r}") from None
    except TypeError:
        raise BadValue("expected each index once") from None
