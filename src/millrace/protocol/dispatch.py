"""Which service a request is for: many share one port.

Never by path first: path-style S3 collides with the REST services' paths. The order is that of api-surface.md
section 2: what the signature says, the target header, the host, a version 2 signature, a form's action and version,
else S3.
"""

import re
from typing import NamedTuple

from millrace.protocol.message import Request
from millrace.protocol.models import WireProtocol

__all__ = [
    "Destination",
    "find_destination",
    "form_destination",
    "guess_protocol",
    "is_aws_host",
    "is_form",
    "virtual_bucket",
]


class Destination(NamedTuple):  # made for every request: a frozen dataclass takes three times as long
    """A service by botocore's name, the region if the request tells it, and the bucket of a virtual host."""

    service: str
    region: str | None = None
    bucket: str | None = None


# Signing names that are not botocore's service names.
_SIGNING_NAMES = {
    "monitoring": "cloudwatch",
    "states": "stepfunctions",
    "tagging": "resourcegroupstaggingapi",
    "s3express": "s3",
    "email": "ses",
}

# First words of host names that are not botocore's service names.
_HOST_NAMES = {
    **_SIGNING_NAMES,
    "api.sagemaker": "sagemaker",
    "runtime.sagemaker": "sagemaker-runtime",
    "metrics.sagemaker": "sagemaker-metrics",
    "featurestore-runtime.sagemaker": "sagemaker-featurestore-runtime",
    "api.ecr": "ecr",
    "queue": "sqs",
}

_TARGET_PREFIXES = {
    "SageMaker": "sagemaker",
    "AmazonEC2ContainerRegistry_V20150921": "ecr",
    "Logs_20140328": "logs",
    "AWSEvents": "events",
    "AnyScaleFrontendService": "application-autoscaling",
    "DynamoDB_20120810": "dynamodb",
    "AmazonSQS": "sqs",
    "GraniteServiceVersion20100801": "cloudwatch",
    "AWSStepFunctions": "stepfunctions",
}

_FORM_VERSIONS = {
    "2011-06-15": "sts",
    "2010-05-08": "iam",
    "2010-05-15": "cloudformation",
    "2010-03-31": "sns",
    "2012-11-05": "sqs",
    "2010-08-01": "cloudwatch",
}

# Four APIs sign as sagemaker: the control plane is POST / with a target, the others have paths.
_SAGEMAKER_PATHS = (
    (b"/endpoints/", "sagemaker-runtime"),
    (b"/BatchPutMetrics", "sagemaker-metrics"),
    (b"/BatchGetMetrics", "sagemaker-metrics"),
    (b"/FeatureGroup/", "sagemaker-featurestore-runtime"),
    (b"/BatchGetRecord", "sagemaker-featurestore-runtime"),
)

_S3_HOST = re.compile(
    r"(?:(?P<bucket>.+)\.)?s3(?:[.-](?:dualstack\.)?(?P<region>[a-z0-9-]+))?\.amazonaws\.com(?:\.cn)?"
)
_AWS_HOST = re.compile(r"(?P<service>[a-z0-9.-]+?)(?:\.(?P<region>[a-z]{2}(?:-[a-z]+)+-\d))?\.amazonaws\.com(?:\.cn)?")
_BUCKET_LABEL = ".localhost"


def find_destination(
    request: Request, *, signed_for: str | None, signed_v2: bool, region: str | None = None
) -> Destination | None:
    """Return where the request goes; None if only its form body can tell.

    Args:
        request: The request as sent.
        signed_for: The service name in its credential scope, if it has one.
        signed_v2: Whether it has a version 2 signature.
        region: The region in its credential scope.
    """
    if signed_for is not None:
        return _named(_SIGNING_NAMES.get(signed_for, signed_for), request, region)
    target = request.header("x-amz-target")
    if target is not None and target.partition(".")[0] in _TARGET_PREFIXES:
        return Destination(service=_TARGET_PREFIXES[target.partition(".")[0]])
    at_host = _host_destination(request)
    if at_host is not None:
        return at_host
    if not signed_v2 and is_form(request):
        return None
    return Destination(service="s3")


def form_destination(fields: dict[str, str]) -> Destination:
    """Return where an unsigned form goes, by its Action and Version; S3 if they name no service."""
    service = _FORM_VERSIONS.get(fields.get("Version", "")) if "Action" in fields else None
    return Destination(service=service or "s3")


def is_form(request: Request) -> bool:
    """Tell whether the body is a form, as the query protocol sends it."""
    content_type = request.header("content-type") or ""
    return request.method == "POST" and content_type.startswith("application/x-www-form-urlencoded")


def guess_protocol(request: Request) -> WireProtocol:
    """Return the protocol in which to refuse a request for a service that we don't know."""
    if request.header("x-amz-target") is not None:
        return WireProtocol.JSON
    if is_form(request):
        return WireProtocol.QUERY
    # Unsigned requests, and those that S3's clients signed, are S3's to refuse.
    authorization = request.header("authorization")
    is_s3 = authorization is None or "/s3/aws4_request" in authorization or authorization.startswith("AWS ")
    return WireProtocol.REST_XML if is_s3 else WireProtocol.REST_JSON


def virtual_bucket(host: str) -> str | None:
    """Return the bucket that a host name (without port) carries: `b.s3.us-east-1.amazonaws.com`, `b.localhost`."""
    if host.endswith(_BUCKET_LABEL):
        name = host.removesuffix(_BUCKET_LABEL)
        return None if name == "s3" else name.removesuffix(".s3") or None
    match = _S3_HOST.fullmatch(host)
    return None if match is None else match["bucket"]


def is_aws_host(host: str) -> bool:
    """Tell whether a Host header names one of AWS's own addresses."""
    host = host.lower()
    return "amazonaws" in host and _without_port(host).endswith((".amazonaws.com", ".amazonaws.com.cn"))


def _host_name(request: Request) -> str:
    return _without_port((request.header("host") or "").lower())


def _without_port(host: str) -> str:
    return host.rpartition(":")[0] if ":" in host else host


def _named(service: str, request: Request, region: str | None) -> Destination:
    if service == "s3":
        return Destination(service="s3", region=region, bucket=virtual_bucket(_host_name(request)))
    if service == "sagemaker" and request.header("x-amz-target") is None:
        for prefix, name in _SAGEMAKER_PATHS:
            if request.path.startswith(prefix):
                return Destination(service=name, region=region)
    return Destination(service=service, region=region)


def _host_destination(request: Request) -> Destination | None:
    host = _host_name(request)
    s3 = _S3_HOST.fullmatch(host)
    if s3 is not None:
        return Destination(service="s3", region=s3["region"], bucket=s3["bucket"])
    match = _AWS_HOST.fullmatch(host)
    if match is not None:
        name = match["service"]
        return _named(_HOST_NAMES.get(name, name), request, match["region"])
    bucket = virtual_bucket(host)
    return None if bucket is None else Destination(service="s3", bucket=bucket)
