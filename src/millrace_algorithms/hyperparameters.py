"""Check hyperparameters against a declaration, with the error texts of SageMaker's JSON schemas."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from millrace_algorithms.errors import InputError

__all__ = ["AUTO", "Hyperparameter", "Kind", "Value", "validate", "validate_channels"]

AUTO = "auto"
Value = int | float | bool | str | list[Any] | None

_BOOLEANS = {"true": True, "false": False}


class Kind(Enum):
    """The type of a hyperparameter; the wire form is always text."""

    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    CHOICE = "choice"
    INTEGER_CHOICE = "integer choice"
    TEXT = "text"
    LIST = "list"
    """JSON text of an array."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hyperparameter:
    """The declaration of one hyperparameter."""

    kind: Kind
    required: bool = False
    default: Value = None
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str | int, ...] = ()
    auto: bool = False
    """Whether the text `auto` is allowed."""

    def text_schema(self) -> dict[str, Any]:
        """Return the JSON schema of the value as it arrives: text, or the JSON value itself."""
        match self.kind:
            case Kind.INTEGER:
                forms = self._integer_forms()
            case Kind.NUMBER:
                pattern = r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$"
                forms = [{"type": "string", "pattern": pattern}, {"type": "number"}]
            case Kind.BOOLEAN:
                pattern = "^([Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee])$"
                forms = [{"type": "string", "pattern": pattern}, {"type": "boolean"}]
            case Kind.INTEGER_CHOICE:
                return {"enum": [str(c) for c in self.choices] + list(self.choices)}
            case Kind.CHOICE:
                return {"enum": list(self.choices)}
            case Kind.TEXT:
                return {"type": "string"}
            case Kind.LIST:
                forms = [{"type": "string", "pattern": r"^\s*\[.*\]\s*$"}, {"type": "array"}]
        if self.auto:
            forms = [{"enum": [AUTO]}, *forms]
        return {"oneOf": forms}

    def _integer_forms(self) -> list[dict[str, Any]]:
        """Return the forms of an integer; "-1" style minima widen the documented pattern."""
        if self.minimum is not None and self.minimum >= 1:
            pattern = "^([1-9][0-9]*)$"
        elif self.minimum is not None and self.minimum >= 0:
            pattern = "^(0|[1-9][0-9]*)$"
        else:
            pattern = "^(-?[1-9][0-9]*|0)$"
        number: dict[str, Any] = {"type": "integer"}
        if self.minimum is not None:
            number["minimum"] = int(self.minimum)
        return [{"type": "string", "pattern": pattern}, number]

    def value_schema(self) -> dict[str, Any]:
        """Return the JSON schema of the converted value: its range."""
        schema: dict[str, Any] = {}
        if self.kind in (Kind.INTEGER, Kind.NUMBER):
            as_number = int if self.kind is Kind.INTEGER else float
            if self.minimum is not None:
                schema["minimum"] = as_number(self.minimum)
            if self.maximum is not None:
                schema["maximum"] = as_number(self.maximum)
        return schema

    def convert(self, given: Any) -> Value:
        """Return the typed value of one that fits `text_schema`."""
        if self.auto and given == AUTO:
            return AUTO
        match self.kind:
            case Kind.INTEGER | Kind.INTEGER_CHOICE:
                return int(given)
            case Kind.NUMBER:
                return float(given)
            case Kind.BOOLEAN:
                return given if isinstance(given, bool) else _BOOLEANS[given.lower()]
            case Kind.LIST:
                return list(json.loads(given)) if isinstance(given, str) else list(given)
            case _:
                return str(given)


def validate(declared: Mapping[str, Hyperparameter], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the typed value of every declared hyperparameter, defaults filled in.

    Names that start with an underscore belong to the tuning service: declared ones are read, others ignored.

    Raises:
        InputError: In the words of the `jsonschema` library, which SageMaker's own messages are made by.
    """
    public = {name: value for name, value in given.items() if not name.startswith("_") or name in declared}
    _check(
        public,
        {
            "type": "object",
            "additionalProperties": False,
            "required": [name for name, parameter in declared.items() if parameter.required],
            "properties": {name: parameter.text_schema() for name, parameter in declared.items()},
        },
    )
    values: dict[str, Any] = {}
    for name, parameter in declared.items():
        if name not in public:
            values[name] = parameter.default
            continue
        try:
            values[name] = parameter.convert(public[name])
        except ValueError as exc:
            raise InputError(f"hyperparameter {name} must be JSON text of a list, got {public[name]!r}: {exc}") from exc
    ranged = {name: value for name, value in values.items() if isinstance(value, int | float)}
    _check(ranged, {"properties": {name: declared[name].value_schema() for name in ranged}})
    return values


def validate_channels(given: Mapping[str, Any], *, required: tuple[str, ...], optional: tuple[str, ...]) -> None:
    """Raise InputError unless the channels given are those that the algorithm reads."""
    _check(
        {name: {} for name in given},
        {
            "type": "object",
            "additionalProperties": False,
            "required": list(required),
            "properties": {name: {} for name in (*required, *optional)},
        },
    )


def _check(instance: Any, schema: dict[str, Any]) -> None:
    import jsonschema  # 100 ms of import that serving never needs

    errors = list(jsonschema.Draft7Validator(schema).iter_errors(instance))
    if not errors:
        return
    # An unknown name first: it is usually a typo of the required one that is missing as well.
    error = min(errors, key=lambda e: (e.validator != "additionalProperties", e.validator != "required"))
    # Faults of the whole set name the property themselves; those of one value need the path, which str() gives.
    raise InputError(error.message if error.validator in ("additionalProperties", "required") else str(error))
