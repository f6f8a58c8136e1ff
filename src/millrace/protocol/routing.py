"""Which operation a request asks for: by target, by action, or by method, path, query and headers."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from millrace.errors import UnknownOperation
from millrace.protocol.faults import NoSuchRoute
from millrace.protocol.targets import decode_component, parse_pairs

__all__ = ["Match", "RestRoutes", "target_operation"]

_LABEL = re.compile(r"\{(\w+)(\+)?\}")


class Match(NamedTuple):  # made for every request: a frozen dataclass takes three times as long
    """An operation's name and the decoded labels of its path."""

    operation: str
    labels: Mapping[str, str] = MappingProxyType({})


def target_operation(target: str | None, prefix: str, names: Collection[str]) -> Match:
    """Return the operation of an `X-Amz-Target: Prefix.Operation` header.

    Raises:
        UnknownOperation: The header is missing or names no operation of the service.
    """
    if target is None:
        raise UnknownOperation(f"the X-Amz-Target header must be {prefix}.<Operation>, but there is none")
    stated, _, operation = target.partition(".")
    if stated != prefix or operation not in names:
        raise UnknownOperation(f"X-Amz-Target must name an operation as {prefix}.<Operation>, got {target[:200]!r}")
    return Match(operation=operation)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Candidate:
    """One operation on a path: what must be in the query and the headers for it to be meant."""

    operation: str
    fixed: tuple[tuple[str, str], ...]
    query_names: frozenset[str]
    header_names: frozenset[str]

    @property
    def rank(self) -> tuple[int, int]:
        return -len(self.fixed), -len(self.query_names) - len(self.header_names)

    def matches(self, query: Mapping[str, str], headers: Mapping[str, str]) -> bool:
        return (
            all(name in query and value in ("", query[name]) for name, value in self.fixed)
            and self.query_names <= query.keys()
            and self.header_names <= headers.keys()
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Path:
    """One path template of one method, and its operations, most specific first."""

    expression: re.Pattern[bytes]
    labels: tuple[str, ...]
    weight: tuple[int, int]
    candidates: list[_Candidate]
    without_query: list[_Candidate]
    """Those that need no parameters in the query."""


class RestRoutes:
    """The routes of a REST service, built once from its model.

    Paths are matched raw: a label takes what stands between two slashes, a greedy one (`{Key+}`) all of the rest.
    Among operations on one path the one with the most fixed query parameters wins, then the one with the most
    required parameters and headers: `PUT /b/k` is CopyObject if it has x-amz-copy-source.
    """

    def __init__(self, model: Any) -> None:
        self._service = model.service_name
        # A trailing slash is part of an S3 key, and noise elsewhere.
        self._strict = model.service_name == "s3"
        tables: dict[str, dict[str, list[_Candidate]]] = {}
        for name in model.operation_names:
            operation = model.operation_model(name)
            if name in _SHADOWED:
                continue
            template, _, fixed = operation.http["requestUri"].partition("?")
            candidate = _candidate(operation, fixed)
            tables.setdefault(operation.http["method"], {}).setdefault(template, []).append(candidate)
        self._methods = {
            method: sorted((self._path(t, c) for t, c in paths.items()), key=lambda path: path.weight)
            for method, paths in tables.items()
        }

    def _path(self, template: str, candidates: list[_Candidate]) -> _Path:
        pieces = []
        labels = []
        position = 0
        for label in _LABEL.finditer(template):
            pieces.append(re.escape(template[position : label.start()]))
            pieces.append("(.+)" if label[2] else "([^/]+)")
            labels.append(label[1])
            position = label.end()
        rest = template[position:]
        pieces.append(re.escape(rest if self._strict else rest.rstrip("/")))
        ranked = sorted(candidates, key=lambda candidate: candidate.rank)
        literal = len(_LABEL.sub("", template))
        ending = "/?" if labels == ["Bucket"] or not self._strict else ""
        return _Path(
            expression=re.compile("".join([*pieces, ending]).encode(), re.DOTALL),
            labels=tuple(labels),
            weight=("+}" in template, -literal),
            candidates=ranked,
            without_query=[candidate for candidate in ranked if not candidate.fixed and not candidate.query_names],
        )

    def find(self, method: str, path: bytes, query: Mapping[str, str], headers: Mapping[str, str]) -> Match:
        """Return the operation.

        Raises:
            NoSuchRoute: There is none for this method and path; the message names both.
            BadTarget: A label does not decode.
        """
        for route in self._methods.get(method, ()):
            found = route.expression.fullmatch(path)
            if found is None:
                continue
            # Without a query, as most requests of objects are, few candidates can be meant.
            for candidate in route.candidates if query else route.without_query:
                if candidate.matches(query, headers):
                    labels = {
                        name: decode_component(raw) for name, raw in zip(route.labels, found.groups(), strict=True)
                    }
                    return Match(operation=candidate.operation, labels=labels)
        raise NoSuchRoute(
            f"{self._service} has no operation for {method[:20]} {path[:200].decode('latin-1')}"
            + (f" with the parameters {', '.join(list(query)[:20])}" if query else "")
        )


# Operations on the same method, path and parameters as a newer or commoner one.
_SHADOWED = frozenset(
    {
        "GetBucketLifecycle",
        "GetBucketNotification",
        "ListDirectoryBuckets",
        "PutBucketLifecycle",
        "PutBucketNotification",
        "WriteGetObjectResponse",
    }
)


def _candidate(operation: Any, fixed: str) -> _Candidate:
    query_names: set[str] = set()
    header_names: set[str] = set()
    # Only S3 tells operations apart so; elsewhere what is required and missing is an error, not another route.
    shape: Any = operation.input_shape if operation.service_model.service_name == "s3" else None
    for name in () if shape is None else shape.required_members:
        traits = shape.members[name].serialization
        if traits.get("location") == "querystring":
            query_names.add(traits["name"])
        elif traits.get("location") == "header":
            header_names.add(traits["name"].lower())
    # x-id only repeats the operation's name.
    pairs = tuple(pair for pair in parse_pairs(fixed.encode()) if pair[0] != "x-id")
    return _Candidate(
        operation=operation.name,
        fixed=pairs,
        query_names=frozenset(query_names),
        header_names=frozenset(header_names) & _ROUTING_HEADERS,
    )


# Headers whose presence tells operations apart; others that are required and missing are an error, not a route.
_ROUTING_HEADERS = frozenset({"x-amz-copy-source"})
