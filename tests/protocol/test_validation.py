"""Requests against the models' constraints, in AWS's words."""

from typing import Any

import pytest
from botocore.model import DenormalizedStructureBuilder

from millrace.errors import S3Error, ValidationError
from millrace.protocol.operations import service

TRANSFORM: dict[str, Any] = {
    "TransformJobName": "job",
    "ModelName": "model",
    "TransformInput": {"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://b/p"}}},
    "TransformOutput": {"S3OutputPath": "s3://b/o"},
    "TransformResources": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1},
}


def _refusal(operation: str, params: dict[str, Any], service_name: str = "sagemaker") -> str:
    with pytest.raises(ValidationError) as caught:
        service(service_name).operation(operation).validate(params)
    return caught.value.message


def test_a_good_request_passes() -> None:
    """A request within the model's limits is let through, with unknown members and Unicode tags."""
    params = {**TRANSFORM, "Tags": [{"Key": "schlüssel 名 😀", "Value": ""}], "NoSuchMember": object()}
    service("sagemaker").operation("CreateTransformJob").validate(params)


@pytest.mark.spec("batch-transform 1.3")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"TransformJobName": "a b"},
            "1 validation error detected: Value 'a b' at 'transformJobName' failed to satisfy constraint: Member must "
            "satisfy regular expression pattern: [a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}",
        ),
        (
            {"MaxConcurrentTransforms": -1},
            "1 validation error detected: Value '-1' at 'maxConcurrentTransforms' failed to satisfy constraint: Member "
            "must have value greater than or equal to 0",
        ),
        (
            {"BatchStrategy": "Some"},
            "1 validation error detected: Value 'Some' at 'batchStrategy' failed to satisfy constraint: Member must "
            "satisfy enum value set: [MultiRecord, SingleRecord]",
        ),
        (
            {"Tags": [{"Key": "k", "Value": "v"}] * 51},
            "failed to satisfy constraint: Member must have length less than or equal to 50",
        ),
        (
            {"Tags": [{"Key": "ok", "Value": ""}, {"Value": "v"}]},
            "1 validation error detected: Value null at 'tags.2.member.key' failed to satisfy constraint: Member must "
            "not be null",
        ),
        (
            {"TransformInput": {"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix"}}}},
            "1 validation error detected: Value null at 'transformInput.dataSource.s3DataSource.s3Uri' failed to "
            "satisfy constraint: Member must not be null",
        ),
        (
            {"Environment": {"1x": "v"}},
            "1 validation error detected: Value '{1x=v}' at 'environment' failed to satisfy constraint: Map keys must "
            "satisfy constraint: [Member must have length less than or equal to 1024, Member must satisfy regular "
            "expression pattern: [a-zA-Z_][a-zA-Z0-9_]{0,1023}]",
        ),
    ],
)
def test_violations_are_worded_as_aws_words_them(change: dict[str, Any], message: str) -> None:
    """Value, camel-cased path and constraint stand in the message as in the real service's."""
    assert message in _refusal("CreateTransformJob", {**TRANSFORM, **change})


def test_all_violations_are_told_at_once() -> None:
    """Two violations are counted and both told."""
    message = _refusal("CreateTransformJob", {**TRANSFORM, "TransformJobName": "-", "ModelName": "-"})
    assert message.startswith("2 validation errors detected: ")
    assert message.count("; Value ") == 1


def test_lists_of_text_are_told_whole() -> None:
    """A bad element of a list of strings is told with the list and all of the element's rules."""
    params = {
        "ModelName": "m",
        "VpcConfig": {"SecurityGroupIds": ["sg-1", "bad id"], "Subnets": ["subnet-1"]},
    }
    message = _refusal("CreateModel", params)
    assert (
        "Value '[sg-1, bad id]' at 'vpcConfig.securityGroupIds' failed to satisfy constraint: Member must " in message
    )
    assert "satisfy constraint: [Member must have length less than or equal to 32" in message


def test_an_answer_stays_short_whatever_was_sent() -> None:
    """A megabyte of bad value, and thousands of violations, make a short message that still counts them all."""
    assert len(_refusal("DescribeTransformJob", {"TransformJobName": "x" * 1_000_000})) < 3000
    message = _refusal("CreateTransformJob", {**TRANSFORM, "Tags": [{"Key": "k"}] * 5000})
    assert message.startswith("5001 validation errors detected: ")
    assert len(message) < 20_000


@pytest.mark.parametrize("value", ["-" * 60, "a-" * 40, "a" * 62 + "-", "s3:" + "/" * 5000, "arn:aws:" + "a:" * 2000])
def test_patterns_take_no_long_time_over_hostile_text(value: str) -> None:
    """Text made to send a matcher into backtracking is refused as any other."""
    assert "pattern" in _refusal("DescribeTransformJob", {"TransformJobName": value})
    assert "validation error" in _refusal(
        "CreateTransformJob", {**TRANSFORM, "TransformOutput": {"S3OutputPath": value}}
    )


def test_every_operation_of_the_services_has_checks() -> None:
    """Checks can be built for every operation, however its shapes nest."""
    for name in ("sagemaker", "s3", "sts", "iam", "logs", "sagemaker-runtime", "sqs", "lambda"):
        for operation in service(name).model.operation_names:
            assert service(name).operation(operation)


def test_s3_is_refused_in_its_own_codes() -> None:
    """A missing element of an XML body is MalformedXML, a missing body MissingRequestBodyError."""
    validate = service("s3").operation("DeleteObjects").validate
    with pytest.raises(S3Error) as caught:
        validate({"Bucket": "b", "Delete": {"Objects": [{"VersionId": "1"}]}})
    assert caught.value.wire_code == "MalformedXML"
    with pytest.raises(S3Error) as caught:
        validate({"Bucket": "b"})
    assert caught.value.wire_code == "MissingRequestBodyError"
    validate({"Bucket": "b", "Delete": {"Objects": [{"Key": "k"}]}})


def test_a_shape_without_constraints_costs_nothing() -> None:
    """Where the model constrains nothing there is no check to run."""
    from millrace.protocol.validation import Checks

    shape = DenormalizedStructureBuilder().with_members({"A": {"type": "string"}}).build_model()
    assert Checks().check(shape) is None
