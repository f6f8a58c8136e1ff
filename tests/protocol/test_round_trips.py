"""botocore is the other end of every operation that we could serve."""

import warnings
from functools import cache
from io import BytesIO
from typing import Any, cast
from urllib.parse import quote, urlencode

import pytest
from botocore import parsers, serialize
from botocore.awsrequest import HeadersDict
from tests.protocol.samples import sample

from millrace.protocol.bindings import Arguments
from millrace.protocol.models import WireProtocol
from millrace.protocol.operations import Service, service
from millrace.protocol.targets import parse_pairs

SERVICES = ["sagemaker", "sagemaker-runtime", "s3", "sts", "iam", "logs", "sqs", "lambda", "ecr", "cloudformation"]

# Older forms of other operations on the same address, which the newer ones serve, and one with a host of its own.
SHADOWED = {
    "GetBucketLifecycle",
    "GetBucketNotification",
    "ListDirectoryBuckets",
    "PutBucketLifecycle",
    "PutBucketNotification",
    "WriteGetObjectResponse",
}

OPERATIONS = [
    (name, operation)
    for name in SERVICES
    for operation in service(name).model.operation_names
    if operation not in SHADOWED
]


def _without_streams(shape: Any, value: dict[str, Any]) -> dict[str, Any]:
    """Leave out event streams: they are not values."""
    return {name: entry for name, entry in value.items() if not shape.members[name].serialization.get("eventstream")}


@cache
def _serializer(protocol: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return serialize.create_serializer(protocol, include_validation=False)


def _arguments(found: Service, operation: Any, request: dict[str, Any]) -> tuple[str, Arguments]:
    """Turn what botocore serialized into what the routes and parsers take; return the operation found."""
    headers = {name.lower(): str(value) for name, value in request["headers"].items()}
    body = request["body"]
    if found.protocol is WireProtocol.QUERY:
        pairs = parse_pairs(urlencode(body).encode())
        return found.match_action(dict(pairs)["Action"]).operation, Arguments(query=pairs, headers=headers)
    content = body.encode() if isinstance(body, str) else bytes(body)
    if found.protocol is WireProtocol.JSON:
        match = found.match_target(headers["x-amz-target"])
        return match.operation, Arguments(headers=headers, content=content)
    path, _, fixed = request["url_path"].partition("?")
    query = request["query_string"]
    encoded = urlencode(query, doseq=True, quote_via=quote) if isinstance(query, dict) else urlencode(query)
    raw = "&".join(part for part in (fixed, encoded) if part)
    pairs = parse_pairs(raw.encode())
    match = found.match_route(request["method"], path.encode(), dict(pairs), headers)
    return match.operation, Arguments(labels=match.labels, query=pairs, headers=headers, content=content)


@pytest.mark.parametrize(("service_name", "operation_name"), OPERATIONS)
def test_what_botocore_serializes_we_parse(service_name: str, operation_name: str) -> None:
    """Parameters that botocore writes come out of our parser with the same names, types and values."""
    found = service(service_name)
    model = found.model.operation_model(operation_name)
    params = {} if model.input_shape is None else _without_streams(model.input_shape, sample(model.input_shape))
    request = _serializer(found.model.metadata["protocol"]).serialize_to_request(dict(params), model)
    name, arguments = _arguments(found, model, request)
    assert name == operation_name
    parsed = found.operation(name).parse(arguments)
    for extra in parsed.keys() - params.keys():
        del parsed[extra]
    assert parsed == params


@pytest.mark.parametrize(("service_name", "operation_name"), OPERATIONS)
def test_what_we_serialize_botocore_parses(service_name: str, operation_name: str) -> None:
    """Results that we write come out of botocore's parser with the same names, types and values."""
    found = service(service_name)
    model = found.model.operation_model(operation_name)
    shape = model.output_shape
    if shape is None or any(member.serialization.get("eventstream") for member in shape.members.values()):
        return
    result = sample(shape)
    response = found.operation(operation_name).serialize({**result, "NoSuchMember": 1}, "the-id")
    parser = parsers.create_parser(found.model.metadata["protocol"])
    headers = HeadersDict()
    for header, value in response.headers:
        headers[header] = value
    if operation_name == "GetBucketLocation":
        # botocore reads this one with a function of its own, from the root.
        assert b">us-west-2</LocationConstraint>" in cast(bytes, response.body)
        return
    payload = shape.serialization.get("payload")
    is_blob = payload is not None and shape.members[payload].type_name == "blob"
    body: Any = BytesIO(cast(bytes, response.body)) if is_blob else response.body
    parsed = parser.parse({"headers": headers, "status_code": response.status, "body": body}, shape)
    parsed.pop("ResponseMetadata")
    if is_blob:
        parsed[payload] = parsed[payload].read()
    for name, member in shape.members.items():
        if member.serialization.get("location") == "statusCode":
            result[name] = response.status
    assert parsed == result
