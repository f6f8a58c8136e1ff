"""Which service a request is for."""

import pytest

from millrace.protocol.bodies import MemoryBody
from millrace.protocol.dispatch import Destination, find_destination, form_destination, virtual_bucket
from millrace.protocol.message import Request


def _request(path: str = "/", method: str = "GET", **headers: str) -> Request:
    return Request(
        method=method,
        path=path.encode(),
        query=b"",
        headers=tuple((name.replace("_", "-"), value) for name, value in headers.items()),
        body=MemoryBody(),
    )


def _service(request: Request, signed_for: str | None = None, signed_v2: bool = False) -> str | None:
    found = find_destination(request, signed_for=signed_for, signed_v2=signed_v2)
    return None if found is None else found.service


@pytest.mark.spec("api-surface 2")
@pytest.mark.parametrize(
    ("request_", "signed_for", "service"),
    [
        (_request(x_amz_target="SageMaker.CreateModel", method="POST"), "sagemaker", "sagemaker"),
        (_request("/endpoints/e/invocations", "POST"), "sagemaker", "sagemaker-runtime"),
        (_request("/BatchPutMetrics", "POST"), "sagemaker", "sagemaker-metrics"),
        (_request("/FeatureGroup/g", "PUT"), "sagemaker", "sagemaker-featurestore-runtime"),
        (_request("/endpoints/e/invocations", "POST"), "s3", "s3"),
        (_request(), "monitoring", "cloudwatch"),
        (_request(), "states", "stepfunctions"),
        (_request(x_amz_target="Logs_20140328.X"), None, "logs"),
        (_request(host="sts.us-east-1.amazonaws.com"), None, "sts"),
        (_request(host="api.sagemaker.us-east-1.amazonaws.com:443"), None, "sagemaker"),
        (
            _request("/endpoints/e/invocations", host="runtime.sagemaker.eu-west-1.amazonaws.com"),
            None,
            "sagemaker-runtime",
        ),
        (_request(host="b.s3.us-east-1.amazonaws.com"), None, "s3"),
        (_request(host="127.0.0.1:4600"), None, "s3"),
        (_request(), None, "s3"),
    ],
)
def test_the_service_is_found(request_: Request, signed_for: str | None, service: str) -> None:
    """Signature, target and host tell the service, in this order; what is left is S3."""
    assert _service(request_, signed_for) == service


def test_forms_are_told_by_action_and_version() -> None:
    """An unsigned form waits for its body; its version names the service."""
    form = _request(method="POST", content_type="application/x-www-form-urlencoded; charset=utf-8")
    assert _service(form) is None
    assert _service(form, signed_v2=True) == "s3"
    assert form_destination({"Action": "GetCallerIdentity", "Version": "2011-06-15"}).service == "sts"
    assert form_destination({"Version": "2011-06-15"}).service == "s3"


@pytest.mark.parametrize(
    ("host", "bucket"),
    [
        ("b.localhost", "b"),
        ("my.b.localhost", "my.b"),
        ("b.s3.localhost", "b"),
        ("b.s3.amazonaws.com", "b"),
        ("b.s3.eu-west-1.amazonaws.com", "b"),
        ("a.b.s3-eu-west-1.amazonaws.com", "a.b"),
        ("b.s3.dualstack.eu-west-1.amazonaws.com", "b"),
        ("s3.eu-west-1.amazonaws.com", None),
        ("s3.amazonaws.com", None),
        ("localhost", None),
        ("127.0.0.1", None),
        ("s3.localhost", None),
    ],
)
def test_hosts_carry_buckets(host: str, bucket: str | None) -> None:
    """A virtual host's bucket is what stands before S3's own name."""
    assert virtual_bucket(host) == bucket


def test_an_aws_host_tells_the_region() -> None:
    """Region and bucket are read from the host of an unsigned request."""
    request = _request(host="b.s3.eu-west-1.amazonaws.com")
    assert find_destination(request, signed_for=None, signed_v2=False) == Destination(
        service="s3", region="eu-west-1", bucket="b"
    )
