"""What of a shape goes in the path, the query string, a header or the body: the REST protocols' HTTP bindings."""

import base64
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from millrace.protocol import json, xml
from millrace.protocol.eventstream import EventEncoder, event_encoder, event_stream
from millrace.protocol.json import JsonReaders, JsonWriters
from millrace.protocol.message import Body, FileRegion, Response
from millrace.protocol.timestamps import TimestampFormat
from millrace.protocol.wire_values import BadArgument, BadValue, Reader, text_reader, text_writer
from millrace.protocol.xml import DECLARATION, XmlReaders, XmlWriters

__all__ = ["Arguments", "BodyFormat", "JsonFormat", "Parse", "RestReader", "RestWriter", "Serialize", "XmlFormat"]


class Arguments(NamedTuple):  # made for every request: a frozen dataclass takes three times as long
    """The parts of a request that parameters are read from.

    `content` is the whole body, or the Body itself where the operation takes it as a stream.
    """

    labels: Mapping[str, str] = MappingProxyType({})
    query: Sequence[tuple[str, str]] = ()
    headers: Mapping[str, str] = MappingProxyType({})
    content: bytes | Body = b""


Parse = Callable[[Arguments], dict[str, Any]]
Serialize = Callable[[Mapping[str, Any], str], Response]
"""From a result and the request id to the answer."""

_ReadDocument = Callable[[bytes], Any]
_WriteDocument = Callable[[Any], bytes]


class JsonFormat:
    """Documents of rest-json."""

    content_type = "application/json"

    def __init__(self) -> None:
        self._readers = JsonReaders()
        self._writers = JsonWriters()

    def payload_reader(self, shape: Any) -> _ReadDocument:
        """Return the reader of a body that is one structure."""
        reader = self._readers.reader(shape)
        return lambda content: reader(json.decode(content))

    def body_reader(self, shape: Any, names: list[str]) -> _ReadDocument:
        """Return the reader of a body that holds some members of a shape."""
        reader = self._readers.members_reader(shape, names)
        return lambda content: reader(json.decode(content))

    def payload_writer(self, shape: Any, name: str) -> _WriteDocument:
        """Return the writer of a body that is one structure."""
        writer = self._writers.writer(shape)
        return lambda value: json.encode(writer(value))

    def body_writer(self, operation: str, shape: Any, names: list[str]) -> _WriteDocument:
        """Return the writer of a body that holds some members of a shape."""
        writer = self._writers.members_writer(shape, names)
        return lambda value: json.encode(writer(value))


# What S3 calls the root of an answer; its model does not say, and botocore does not look, but other clients do.
_S3_ROOTS = {
    "CompleteMultipartUpload": "CompleteMultipartUploadResult",
    "CreateMultipartUpload": "InitiateMultipartUploadResult",
    "DeleteObjects": "DeleteResult",
    "GetBucketAccelerateConfiguration": "AccelerateConfiguration",
    "GetBucketAcl": "AccessControlPolicy",
    "GetBucketCors": "CORSConfiguration",
    "GetBucketLifecycleConfiguration": "LifecycleConfiguration",
    "GetBucketLogging": "BucketLoggingStatus",
    "GetBucketNotificationConfiguration": "NotificationConfiguration",
    "GetBucketRequestPayment": "RequestPaymentConfiguration",
    "GetBucketTagging": "Tagging",
    "GetBucketVersioning": "VersioningConfiguration",
    "GetBucketWebsite": "WebsiteConfiguration",
    "GetObjectAcl": "AccessControlPolicy",
    "GetObjectAttributes": "GetObjectAttributesResponse",
    "GetObjectTagging": "Tagging",
    "ListBuckets": "ListAllMyBucketsResult",
    "ListMultipartUploads": "ListMultipartUploadsResult",
    "ListObjectVersions": "ListVersionsResult",
    "ListObjects": "ListBucketResult",
    "ListObjectsV2": "ListBucketResult",
    "ListParts": "ListPartsResult",
}
_S3_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


class XmlFormat:
    """Documents of rest-xml."""

    content_type = "application/xml"

    def __init__(self) -> None:
        self._readers = XmlReaders()
        self._writers = XmlWriters(TimestampFormat.ISO8601_MILLIS)

    def payload_reader(self, shape: Any) -> _ReadDocument:
        """Return the reader of a body that is one structure."""
        reader = self._readers.reader(shape)
        return lambda content: reader(xml.parse_document(content))

    def body_reader(self, shape: Any, names: list[str]) -> _ReadDocument:
        """Return the reader of a body that holds some members of a shape."""
        reader = self._readers.members_reader(shape, names)
        return lambda content: reader(xml.parse_document(content))

    def payload_writer(self, shape: Any, name: str) -> _WriteDocument:
        """Return the writer of a body that is one structure; `name` is that of the payload member."""
        root = shape.serialization.get("name", shape.name)
        content = self._writers.element(shape, root)
        return lambda value: _document(root, content, value)

    def body_writer(self, operation: str, shape: Any, names: list[str]) -> _WriteDocument:
        """Return the writer of a body that holds some members of a shape."""
        root = _S3_ROOTS.get(operation) or shape.serialization.get("name", shape.name)
        if operation == "GetBucketLocation":
            return _write_location
        members = self._writers.members(shape, names)
        start = f'<{root} xmlns="{_S3_NAMESPACE}">'

        def write(value: Any) -> bytes:
            pieces = [DECLARATION, start]
            members(value, pieces)
            pieces.append(f"</{root}>")
            return "".join(pieces).encode("utf-8", "replace")

        return write


def _document(root: str, content: xml.Write, value: Any) -> bytes:
    pieces: list[str] = []
    content(value, pieces)
    if "xmlns=" not in pieces[0]:
        pieces[0] = pieces[0].replace(f"<{root}", f'<{root} xmlns="{_S3_NAMESPACE}"', 1)
    return (DECLARATION + "".join(pieces)).encode("utf-8", "replace")


def _write_location(value: Mapping[str, Any]) -> bytes:
    # The one answer whose root is the member itself; us-east-1 is the empty text.
    region = xml.escape(str(value.get("LocationConstraint") or ""))
    return f'{DECLARATION}<LocationConstraint xmlns="{_S3_NAMESPACE}">{region}</LocationConstraint>'.encode()


BodyFormat = JsonFormat | XmlFormat


class RestReader:
    """Reads the parameters of one operation; built once from its input shape."""

    def __init__(self, operation: Any, documents: BodyFormat) -> None:
        shape = operation.input_shape
        self._plan: list[tuple[str, Callable[[Arguments], Any]]] = []
        self._header_members: dict[str, tuple[str, Callable[[str], Any]]] = {}
        self._payload: str | None = None
        self._read_body: _ReadDocument | None = None
        self._takes_nothing = False
        self.streams = False
        if shape is None:
            return
        self._payload = shape.serialization.get("payload")
        in_body = []
        bound_query = _bound_query_names(operation)
        for name, member in shape.members.items():
            location = member.serialization.get("location")
            if location == "header":
                wire_name = member.serialization.get("name", name).lower()
                self._header_members[wire_name] = (name, _header_reader(wire_name, member))
            elif location is not None:
                self._plan.append((name, _part_reader(name, member, location, bound_query)))
            elif name != self._payload:
                in_body.append(name)
        if self._payload is not None:
            self._read_body = self._payload_reader(shape.members[self._payload], documents)
        elif in_body:
            self._read_body = documents.body_reader(shape, in_body)

    def _payload_reader(self, member: Any, documents: BodyFormat) -> _ReadDocument:
        if member.type_name == "blob":
            self.streams = bool(member.serialization.get("streaming"))
            self._takes_nothing = True  # no bytes are a blob, too
            return lambda content: content
        if member.type_name == "string":
            return lambda content: content.decode()
        if member.serialization.get("eventstream"):
            self.streams = True
            return lambda content: content
        return documents.payload_reader(member)

    def __call__(self, arguments: Arguments) -> dict[str, Any]:
        """Return the parameters; raises BadValue with the path, BadArgument outside of the body."""
        params = {}
        name = ""
        try:
            for name, read in self._plan:
                value = read(arguments)
                if value is not None:
                    params[name] = value
            # S3's operations have up to 40 such members: a request's few headers are looked up, not the members.
            members = self._header_members
            for header, text in arguments.headers.items():
                if header in members:
                    name, read_header = members[header]
                    value = read_header(text)
                    if value is not None:
                        params[name] = value
        except BadValue as bad:
            raise BadArgument(f"{name}: {bad}") from None
        self._add_body(params, arguments.content)
        return params

    def _add_body(self, params: dict[str, Any], content: bytes | Body) -> None:
        if self._read_body is None:
            return
        if not isinstance(content, bytes):
            if self._payload is not None:
                params[self._payload] = content
        elif self._payload is None:
            if content:
                params.update(self._read_body(content))
        elif content or self._takes_nothing:
            params[self._payload] = self._read_body(content)


def _bound_query_names(operation: Any) -> frozenset[str]:
    shape = operation.input_shape
    fixed = {part.partition("=")[0] for part in operation.http["requestUri"].partition("?")[2].split("&")}
    return frozenset(fixed) | {
        member.serialization["name"]
        for member in shape.members.values()
        if member.serialization.get("location") == "querystring" and "name" in member.serialization
    }


def _part_reader(name: str, shape: Any, location: str, bound: frozenset[str]) -> Callable[[Arguments], Any]:
    wire_name = shape.serialization.get("name", name)
    if location == "uri":
        reader = text_reader(shape)
        return lambda arguments: reader(arguments.labels[wire_name])
    if location == "querystring":
        return _query_reader(wire_name, shape, bound)
    if location == "headers":
        prefix = wire_name.lower()
        return lambda arguments: (
            {header[len(prefix) :]: value for header, value in arguments.headers.items() if header.startswith(prefix)}
            or None
        )
    raise ValueError(f"{name}: no such location of a member: {location}")


def _query_reader(name: str, shape: Any, bound: frozenset[str]) -> Callable[[Arguments], Any]:
    if shape.type_name == "list":
        element = text_reader(shape.member)
        return lambda arguments: [element(value) for key, value in arguments.query if key == name] or None
    if shape.type_name == "map":
        return _query_map_reader(shape, bound)
    scalar = text_reader(shape)

    def read(arguments: Arguments) -> Any:
        for key, value in arguments.query:
            if key == name:
                return scalar(value)
        return None

    return read


def _query_map_reader(shape: Any, bound: frozenset[str]) -> Callable[[Arguments], Any]:
    """Return the reader of all query parameters that no other member takes."""
    if shape.value.type_name == "list":
        element = text_reader(shape.value.member)

        def read_lists(arguments: Arguments) -> Any:
            result: dict[str, list[Any]] = {}
            for key, value in arguments.query:
                if key not in bound:
                    result.setdefault(key, []).append(element(value))
            return result or None

        return read_lists
    scalar = text_reader(shape.value)
    return lambda arguments: {key: scalar(value) for key, value in arguments.query if key not in bound} or None


def _header_reader(name: str, shape: Any) -> Callable[[str], Any]:
    reader = _header_value_reader(shape)
    # S3 takes a condition with an unreadable date as absent.
    if shape.type_name != "timestamp" or not name.startswith("if-"):
        return reader

    def read_leniently(text: str) -> Any:
        try:
            return reader(text)
        except BadValue:
            return None

    return read_leniently


def _header_value_reader(shape: Any) -> Reader:
    if shape.serialization.get("jsonvalue"):
        return _read_json_value
    if shape.type_name == "list":
        element = text_reader(shape.member)
        if shape.member.type_name == "timestamp":
            return lambda text: [element(part) for part in _split_dates(text)]
        return lambda text: [element(part) for part in _split_header_list(text)]
    return text_reader(shape)


def _read_json_value(text: str) -> Any:
    try:
        return json.decode(base64.b64decode(text, validate=True))
    except ValueError:
        raise BadValue(f"expected JSON in base64, got {text[:100]!r}") from None


def _split_header_list(text: str) -> list[str]:
    """Split at commas outside double quotes; quotes around an entry are cut."""
    entries = []
    current: list[str] = []
    quoted = escaped = False
    for character in text:
        if escaped:
            current.append(character)
            escaped = False
        elif quoted and character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif character == "," and not quoted:
            entries.append("".join(current).strip())
            current = []
        else:
            current.append(character)
    entries.append("".join(current).strip())
    return [entry for entry in entries if entry]


def _split_dates(text: str) -> list[str]:
    # "Mon, 16 Dec 2019 23:48:18 GMT, ...": each date has a comma of its own.
    parts = text.split(",")
    if not text[:1].isalpha():
        return parts
    return [",".join(parts[index : index + 2]) for index in range(0, len(parts), 2)]


class RestWriter:
    """Writes the answer of one operation; built once from its output shape."""

    def __init__(self, operation: Any, documents: BodyFormat) -> None:
        self._status = int(operation.http.get("responseCode", 200))
        self._headers: list[tuple[str, Callable[[Any, list[tuple[str, str]]], None]]] = []
        self._status_member: str | None = None
        self._payload: str | None = None
        self._write_body: _WriteDocument | None = None
        self._events: EventEncoder | None = None
        self._content_type: tuple[tuple[str, str], ...] = ()
        shape = operation.output_shape
        if shape is not None:
            self._plan(operation, shape, documents)

    def _plan(self, operation: Any, shape: Any, documents: BodyFormat) -> None:
        self._payload = shape.serialization.get("payload")
        in_body = []
        for name, member in shape.members.items():
            location = member.serialization.get("location")
            if location == "statusCode":
                self._status_member = name
            elif location is not None:
                self._headers.append((name, _header_writer(name, member, location)))
            elif name != self._payload:
                in_body.append(name)
        if self._payload is not None:
            self._plan_payload(shape.members[self._payload], documents)
        elif in_body:
            self._write_body = documents.body_writer(operation.name, shape, in_body)
            self._content_type = (("content-type", documents.content_type),)

    def _plan_payload(self, member: Any, documents: BodyFormat) -> None:
        if member.serialization.get("eventstream"):
            self._events = event_encoder(
                member, lambda shape: documents.payload_writer(shape, shape.name), documents.content_type
            )
            self._content_type = (("content-type", "application/vnd.amazon.eventstream"),)
        elif member.type_name == "blob":
            self._content_type = (("content-type", "application/octet-stream"),)
        elif member.type_name == "string":
            self._content_type = (("content-type", "text/plain"),)
        else:
            self._write_body = documents.payload_writer(member, self._payload or "")
            self._content_type = (("content-type", documents.content_type),)

    def __call__(self, result: Mapping[str, Any], request_id: str) -> Response:
        """Return the answer; members unknown to the shape and None are left out."""
        headers: list[tuple[str, str]] = []
        for name, write in self._headers:
            value = result.get(name)
            if value is not None:
                write(value, headers)
        status = self._status
        if self._status_member is not None and result.get(self._status_member) is not None:
            status = int(result[self._status_member])
        body = self._body(result)
        if body != b"" and not any(name.lower() == "content-type" for name, _ in headers):
            headers.extend(self._content_type)
        return Response(status=status, headers=tuple(headers), body=body)

    def _body(self, result: Mapping[str, Any]) -> Any:
        if self._payload is None:
            return b"" if self._write_body is None else self._write_body(result)
        value = result.get(self._payload)
        if value is None:
            return b""
        if self._events is not None:
            return event_stream(value, self._events)
        if self._write_body is not None:
            return self._write_body(value)
        if isinstance(value, str):
            return value.encode()
        if isinstance(value, bytes | FileRegion):
            return value
        return bytes(value) if isinstance(value, bytearray | memoryview) else value


def _header_writer(name: str, shape: Any, location: str) -> Callable[[Any, list[tuple[str, str]]], None]:
    wire_name = shape.serialization.get("name", name)
    if location == "headers":

        def write_all(value: Any, headers: list[tuple[str, str]]) -> None:
            headers.extend((f"{wire_name}{key}", str(entry)) for key, entry in value.items() if entry is not None)

        return write_all
    text = _header_text(shape)

    def write(value: Any, headers: list[tuple[str, str]]) -> None:
        headers.append((wire_name, text(value)))

    return write


def _header_text(shape: Any) -> Callable[[Any], str]:
    if shape.serialization.get("jsonvalue"):
        return lambda value: base64.b64encode(json.encode(value)).decode()
    if shape.type_name == "list":
        element = text_writer(shape.member, TimestampFormat.RFC822)
        return lambda value: ",".join(element(entry) for entry in value)
    return text_writer(shape, TimestampFormat.RFC822)
