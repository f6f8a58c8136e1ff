"""IAM over a document store, with boto3 as the other end."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.unit.http.live import Live, client, running

from millrace.services import iam
from millrace.testing.documents import MemoryDocumentStore

TRUST = json.dumps({"Version": "2012-10-17", "Statement": []})


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with running({"iam": iam.handlers(documents=MemoryDocumentStore(), role_name="Default")}) as server:
        yield server


@pytest.fixture
def api(live: Live) -> Any:
    return client(live, "iam")


@pytest.mark.spec("api-surface 1.4")
def test_the_default_role_trusts_sagemaker(api: Any) -> None:
    """The execution role is there from the start and its trust policy names sagemaker.amazonaws.com."""
    role = api.get_role(RoleName="Default")["Role"]
    assert role["Arn"] == "arn:aws:iam::000000000000:role/Default"
    assert role.keys() >= {"Path", "RoleName", "RoleId", "Arn", "CreateDate", "AssumeRolePolicyDocument"}
    statement = role["AssumeRolePolicyDocument"]["Statement"][0]
    assert statement["Principal"]["Service"] == "sagemaker.amazonaws.com"


def test_a_role_lives_from_create_to_delete(api: Any) -> None:
    """A role is created with path and tags, told, changed, listed and deleted."""
    created = api.create_role(
        RoleName="Mine", Path="/service-role/", AssumeRolePolicyDocument=TRUST, Tags=[{"Key": "a", "Value": "b"}]
    )["Role"]
    assert created["Arn"] == "arn:aws:iam::000000000000:role/service-role/Mine"
    with pytest.raises(api.exceptions.EntityAlreadyExistsException):
        api.create_role(RoleName="Mine", AssumeRolePolicyDocument=TRUST)
    api.tag_role(RoleName="Mine", Tags=[{"Key": "c", "Value": "d"}])
    api.untag_role(RoleName="Mine", TagKeys=["a"])
    assert api.list_role_tags(RoleName="Mine")["Tags"] == [{"Key": "c", "Value": "d"}]
    api.update_assume_role_policy(RoleName="Mine", PolicyDocument='{"Statement": [1]}')
    assert api.get_role(RoleName="Mine")["Role"]["AssumeRolePolicyDocument"] == {"Statement": [1]}
    assert [role["RoleName"] for role in api.list_roles()["Roles"]] == ["Default", "Mine"]
    assert [role["RoleName"] for role in api.list_roles(PathPrefix="/service-role/")["Roles"]] == ["Mine"]
    pages = api.get_paginator("list_roles").paginate(PaginationConfig={"PageSize": 1})
    assert [role["RoleName"] for page in pages for role in page["Roles"]] == ["Default", "Mine"]
    api.delete_role(RoleName="Mine")
    with pytest.raises(api.exceptions.NoSuchEntityException):
        api.get_role(RoleName="Mine")


def test_policies_hold_a_role_until_they_are_gone(api: Any) -> None:
    """Inline and attached policies are put, told and removed; a role with some is not deleted."""
    policy = {"Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
    arn = "arn:aws:iam::aws:policy/AmazonSageMakerFullAccess"
    api.create_role(RoleName="Held", AssumeRolePolicyDocument=TRUST)
    api.put_role_policy(RoleName="Held", PolicyName="p", PolicyDocument=json.dumps(policy))
    assert api.get_role_policy(RoleName="Held", PolicyName="p")["PolicyDocument"] == policy
    assert api.list_role_policies(RoleName="Held")["PolicyNames"] == ["p"]
    api.attach_role_policy(RoleName="Held", PolicyArn=arn)
    assert api.list_attached_role_policies(RoleName="Held")["AttachedPolicies"] == [
        {"PolicyArn": arn, "PolicyName": "AmazonSageMakerFullAccess"}
    ]
    with pytest.raises(api.exceptions.DeleteConflictException):
        api.delete_role(RoleName="Held")
    api.detach_role_policy(RoleName="Held", PolicyArn=arn)
    with pytest.raises(api.exceptions.DeleteConflictException):
        api.delete_role(RoleName="Held")
    api.delete_role_policy(RoleName="Held", PolicyName="p")
    api.delete_role(RoleName="Held")


@pytest.mark.parametrize(
    "call",
    [
        lambda api: api.get_role(RoleName="Nobody"),
        lambda api: api.delete_role(RoleName="Nobody"),
        lambda api: api.get_role_policy(RoleName="Default", PolicyName="none"),
        lambda api: api.delete_role_policy(RoleName="Default", PolicyName="none"),
        lambda api: api.detach_role_policy(RoleName="Default", PolicyArn="arn:aws:iam::aws:policy/None"),
        lambda api: api.get_user(UserName="someone"),
    ],
)
def test_what_is_not_there_is_no_such_entity(api: Any, call: Any) -> None:
    """A missing role, policy or user is NoSuchEntity with status 404."""
    with pytest.raises(ClientError) as caught:
        call(api)
    assert caught.value.response["Error"]["Code"] == "NoSuchEntity"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404


def test_a_policy_must_be_json(api: Any) -> None:
    """A trust policy that is no JSON object is MalformedPolicyDocument."""
    for document in ("{", "[]"):
        with pytest.raises(api.exceptions.MalformedPolicyDocumentException):
            api.create_role(RoleName="Bad", AssumeRolePolicyDocument=document)


@pytest.mark.spec("api-surface 14")
def test_every_simulated_action_is_allowed(api: Any) -> None:
    """SDK v3 asks before it trains and is told that all is allowed."""
    pages = api.get_paginator("simulate_principal_policy").paginate(
        PolicySourceArn="arn:aws:iam::000000000000:role/Default", ActionNames=["s3:GetObject", "logs:PutLogEvents"]
    )
    decisions = [result["EvalDecision"] for page in pages for result in page["EvaluationResults"]]
    assert decisions == ["allowed", "allowed"]
    assert api.get_user()["User"]["Arn"].endswith(":root")
