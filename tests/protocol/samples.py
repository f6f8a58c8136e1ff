"""Values for any shape of a model: every member filled, recursion cut at the second level."""

from datetime import UTC, datetime
from typing import Any

__all__ = ["sample"]

MOMENT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def sample(shape: Any, *, above: tuple[str, ...] = ()) -> Any:
    """Return a value of the shape that uses every member; a shape inside itself is left empty."""
    kind = shape.type_name
    if kind == "structure":
        if getattr(shape, "is_document_type", False):
            return {"any": ["thing", 1]}
        if shape.name in above:
            return {}
        inner = (*above, shape.name)
        if getattr(shape, "is_tagged_union", False):
            name = next(iter(shape.members))
            return {name: sample(shape.members[name], above=inner)}
        return {name: sample(member, above=inner) for name, member in shape.members.items()}
    if kind == "list":
        if shape.name in above:
            return []
        return [sample(shape.member, above=(*above, shape.name))]
    if kind == "map":
        if shape.name in above:
            return {}
        return {_key(shape.key): sample(shape.value, above=(*above, shape.name))}
    return _scalar(shape)


def _key(shape: Any) -> str:
    values: list[str] = shape.metadata.get("enum") or ["key"]
    return values[0]


def _scalar(shape: Any) -> Any:
    kind = shape.type_name
    if shape.metadata.get("enum"):
        return shape.metadata["enum"][-1]
    if kind in ("integer", "long"):
        return max(int(shape.metadata.get("min", 0)), 3)
    if kind in ("float", "double"):
        return 0.5
    if kind == "boolean":
        return True
    if kind == "timestamp":
        return MOMENT
    if kind == "blob":
        return b"\x00\xff blob"
    if shape.serialization.get("location") == "header":
        return "plain, text"
    return "tëxt <&> \"q\" 'a' ]]> x/y%20+z"
