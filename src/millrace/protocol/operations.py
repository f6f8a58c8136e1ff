"""Operations ready to be served: how to parse, check and answer each, built once from its model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from millrace.errors import ApiError, S3Error, UnknownOperation
from millrace.protocol import json
from millrace.protocol.bindings import Arguments, JsonFormat, Parse, RestReader, RestWriter, Serialize, XmlFormat
from millrace.protocol.eventstream import encode_message, event_encoder, event_stream
from millrace.protocol.faults import malformed
from millrace.protocol.json import JsonReaders, JsonWriters
from millrace.protocol.message import Response
from millrace.protocol.models import WireProtocol, service_model, wire_protocol
from millrace.protocol.query import QueryReaders, parse_form_tree
from millrace.protocol.routing import Match, RestRoutes, target_operation
from millrace.protocol.timestamps import TimestampFormat
from millrace.protocol.validation import Checks, ProblemList, refuse
from millrace.protocol.wire_values import BadArgument, BadValue
from millrace.protocol.xml import XmlWriters, escape

__all__ = ["Operation", "Service", "service"]

_Validate = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """One operation in one protocol.

    `parse` raises MalformedRequest, `validate` raises ValidationError. `streams` says that the body is handed to the
    handler as it arrives; else it is read whole, and `body_limit` is what the model itself allows for it (0: nothing
    said). `unsigned` operations are those that give out keys, such as AssumeRoleWithWebIdentity.
    """

    service: str
    name: str
    protocol: WireProtocol
    streams: bool
    body_limit: int
    unsigned: bool
    parse: Parse
    validate: _Validate
    serialize: Serialize


class Service:
    """One service: finds its operations in requests and builds them on first use."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.model = service_model(name)
        self.protocol = wire_protocol(self.model)
        self._names = frozenset(self.model.operation_names)
        self._operations: dict[tuple[str, WireProtocol], Operation] = {}
        self._checks = Checks()
        self._routes: RestRoutes | None = None
        self._builders: dict[WireProtocol, Callable[[Any], tuple[Parse, Serialize, bool]]] = {
            WireProtocol.JSON: _JsonBuilder(self.model).build,
            WireProtocol.QUERY: _QueryBuilder(self.model).build,
            WireProtocol.REST_JSON: _RestBuilder(JsonFormat()).build,
            WireProtocol.REST_XML: _RestBuilder(XmlFormat()).build,
        }

    def match_target(self, target: str | None) -> Match:
        """Return the operation of a JSON request; raises UnknownOperation."""
        return target_operation(target, self.model.metadata.get("targetPrefix", ""), self._names)

    def match_action(self, action: str | None) -> Match:
        """Return the operation of a query request; raises UnknownOperation."""
        if action is None or action not in self._names:
            raise UnknownOperation(f"{self.name} has no operation {(action or '')[:200]!r} (parameter Action)")
        return Match(operation=action)

    def match_route(self, method: str, path: bytes, query: Mapping[str, str], headers: Mapping[str, str]) -> Match:
        """Return the operation of a REST request; raises NoSuchRoute or BadTarget."""
        if self._routes is None:
            self._routes = RestRoutes(self.model)
        return self._routes.find(method, path, query, headers)

    def operation(self, name: str, protocol: WireProtocol | None = None) -> Operation:
        """Return an operation by its name, in the service's own protocol if no other is asked for."""
        spoken = protocol or self.protocol
        key = (name, spoken)
        if key not in self._operations:
            self._operations[key] = self._build(name, spoken)
        return self._operations[key]

    def _build(self, name: str, protocol: WireProtocol) -> Operation:
        model = self.model.operation_model(name)
        parse, serialize, streams = self._builders[protocol](model)
        return Operation(
            service=self.name,
            name=name,
            protocol=protocol,
            streams=streams,
            body_limit=_modelled_limit(model),
            unsigned=model.auth_type == "none",
            parse=_translated(parse, self.name),
            validate=_s3_validator(model, self._checks) if self.name == "s3" else _validator(model, self._checks),
            serialize=serialize,
        )


@cache
def service(name: str) -> Service:
    """Return a service by botocore's name.

    Raises:
        KeyError: botocore knows no such service.
    """
    return Service(name)


def _modelled_limit(operation: Any) -> int:
    shape = operation.input_shape
    payload = None if shape is None else shape.serialization.get("payload")
    return 0 if payload is None else int(shape.members[payload].metadata.get("max", 0))


def _translated(parse: Parse, service_name: str) -> Parse:
    def translated(arguments: Arguments) -> dict[str, Any]:
        try:
            return parse(arguments)
        except BadArgument as bad:
            if service_name == "s3":
                raise S3Error("InvalidArgument", str(bad), status=400) from None
            raise malformed(bad) from None
        except BadValue as bad:
            raise malformed(bad) from None
        except UnicodeDecodeError:
            raise malformed(BadValue("expected UTF-8 in the body")) from None
        except RecursionError:
            raise malformed(BadValue("the body nests too deep")) from None

    return translated


def _validator(operation: Any, checks: Checks) -> _Validate:
    check = None if operation.input_shape is None else checks.check(operation.input_shape)
    if check is None:
        return lambda params: None

    def validate(params: dict[str, Any]) -> None:
        problems: ProblemList = []
        check(params, problems)
        if problems:
            raise refuse(problems)

    return validate


def _s3_validator(operation: Any, checks: Checks) -> _Validate:
    """Return S3's loose check: only what is missing is refused here, in S3's codes; the handlers know the rest."""
    shape = operation.input_shape
    if shape is None:
        return lambda params: None
    payload = shape.serialization.get("payload")
    body = shape.members.get(payload) if payload else None
    check = checks.check(body) if body is not None and body.type_name == "structure" else None

    def validate(params: dict[str, Any]) -> None:
        for name in shape.required_members:
            if name not in params:
                raise _s3_missing(name, shape.members[name])
        if check is not None and payload in params:
            problems: ProblemList = []
            check(params[payload], problems)
            for problem in problems:
                if problem.value is None:
                    raise _malformed_xml(str(problem))

    return validate


def _s3_missing(name: str, shape: Any) -> ApiError:
    location = shape.serialization.get("location")
    if location is None:
        return S3Error("MissingRequestBodyError", "Request Body is empty", status=400)
    wire_name = shape.serialization.get("name", name)
    kind = "header" if location == "header" else "parameter"
    return S3Error("InvalidRequest", f"Missing required {kind} for this request: {wire_name}", status=400)


def _malformed_xml(detail: str) -> ApiError:
    return S3Error(
        "MalformedXML",
        f"The XML you provided was not well-formed or did not validate against our published schema: {detail}",
        status=400,
    )


class _RestBuilder:
    """Builds operations of rest-json and rest-xml."""

    def __init__(self, documents: JsonFormat | XmlFormat) -> None:
        self._documents = documents

    def build(self, operation: Any) -> tuple[Parse, Serialize, bool]:
        reader = RestReader(operation, self._documents)
        return reader, RestWriter(operation, self._documents), reader.streams


class _JsonBuilder:
    """Builds operations of JSON 1.0 and 1.1."""

    def __init__(self, model: Any) -> None:
        self._readers = JsonReaders()
        self._writers = JsonWriters()
        self._content_type = f"application/x-amz-json-{model.metadata.get('jsonVersion', '1.1')}"

    def build(self, operation: Any) -> tuple[Parse, Serialize, bool]:
        return self._parser(operation.input_shape), self._serializer(operation.output_shape), False

    def _parser(self, shape: Any) -> Parse:
        if shape is None:
            return lambda arguments: {}
        reader = self._readers.reader(shape)
        return lambda arguments: reader(json.decode(arguments.content))  # type: ignore[arg-type]

    def _serializer(self, shape: Any) -> Serialize:
        headers = (("content-type", self._content_type),)
        if shape is None:
            return lambda result, request_id: Response(status=200, headers=headers)
        streams = [name for name, member in shape.members.items() if member.serialization.get("eventstream")]
        if streams:
            return self._stream_serializer(shape, streams[0])
        writer = self._writers.writer(shape)

        def serialize(result: Mapping[str, Any], request_id: str) -> Response:
            return Response(status=200, headers=headers, body=json.encode(writer(result)))

        return serialize

    def _stream_serializer(self, shape: Any, stream: str) -> Serialize:
        def structure_writer(structure: Any) -> Callable[[Any], bytes]:
            writer = self._writers.writer(structure)
            return lambda value: json.encode(writer(value))

        encode = event_encoder(shape.members[stream], structure_writer, self._content_type)
        others = self._writers.members_writer(shape, [name for name in shape.members if name != stream])

        def serialize(result: Mapping[str, Any], request_id: str) -> Response:
            # Members beside the stream go into a first message of their own.
            first = encode_message(
                {":event-type": "initial-response", ":message-type": "event", ":content-type": self._content_type},
                json.encode(others(result)),
            )

            async def messages() -> Any:
                yield first
                async for message in event_stream(result[stream], encode):
                    yield message

            return Response(
                status=200, headers=(("content-type", "application/vnd.amazon.eventstream"),), body=messages()
            )

        return serialize


class _QueryBuilder:
    """Builds operations of the query protocol: forms in, XML out."""

    def __init__(self, model: Any) -> None:
        self._readers = QueryReaders()
        self._writers = XmlWriters(TimestampFormat.ISO8601)
        self._namespace = escape(model.metadata.get("xmlNamespace", ""))

    def build(self, operation: Any) -> tuple[Parse, Serialize, bool]:
        return self._parser(operation.input_shape), self._serializer(operation), False

    def _parser(self, shape: Any) -> Parse:
        if shape is None:
            return lambda arguments: {}
        reader = self._readers.reader(shape)
        return lambda arguments: reader(parse_form_tree(arguments.query))

    def _serializer(self, operation: Any) -> Serialize:
        name = operation.name
        start = f'<{name}Response xmlns="{self._namespace}">'
        headers = (("content-type", "text/xml"),)
        shape = operation.output_shape
        wrapper = f"{name}Result" if shape is None else shape.serialization.get("resultWrapper", f"{name}Result")
        members = None if shape is None else self._writers.members(shape, shape.members)

        def serialize(result: Mapping[str, Any], request_id: str) -> Response:
            pieces = [start]
            if members is not None:
                pieces.append(f"<{wrapper}>")
                members(result, pieces)
                pieces.append(f"</{wrapper}>")
            pieces.append(f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{name}Response>")
            return Response(status=200, headers=headers, body="".join(pieces).encode("utf-8", "replace"))

        return serialize
