"""Several owners, strangers and browsers on one server: real keys, real requests."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from millrace.commands.environment import client_environment
from millrace.settings import as_environment
from tests.integration.platform import Platform, wait_until


def run_keys(platform: Platform, *words: str) -> str:
    """Run `millrace keys` on the data directory of a running server."""
    command = [sys.executable, "-m", "millrace", "keys", *words]
    environment = as_environment(platform.settings)
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


def connect(
    platform: Platform, key: dict[str, str] | None, service: str = "s3", signature_version: str | None = None
) -> Any:
    """Return a client with a key, or a stranger's."""
    return boto3.client(
        service,
        endpoint_url=platform.address.url,
        region_name="us-east-1",
        aws_access_key_id=key and key["AccessKeyId"],
        aws_secret_access_key=key and key["SecretAccessKey"],
        config=Config(signature_version=signature_version if key else UNSIGNED),
    )


@pytest.fixture(scope="module")
def ann(platform: Platform) -> dict[str, str]:
    """A key of the owner ann."""
    key: dict[str, str] = json.loads(run_keys(platform, "create", "--owner", "ann", "--json"))
    return key


@pytest.fixture(scope="module")
def owners_bucket(platform: Platform) -> Iterator[str]:
    """A bucket of the default account, with one object."""
    s3 = platform.client("s3")
    s3.create_bucket(Bucket="owners", ObjectOwnership="ObjectWriter")
    s3.put_object(Bucket="owners", Key="a.txt", Body=b"hello")
    yield "owners"


def denied(call: Any, **params: Any) -> None:
    """Expect AccessDenied."""
    with pytest.raises(ClientError) as caught:
        call(**params)
    assert caught.value.response["Error"]["Code"] in ("AccessDenied", "403", "AccessDeniedException")


def test_a_bucket_is_its_makers(platform: Platform, ann: dict[str, str], owners_bucket: str) -> None:
    """Others neither see nor reach it; the maker of another bucket has that one only."""
    theirs = connect(platform, ann)
    theirs.create_bucket(Bucket="anns")
    assert [bucket["Name"] for bucket in theirs.list_buckets()["Buckets"]] == ["anns"]
    assert theirs.list_buckets()["Owner"]["ID"] == ann["CanonicalUserId"]
    for call, more in (
        (theirs.get_object, {"Key": "a.txt"}),
        (theirs.head_object, {"Key": "a.txt"}),
        (theirs.put_object, {"Key": "b.txt", "Body": b""}),
        (theirs.delete_object, {"Key": "a.txt"}),
        (theirs.list_objects_v2, {}),
        (theirs.get_bucket_policy, {}),
        (theirs.delete_bucket, {}),
    ):
        denied(call, Bucket=owners_bucket, **more)
    source = {"Bucket": owners_bucket, "Key": "a.txt"}
    denied(theirs.copy_object, Bucket="anns", Key="stolen", CopySource=source)
    answer = theirs.delete_objects(Bucket="anns", Delete={"Objects": [{"Key": "nothing"}]})
    assert "Errors" not in answer
    denied(platform.client("s3").list_objects_v2, Bucket="anns")
    theirs.delete_bucket(Bucket="anns")


def test_the_expected_owner_is_the_buckets(platform: Platform, ann: dict[str, str], owners_bucket: str) -> None:
    """ExpectedBucketOwner lets a request pass only for the account that owns the bucket."""
    s3 = platform.client("s3")
    account = platform.settings.account
    assert s3.head_object(Bucket=owners_bucket, Key="a.txt", ExpectedBucketOwner=account)["ContentLength"] == 5
    denied(s3.head_object, Bucket=owners_bucket, Key="a.txt", ExpectedBucketOwner=ann["Account"])


def test_keys_of_other_accounts_are_for_s3_and_sts(platform: Platform, ann: dict[str, str]) -> None:
    """They learn who they are, and start no jobs."""
    identity = connect(platform, ann, "sts").get_caller_identity()
    assert identity["Account"] == ann["Account"] != platform.settings.account
    denied(connect(platform, ann, "sagemaker").list_models)


def test_a_removed_key_is_refused(platform: Platform) -> None:
    """The running server forgets it within a second."""
    key = json.loads(run_keys(platform, "create", "--owner", "eve", "--json"))
    client = connect(platform, key)
    assert client.list_buckets()["Buckets"] == []
    assert key["AccessKeyId"] in run_keys(platform, "list")
    assert key["SecretAccessKey"] not in run_keys(platform, "list", "--json")
    run_keys(platform, "rm", key["AccessKeyId"])

    def refused() -> bool:
        try:
            client.list_buckets()
        except ClientError as error:
            return bool(error.response["Error"]["Code"] == "InvalidAccessKeyId")
        return False

    assert wait_until("the key is forgotten", refused)


def test_strangers_get_in_where_acls_let_them(platform: Platform, ann: dict[str, str], owners_bucket: str) -> None:
    """An ACL counts once the owner has unblocked public access; blocking it again shuts them out."""
    s3, stranger = platform.client("s3"), connect(platform, None)
    denied(stranger.get_object, Bucket=owners_bucket, Key="a.txt")
    denied(stranger.list_buckets)
    with pytest.raises(ClientError, match="public ACLs are blocked"):
        s3.put_object_acl(Bucket=owners_bucket, Key="a.txt", ACL="public-read")
    s3.delete_public_access_block(Bucket=owners_bucket)
    s3.put_object_acl(Bucket=owners_bucket, Key="a.txt", ACL="public-read")
    assert stranger.get_object(Bucket=owners_bucket, Key="a.txt")["Body"].read() == b"hello"
    denied(stranger.put_object, Bucket=owners_bucket, Key="a.txt", Body=b"changed")
    denied(stranger.list_objects_v2, Bucket=owners_bucket)
    block = {"IgnorePublicAcls": True}
    s3.put_public_access_block(Bucket=owners_bucket, PublicAccessBlockConfiguration=block)
    denied(stranger.get_object, Bucket=owners_bucket, Key="a.txt")
    s3.put_object_acl(Bucket=owners_bucket, Key="a.txt", ACL="private")


def test_a_policy_lets_another_account_in(platform: Platform, ann: dict[str, str], owners_bucket: str) -> None:
    """For what it names, and no longer than it stands."""
    s3, theirs = platform.client("s3"), connect(platform, ann)
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": ann["Account"]},
        "Action": ["s3:GetObject", "s3:PutObject", "s3:PutObjectAcl"],
        "Resource": f"arn:aws:s3:::{owners_bucket}/shared/*",
    }
    s3.put_bucket_policy(Bucket=owners_bucket, Policy=json.dumps({"Statement": statement}))
    theirs.put_object(Bucket=owners_bucket, Key="shared/x", Body=b"from ann", ACL="bucket-owner-full-control")
    assert s3.get_object(Bucket=owners_bucket, Key="shared/x")["Body"].read() == b"from ann"
    assert s3.get_object_acl(Bucket=owners_bucket, Key="shared/x")["Owner"]["ID"] == ann["CanonicalUserId"]
    denied(theirs.get_object, Bucket=owners_bucket, Key="a.txt")
    s3.delete_bucket_policy(Bucket=owners_bucket)
    denied(theirs.put_object, Bucket=owners_bucket, Key="shared/x", Body=b"")


def test_new_buckets_take_no_acls(platform: Platform) -> None:
    """As on S3: ACLs are off and public access is blocked until the owner says otherwise."""
    s3 = platform.client("s3")
    s3.create_bucket(Bucket="fresh")
    controls = s3.get_bucket_ownership_controls(Bucket="fresh")["OwnershipControls"]
    assert controls == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    assert all(s3.get_public_access_block(Bucket="fresh")["PublicAccessBlockConfiguration"].values())
    with pytest.raises(ClientError, match="AccessControlListNotSupported"):
        s3.put_object(Bucket="fresh", Key="a", Body=b"", ACL="public-read")
    s3.delete_bucket_ownership_controls(Bucket="fresh")
    with pytest.raises(ClientError, match="OwnershipControlsNotFoundError"):
        s3.get_bucket_ownership_controls(Bucket="fresh")
    s3.delete_bucket(Bucket="fresh")


@pytest.mark.parametrize("version", ["s3v4", "s3"])
def test_a_form_uploads_what_its_policy_lets_it(platform: Platform, owners_bucket: str, version: str) -> None:
    """generate_presigned_post makes the form; size and prefix are held to, and nothing is stored that breaks them."""
    environment = client_environment(platform.settings, platform.address, proxy=False)
    key = {"AccessKeyId": environment["AWS_ACCESS_KEY_ID"], "SecretAccessKey": environment["AWS_SECRET_ACCESS_KEY"]}
    signer = connect(platform, key, signature_version=version)
    form = signer.generate_presigned_post(
        owners_bucket,
        "forms/${filename}",
        Fields={"success_action_status": "201", "x-amz-meta-who": "me"},
        Conditions=[{"success_action_status": "201"}, {"x-amz-meta-who": "me"}, ["content-length-range", 1, 10]],
    )
    status, answer, _ = post_form(form["url"], form["fields"], "b.txt", b"content")
    assert status == 201
    assert b"<Key>forms/b.txt</Key>" in answer
    stored = signer.get_object(Bucket=owners_bucket, Key="forms/b.txt")
    assert (stored["Body"].read(), stored["Metadata"]) == (b"content", {"who": "me"})
    status, answer, _ = post_form(form["url"], form["fields"], "large.txt", b"x" * 11)
    assert (status, b"EntityTooLarge" in answer) == (400, True)
    status, answer, _ = post_form(form["url"], form["fields"], "empty.txt", b"")
    assert (status, b"EntityTooSmall" in answer) == (400, True)
    status, answer, _ = post_form(form["url"], {**form["fields"], "x-amz-meta-who": "you"}, "c.txt", b"c")
    assert (status, b"Policy Condition failed" in answer) == (403, True)
    signature = "x-amz-signature" if version == "s3v4" else "signature"
    status, answer, _ = post_form(form["url"], {**form["fields"], signature: "AAAA"}, "c.txt", b"c")
    assert (status, b"SignatureDoesNotMatch" in answer) == (403, True)
    status, answer, _ = post_form(form["url"], {"key": "forms/anonymous"}, "c.txt", b"c")
    assert (status, b"AccessDenied" in answer) == (403, True)
    listed = signer.list_objects_v2(Bucket=owners_bucket, Prefix="forms/")["Contents"]
    assert [entry["Key"] for entry in listed] == ["forms/b.txt"]


def open_bucket(platform: Platform, bucket: str, *statements: dict[str, Any]) -> None:
    """Make a bucket where ACLs count, strangers are let in and the policy has these statements on all its objects."""
    s3 = platform.client("s3")
    s3.create_bucket(Bucket=bucket, ObjectOwnership="BucketOwnerPreferred")
    s3.delete_public_access_block(Bucket=bucket)
    resource = {"Principal": "*", "Resource": f"arn:aws:s3:::{bucket}/*"}
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Statement": [{**resource, **it} for it in statements]}))


@pytest.mark.parametrize(
    ("action", "extra"),
    [
        ("s3:PutObjectAcl", {"ACL": "public-read"}),
        ("s3:PutObjectAcl", {"GrantRead": 'uri="http://acs.amazonaws.com/groups/global/AllUsers"'}),
        ("s3:PutObjectTagging", {"Tagging": "public=yes"}),
    ],
)
def test_acl_and_tags_of_a_new_object_need_their_own_right(
    platform: Platform, ann: dict[str, str], action: str, extra: dict[str, str]
) -> None:
    """The right to store objects gives neither ACL nor tags, whichever operation brings them; a denial denies all."""
    bucket = f"{action[3:]}-{next(iter(extra))}".lower()
    allow = {"Effect": "Allow", "Action": ["s3:PutObject"]}
    both = {"Effect": "Allow", "Action": ["s3:PutObject", action]}
    open_bucket(platform, bucket, allow)
    s3, theirs = platform.client("s3"), connect(platform, ann)
    theirs.create_bucket(Bucket=f"{bucket}-source")
    theirs.put_object(Bucket=f"{bucket}-source", Key="k", Body=b"x", Tagging="public=yes")
    copy = {"CopySource": f"{bucket}-source/k", "TaggingDirective": "REPLACE", **extra}

    def all_denied(client: Any) -> None:
        denied(client.put_object, Bucket=bucket, Key="k", Body=b"x", **extra)
        denied(client.create_multipart_upload, Bucket=bucket, Key="k", **extra)

    all_denied(theirs)
    denied(theirs.copy_object, Bucket=bucket, Key="k", **copy)
    theirs.put_object(Bucket=bucket, Key="plain", Body=b"x")
    url = f"{platform.address.url}/{bucket}"
    tagging = "<Tagging><TagSet><Tag><Key>public</Key><Value>yes</Value></Tag></TagSet></Tagging>"
    field = {"acl": "public-read"} if action == "s3:PutObjectAcl" else {"tagging": tagging}
    assert post_form(url, {"key": "k", **field}, "f", b"x")[0] == 403
    if "Tagging" in extra:  # tags that come along with a copy are set as well
        denied(theirs.copy_object, Bucket=bucket, Key="k", CopySource=f"{bucket}-source/k")
    statements = [{"Principal": "*", "Resource": f"arn:aws:s3:::{bucket}/*", **both}]
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Statement": statements}))
    theirs.put_object(Bucket=bucket, Key="k", Body=b"x", **extra)
    theirs.copy_object(Bucket=bucket, Key="k", **copy)
    assert post_form(url, {"key": "k", **field}, "f", b"x")[0] == 204
    statements.append({**statements[0], "Effect": "Deny", "Action": action})
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Statement": statements}))
    all_denied(theirs)
    all_denied(s3)


def test_tags_that_a_copy_takes_along_are_read_first(platform: Platform, ann: dict[str, str]) -> None:
    """Whoever may read an object but not its tags copies it without them."""
    open_bucket(platform, "tagged", {"Effect": "Allow", "Action": "s3:GetObject"})
    platform.client("s3").put_object(Bucket="tagged", Key="k", Body=b"x", Tagging="a=b")
    theirs = connect(platform, ann)
    theirs.create_bucket(Bucket="copies")
    denied(theirs.copy_object, Bucket="copies", Key="k", CopySource="tagged/k")
    theirs.copy_object(Bucket="copies", Key="k", CopySource="tagged/k", TaggingDirective="REPLACE")
    assert theirs.get_object_tagging(Bucket="copies", Key="k")["TagSet"] == []


def test_conditions_on_a_form_are_about_its_fields(platform: Platform) -> None:
    """A field counts as the header that it stands for; a header of the request, which stores nothing, does not."""
    allow = {"Effect": "Allow", "Action": ["s3:PutObject", "s3:PutObjectAcl"]}
    public = {"StringEquals": {"s3:x-amz-acl": ["public-read", "public-read-write"]}}
    open_bucket(platform, "form-acl", allow, {**allow, "Effect": "Deny", "Condition": public})
    url = f"{platform.address.url}/form-acl"
    assert post_form(url, {"key": "k", "acl": "public-read"}, "f", b"x")[0] == 403
    assert post_form(url, {"key": "k", "acl": "private"}, "f", b"x")[0] == 204
    encrypted = {"StringEquals": {"s3:x-amz-server-side-encryption": "aws:kms"}}
    open_bucket(platform, "form-sse", {**allow, "Condition": encrypted})
    url, header = f"{platform.address.url}/form-sse", {"x-amz-server-side-encryption": "aws:kms"}
    assert post_form(url, {"key": "k"}, "f", b"x", header)[0] == 403
    assert post_form(url, {"key": "k", **header}, "f", b"x")[0] == 204
    assert platform.client("s3").head_object(Bucket="form-sse", Key="k")["ServerSideEncryption"] == "aws:kms"
    status, answer, _ = post_form(url, {"key": "k", "x-amz-storage-class": "BOGUS", **header}, "f", b"x")
    assert (status, b"BOGUS" in answer) == (400, True)


def test_forms_are_signed_for_s3(platform: Platform, owners_bucket: str) -> None:
    """The scope of a form's credential names S3, whatever its key could sign elsewhere."""
    environment = client_environment(platform.settings, platform.address, proxy=False)
    key = {"AccessKeyId": environment["AWS_ACCESS_KEY_ID"], "SecretAccessKey": environment["AWS_SECRET_ACCESS_KEY"]}
    form = connect(platform, key, signature_version="s3v4").generate_presigned_post(owners_bucket, "forms/s")
    fields = {**form["fields"], "x-amz-credential": form["fields"]["x-amz-credential"].replace("/s3/", "/sts/")}
    status, answer, _ = post_form(form["url"], fields, "f", b"x")
    assert (status, b"region/s3/aws4_request" in answer) == (400, True)


def post_form(
    url: str, fields: dict[str, str], name: str, content: bytes, headers: dict[str, str] | None = None
) -> tuple[int, bytes, Any]:
    """Send a form as a browser does; return status, body and headers."""
    parts = [f'--B\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n' for key, value in fields.items()]
    head = "".join(parts) + f'--B\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    body = head.encode() + content + b"\r\n--B--\r\n"
    return send(Request(url, data=body, headers={"Content-Type": "multipart/form-data; boundary=B", **(headers or {})}))


def send(request: Request) -> tuple[int, bytes, Any]:
    """Send a request; an error is an answer too."""
    try:
        with urlopen(request) as answer:
            return answer.status, answer.read(), answer.headers
    except HTTPError as answer:
        with answer:
            return answer.code, answer.read(), answer.headers


def test_pages_of_other_origins_may_do_what_cors_says(platform: Platform, owners_bucket: str) -> None:
    """Preflights are answered without a signature, and answers say who may read them."""
    s3 = platform.client("s3")
    rule = {"AllowedMethods": ["GET"], "AllowedOrigins": ["https://app.example.com"], "AllowedHeaders": ["range"]}
    url = s3.generate_presigned_url("get_object", Params={"Bucket": owners_bucket, "Key": "a.txt"})
    asked = {"Origin": "https://app.example.com", "Access-Control-Request-Method": "GET"}
    assert send(Request(url, method="OPTIONS", headers=asked))[0] == 403
    s3.put_bucket_cors(Bucket=owners_bucket, CORSConfiguration={"CORSRules": [rule]})
    status, _, headers = send(
        Request(url, method="OPTIONS", headers={**asked, "Access-Control-Request-Headers": "Range"})
    )
    assert (status, headers["Access-Control-Allow-Origin"]) == (200, "https://app.example.com")
    assert headers["Access-Control-Allow-Headers"] == "range"
    assert send(Request(url, method="OPTIONS", headers={**asked, "Origin": "https://evil.example.com"}))[0] == 403
    assert send(Request(url, method="OPTIONS"))[0] == 400
    status, body, headers = send(Request(url, headers={"Origin": "https://app.example.com"}))
    assert (status, body, headers["Access-Control-Allow-Origin"]) == (200, b"hello", "https://app.example.com")
    assert send(Request(url, headers={"Origin": "https://evil.example.com"}))[2]["Access-Control-Allow-Origin"] is None
    refused = send(Request(f"{platform.address.url}/{owners_bucket}/x", headers={"Origin": "https://app.example.com"}))
    assert (refused[0], refused[2]["Access-Control-Allow-Origin"]) == (403, "https://app.example.com")
    s3.delete_bucket_cors(Bucket=owners_bucket)
