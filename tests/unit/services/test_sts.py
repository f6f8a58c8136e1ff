"""STS over a key store, with boto3 as the other end."""

from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError
from tests.unit.http.live import ACCESS_KEY, Live, client, running

from millrace.ports.keys import AccessKey
from millrace.services import sts
from millrace.testing.keys import MemoryKeyStore


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    keys = MemoryKeyStore([ACCESS_KEY])
    with running({"sts": sts.handlers(keys=keys)}, keys=keys) as server:
        yield server


@pytest.mark.spec("api-surface 1.4")
def test_the_caller_is_an_assumed_role(live: Live) -> None:
    """GetCallerIdentity answers an assumed role's session, which the SDK turns into a role's ARN."""
    identity = client(live, "sts").get_caller_identity()
    assert identity["Arn"] == "arn:aws:sts::000000000000:assumed-role/Role/millrace"
    assert identity["Account"] == "000000000000"
    assert identity["UserId"].endswith(":millrace")


def test_an_assumed_roles_keys_work(live: Live) -> None:
    """AssumeRole gives keys whose holder is the role's session; GetSessionToken keeps the caller's role."""
    answer = client(live, "sts").assume_role(
        RoleArn="arn:aws:iam::000000000000:role/service-role/Other", RoleSessionName="me"
    )
    assert answer["AssumedRoleUser"]["Arn"] == "arn:aws:sts::000000000000:assumed-role/Other/me"
    session = client(live, "sts", key=_key(answer["Credentials"]))
    assert session.get_caller_identity()["Arn"] == "arn:aws:sts::000000000000:assumed-role/Other/me"
    again = client(live, "sts", key=_key(session.get_session_token(DurationSeconds=900)["Credentials"]))
    assert again.get_caller_identity()["Arn"] == "arn:aws:sts::000000000000:assumed-role/Other/me"


def _key(credentials: dict[str, str]) -> AccessKey:
    return AccessKey(
        id=credentials["AccessKeyId"],
        secret=credentials["SecretAccessKey"],
        session_token=credentials["SessionToken"],
        role="",
        account="",
    )


def test_a_key_of_another_account_is_told_its_own() -> None:
    """It assumes roles of its own account only, and its temporary keys stay in that account."""
    theirs = AccessKey(id="AKIATHEIRSTHEIRS", secret="theirs", role="Role", account="111122223333")
    keys = MemoryKeyStore([ACCESS_KEY, theirs])
    with running({"sts": sts.handlers(keys=keys)}, keys=keys) as live:
        caller = client(live, "sts", key=theirs)
        assert caller.get_caller_identity()["Account"] == "111122223333"
        assert caller.get_access_key_info(AccessKeyId=theirs.id)["Account"] == "111122223333"
        with pytest.raises(ClientError) as caught:
            caller.assume_role(RoleArn="arn:aws:iam::000000000000:role/Other", RoleSessionName="me")
        assert caught.value.response["Error"]["Code"] == "AccessDenied"
        session = caller.assume_role(RoleArn="arn:aws:iam::111122223333:role/Other", RoleSessionName="me")
        again = client(live, "sts", key=_key(session["Credentials"]))
        assert again.get_caller_identity()["Arn"] == "arn:aws:sts::111122223333:assumed-role/Other/me"


@pytest.mark.parametrize("arn", ["arn:aws:iam::000000000000:user/someone", "not-an-arn-but-long-enough"])
def test_only_roles_are_assumed(live: Live, arn: str) -> None:
    """Another ARN is a ValidationError that shows it."""
    with pytest.raises(ClientError, match=arn) as caught:
        client(live, "sts").assume_role(RoleArn=arn, RoleSessionName="me")
    assert caught.value.response["Error"]["Code"] == "ValidationError"


def test_wrong_keys_have_the_query_protocols_codes(live: Live) -> None:
    """An unknown key is InvalidClientTokenId, a wrong secret SignatureDoesNotMatch."""
    stranger = AccessKey(id="AKIDNOBODY", secret="x", role="", account="")
    with pytest.raises(ClientError) as caught:
        client(live, "sts", key=stranger).get_caller_identity()
    assert caught.value.response["Error"]["Code"] == "InvalidClientTokenId"
    impostor = AccessKey(id=ACCESS_KEY.id, secret="x", role="", account="")
    with pytest.raises(ClientError) as caught:
        client(live, "sts", key=impostor).get_caller_identity()
    assert caught.value.response["Error"]["Code"] == "SignatureDoesNotMatch"
