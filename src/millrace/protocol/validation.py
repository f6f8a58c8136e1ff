"""Parameters against the model's constraints, in AWS's own words."""

from collections.abc import Callable, Collection
from typing import Any

from millrace.errors import ValidationError
from millrace.protocol.patterns import compile_pattern

__all__ = ["Check", "Checks", "Problem", "ProblemList", "refuse"]

MAX_PROBLEMS_TOLD = 50
"""Violations that one answer spells out; the count names them all."""

MAX_PATTERN_CHARACTERS = 65_536
"""Longer text is not matched against a pattern: its length is refused where the model has a maximum."""

MAX_VALUE_CHARACTERS = 1_024
"""Characters of a refused value that the answer repeats."""


class Problem:
    """One violation; `path` is collected innermost first."""

    __slots__ = ("path", "rule", "value")

    def __init__(self, rule: str, value: Any) -> None:
        self.rule = rule
        self.value = value
        self.path: list[str] = []

    def __str__(self) -> str:
        path = ".".join(reversed(self.path))
        return f"{_quoted(self.value)} at '{path}' failed to satisfy constraint: {self.rule}"


ProblemList = list[Problem]
Check = Callable[[Any, ProblemList], None]
_Rule = tuple[Callable[[Any], bool], str]

_NOT_NULL = "Member must not be null"


def refuse(problems: ProblemList) -> ValidationError:
    """Return the error that lists the problems as the services word it."""
    count = len(problems)
    told = "; ".join(str(problem) for problem in problems[:MAX_PROBLEMS_TOLD])
    return ValidationError(f"{count} validation error{'s' if count > 1 else ''} detected: {told}")


def _quoted(value: Any) -> str:
    if value is None:
        return "Value null"
    if isinstance(value, bytes):
        return f"Value of {len(value)} bytes"
    text = _java_text(value)
    return f"Value '{text if len(text) <= MAX_VALUE_CHARACTERS else text[:MAX_VALUE_CHARACTERS] + '...'}'"


def _java_text(value: Any) -> str:
    """Return a value as the services print it: `[a, b]`, `{k=v}`, `true`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}={_java_text(entry)}" for key, entry in _first(value.items())) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_java_text(entry) for entry in _first(value)) + "]"
    return str(value)


def _first(entries: Collection[Any]) -> list[Any]:
    # Beyond this the text is cut anyway.
    return list(entries)[:MAX_VALUE_CHARACTERS]


def _camel(name: str) -> str:
    return name[:1].lower() + name[1:]


class Checks:
    """Builds, once per shape, the function that appends what is wrong with a value to a list.

    A shape without constraints, here and below, has no function.
    """

    def __init__(self) -> None:
        self._structures: dict[str, Check | None] = {}

    def check(self, shape: Any) -> Check | None:
        """Return the check of a shape."""
        kind = shape.type_name
        if kind == "structure":
            return self._structure(shape)
        rules = _rules(shape)
        if kind == "list":
            return self._list(shape, rules)
        if kind == "map":
            return self._map(shape, rules)
        return _scalar_check(rules) if rules else None

    def _structure(self, shape: Any) -> Check | None:
        if getattr(shape, "is_document_type", False) or shape.serialization.get("eventstream"):
            return None
        if shape.name in self._structures:
            return self._structures[shape.name]
        required: list[tuple[str, str]] = []
        members: dict[str, tuple[str, Check]] = {}
        self._structures[shape.name] = check = _structure_check(required, members)
        for name, member in shape.members.items():
            member_check = self.check(member)
            if member_check is not None:
                members[name] = (_camel(name), member_check)
        required.extend((name, _camel(name)) for name in shape.required_members)
        if not required and not members:
            self._structures[shape.name] = None
            return None
        return check

    def _list(self, shape: Any, rules: list[_Rule]) -> Check:
        own = _scalar_check(rules) if rules else None
        element_rules = _rules(shape.member)
        if shape.member.type_name not in ("structure", "list", "map"):
            return _scalar_list_check(own, element_rules)
        return _nested_list_check(own, self.check(shape.member))

    def _map(self, shape: Any, rules: list[_Rule]) -> Check:
        own = _scalar_check(rules) if rules else None
        key_rules = _rules(shape.key)
        if shape.value.type_name not in ("structure", "list", "map"):
            return _map_check(own, key_rules, _rules(shape.value), None)
        return _map_check(own, key_rules, [], self.check(shape.value))


def _rules(shape: Any) -> list[_Rule]:
    """Return a shape's own constraints as (test, wording), in the services' order."""
    traits = shape.metadata
    kind = shape.type_name
    rules: list[_Rule] = []
    if "max" in traits or "min" in traits:
        rules.extend(_bounds(kind, traits.get("min"), traits.get("max"), streaming="streaming" in shape.serialization))
    if kind == "string" and "pattern" in traits:
        rules.extend(_pattern_rule(traits["pattern"]))
    if kind == "string" and traits.get("enum"):
        allowed = frozenset(traits["enum"])
        rules.append((allowed.__contains__, f"Member must satisfy enum value set: [{', '.join(traits['enum'])}]"))
    return rules


def _bounds(kind: str, low: Any, high: Any, *, streaming: bool) -> list[_Rule]:
    rules: list[_Rule] = []
    if kind in ("integer", "long", "float", "double"):
        if high is not None:
            most = float(high) if kind in ("float", "double") else int(high)
            rules.append((lambda value: value <= most, f"Member must have value less than or equal to {high}"))
        if low is not None:
            least = float(low) if kind in ("float", "double") else int(low)
            rules.append((lambda value: value >= least, f"Member must have value greater than or equal to {low}"))
    elif kind in ("string", "list", "map", "blob") and not streaming:
        if high is not None:
            longest = int(high)
            rules.append((lambda value: len(value) <= longest, f"Member must have length less than or equal to {high}"))
        if low:
            shortest = int(low)
            rules.append(
                (lambda value: len(value) >= shortest, f"Member must have length greater than or equal to {low}")
            )
    return rules


def _pattern_rule(pattern: str) -> list[_Rule]:
    # Compiled at the first value: one operation's tree has hundreds of patterns, a request meets a dozen.
    matcher: list[Callable[[str], Any] | None] = []

    def matches(value: str) -> bool:
        if not matcher:
            compiled = compile_pattern(pattern)
            matcher.append(None if compiled is None else compiled.fullmatch)
        match = matcher[0]
        return match is None or len(value) > MAX_PATTERN_CHARACTERS or match(value) is not None

    return [(matches, f"Member must satisfy regular expression pattern: {pattern}")]


def _scalar_check(rules: list[_Rule]) -> Check:
    def check(value: Any, problems: ProblemList) -> None:
        for test, rule in rules:
            if not test(value):
                problems.append(Problem(rule, value))

    return check


def _structure_check(required: list[tuple[str, str]], members: dict[str, tuple[str, Check]]) -> Check:
    def check(value: Any, problems: ProblemList) -> None:
        for name, camel in required:
            if name not in value:
                problem = Problem(_NOT_NULL, None)
                problem.path.append(camel)
                problems.append(problem)
        before = len(problems)
        for name, entry in value.items():
            if name in members:
                camel, member_check = members[name]
                member_check(entry, problems)
                if len(problems) > before:
                    for problem in problems[before:]:
                        problem.path.append(camel)
                    before = len(problems)

    return check


def _all_rules(rules: list[_Rule]) -> str:
    return f"[{', '.join(wording for _, wording in rules)}]"


def _scalar_list_check(own: Check | None, rules: list[_Rule]) -> Check:
    rule = f"Member must satisfy constraint: {_all_rules(rules)}"

    def check(value: Any, problems: ProblemList) -> None:
        if own is not None:
            own(value, problems)
        if None in value:
            problems.append(Problem(f"Member must satisfy constraint: [{_NOT_NULL}]", value))
        elif any(not test(entry) for test, _ in rules for entry in value):
            problems.append(Problem(rule, value))

    return check


def _nested_list_check(own: Check | None, element: Check | None) -> Check:
    def check(value: Any, problems: ProblemList) -> None:
        if own is not None:
            own(value, problems)
        for index, entry in enumerate(value, 1):
            before = len(problems)
            if entry is None:
                problems.append(Problem(_NOT_NULL, None))
            elif element is not None:
                element(entry, problems)
            if len(problems) > before:
                for problem in problems[before:]:
                    problem.path.append(f"{index}.member")

    return check


def _map_check(own: Check | None, key_rules: list[_Rule], value_rules: list[_Rule], element: Check | None) -> Check:
    key_rule = f"Map keys must satisfy constraint: {_all_rules(key_rules)}"
    value_rule = f"Map value must satisfy constraint: {_all_rules(value_rules)}"

    def check(value: Any, problems: ProblemList) -> None:
        if own is not None:
            own(value, problems)
        if any(not test(key) for test, _ in key_rules for key in value):
            problems.append(Problem(key_rule, value))
        entries = value.values()
        if None in entries:
            problems.append(Problem(f"Map value must satisfy constraint: [{_NOT_NULL}]", value))
            return
        if any(not test(entry) for test, _ in value_rules for entry in entries):
            problems.append(Problem(value_rule, value))
        if element is not None:
            for key, entry in value.items():
                before = len(problems)
                element(entry, problems)
                if len(problems) > before:
                    for problem in problems[before:]:
                        problem.path.append(f"{key}.member")

    return check
