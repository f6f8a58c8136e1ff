"""Which operation a REST request asks for."""

import pytest

from millrace.errors import UnknownOperation
from millrace.protocol.faults import NoSuchRoute
from millrace.protocol.models import service_model
from millrace.protocol.routing import Match, RestRoutes, target_operation

S3 = RestRoutes(service_model("s3"))
LAMBDA = RestRoutes(service_model("lambda"))


@pytest.mark.spec("api-surface 3.2")
@pytest.mark.parametrize(
    ("method", "path", "query", "headers", "operation"),
    [
        ("GET", "/", {}, {}, "ListBuckets"),
        ("GET", "/", {"x-id": "ListBuckets"}, {}, "ListBuckets"),
        ("GET", "/b", {}, {}, "ListObjects"),
        ("GET", "/b/", {}, {}, "ListObjects"),
        ("GET", "/b", {"list-type": "2"}, {}, "ListObjectsV2"),
        ("GET", "/b", {"location": ""}, {}, "GetBucketLocation"),
        ("GET", "/b", {"uploads": ""}, {}, "ListMultipartUploads"),
        ("GET", "/b", {"analytics": "", "id": "1"}, {}, "GetBucketAnalyticsConfiguration"),
        ("GET", "/b", {"notification": ""}, {}, "GetBucketNotificationConfiguration"),
        ("HEAD", "/b", {}, {}, "HeadBucket"),
        ("PUT", "/b/k", {}, {}, "PutObject"),
        ("PUT", "/b/k", {}, {"x-amz-copy-source": "/c/k"}, "CopyObject"),
        ("PUT", "/b/k", {"partNumber": "1", "uploadId": "u"}, {}, "UploadPart"),
        ("PUT", "/b/k", {"partNumber": "1", "uploadId": "u"}, {"x-amz-copy-source": "/c/k"}, "UploadPartCopy"),
        ("POST", "/b/k", {"uploads": ""}, {}, "CreateMultipartUpload"),
        ("POST", "/b/k", {"uploadId": "u"}, {}, "CompleteMultipartUpload"),
        ("DELETE", "/b/k", {}, {}, "DeleteObject"),
        ("DELETE", "/b/k", {"uploadId": "u"}, {}, "AbortMultipartUpload"),
        ("GET", "/b/k", {"uploadId": "u"}, {}, "ListParts"),
        ("GET", "/b/k", {"response-content-type": "x", "unknown": ""}, {}, "GetObject"),
        ("POST", "/b", {"delete": ""}, {}, "DeleteObjects"),
    ],
)
def test_the_most_specific_s3_operation_wins(
    method: str, path: str, query: dict[str, str], headers: dict[str, str], operation: str
) -> None:
    """Fixed parameters, then required ones, decide among operations on one path."""
    assert S3.find(method, path.encode(), query, headers).operation == operation


@pytest.mark.parametrize(
    ("path", "key"),
    [("/b/a/b//c/", "a/b//c/"), ("/b//", "/"), ("/b/%2F%20%C3%A9", "/ é"), ("/b/../x", "../x"), ("/b/a\nb", "a\nb")],
)
def test_keys_are_taken_raw(path: str, key: str) -> None:
    """Nothing in a key is normalised."""
    assert S3.find("GET", path.encode(), {}, {}) == Match(operation="GetObject", labels={"Bucket": "b", "Key": key})


def test_labels_of_other_services_may_be_arns() -> None:
    """A percent-encoded ARN is one label; a trailing slash does not matter."""
    path = b"/2015-03-31/functions/arn%3Aaws%3Alambda%3Ax%3A1%3Afunction%3Af"
    for ending in (b"", b"/"):
        match = LAMBDA.find("GET", path + ending, {}, {})
        assert match == Match(operation="GetFunction", labels={"FunctionName": "arn:aws:lambda:x:1:function:f"})
    assert LAMBDA.find("GET", b"/2015-03-31/functions", {}, {}).operation == "ListFunctions"


def test_what_has_no_route_is_named() -> None:
    """Method and path stand in the refusal."""
    with pytest.raises(NoSuchRoute, match=r"s3 has no operation for PATCH /b/k with the parameters a"):
        S3.find("PATCH", b"/b/k", {"a": ""}, {})
    with pytest.raises(NoSuchRoute, match="lambda has no operation for GET /nowhere"):
        LAMBDA.find("GET", b"/nowhere", {}, {})


def test_targets_name_prefix_and_operation() -> None:
    """A target of another service, an unknown operation and a missing header are refused by name."""
    assert target_operation("SageMaker.CreateModel", "SageMaker", {"CreateModel"}).operation == "CreateModel"
    for target in ("Other.CreateModel", "SageMaker.Nothing", "SageMaker", None):
        with pytest.raises(UnknownOperation, match="X-Amz-Target"):
            target_operation(target, "SageMaker", {"CreateModel"})
