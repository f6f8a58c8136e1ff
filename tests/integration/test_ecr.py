"""The ECR API over images that were built, by boto3 and the aws CLI."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from millrace.commands.environment import client_environment
from millrace.ports.images import ImageConfig, ImageName
from millrace.store.image_files import ImageFiles
from tests.integration.platform import Platform


@pytest.fixture
def ecr(platform: Platform) -> Any:
    return platform.client("ecr")


def built(platform: Platform, *tags: str, user: str = "root") -> str:
    """Let the store have an image, as a build leaves it, and return its digest."""
    images = ImageFiles(platform.settings.images_dir)
    manifest = images.add(base="debian:12", layers=(), config=ImageConfig(user=user), steps=())
    for tag in tags:
        images.tag(ImageName.parse(tag), manifest.digest)
    return manifest.digest


def test_a_repository_is_made_once_and_found(ecr: Any) -> None:
    """With the address that scripts build for."""
    made = ecr.create_repository(repositoryName="shop/made", tags=[{"Key": "team", "Value": "a"}])["repository"]
    assert made["repositoryUri"] == "000000000000.dkr.ecr.us-east-1.amazonaws.com/shop/made"
    with pytest.raises(ecr.exceptions.RepositoryAlreadyExistsException):
        ecr.create_repository(repositoryName="shop/made")
    [found] = ecr.describe_repositories(repositoryNames=["shop/made"])["repositories"]
    assert found == made
    assert ecr.list_tags_for_resource(resourceArn=made["repositoryArn"])["tags"] == [{"Key": "team", "Value": "a"}]
    with pytest.raises(ecr.exceptions.TooManyTagsException):
        ecr.tag_resource(resourceArn=made["repositoryArn"], tags=[{"Key": f"k{n}", "Value": ""} for n in range(51)])
    ecr.delete_repository(repositoryName="shop/made")
    with pytest.raises(ecr.exceptions.RepositoryNotFoundException):
        ecr.describe_repositories(repositoryNames=["shop/made"])


def test_images_that_were_built_are_told(ecr: Any, platform: Platform) -> None:
    """By tag and digest; their repository need not have been created."""
    digest = built(platform, "shop/told:1", "shop/told:2")
    assert {it["imageTag"]: it["imageDigest"] for it in ecr.list_images(repositoryName="shop/told")["imageIds"]} == {
        "1": digest,
        "2": digest,
    }
    [detail] = ecr.describe_images(repositoryName="shop/told", imageIds=[{"imageTag": "2"}])["imageDetails"]
    assert (detail["imageDigest"], detail["imageTags"]) == (digest, ["1", "2"])
    answer = ecr.batch_get_image(repositoryName="shop/told", imageIds=[{"imageDigest": digest}, {"imageTag": "9"}])
    assert json.loads(answer["images"][0]["imageManifest"])["base"] == "debian:12"
    assert [it["failureCode"] for it in answer["failures"]] == ["ImageNotFound"]
    with pytest.raises(ecr.exceptions.ImageNotFoundException):
        ecr.describe_images(repositoryName="shop/told", imageIds=[{"imageTag": "9"}])


def test_pages_go_on_where_they_ended(ecr: Any, platform: Platform) -> None:
    """Each tag once."""
    built(platform, *(f"shop/pages:{number}" for number in range(5)))
    pages = ecr.get_paginator("list_images").paginate(repositoryName="shop/pages", PaginationConfig={"PageSize": 2})
    assert [[it["imageTag"] for it in page["imageIds"]] for page in pages] == [["0", "1"], ["2", "3"], ["4"]]


def test_deleting_takes_tags_away(ecr: Any, platform: Platform) -> None:
    """One by its tag, all by the digest; a repository with images goes by force only."""
    digest = built(platform, "shop/deleted:1", "shop/deleted:2", "shop/deleted:3")
    gone = ecr.batch_delete_image(repositoryName="shop/deleted", imageIds=[{"imageTag": "1"}])
    assert gone["imageIds"] == [{"imageDigest": digest, "imageTag": "1"}]
    with pytest.raises(ecr.exceptions.RepositoryNotEmptyException):
        ecr.delete_repository(repositoryName="shop/deleted")
    ecr.batch_delete_image(repositoryName="shop/deleted", imageIds=[{"imageDigest": digest}])
    with pytest.raises(ecr.exceptions.RepositoryNotFoundException):
        ecr.list_images(repositoryName="shop/deleted")
    built(platform, "shop/deleted:4")
    ecr.delete_repository(repositoryName="shop/deleted", force=True)
    with pytest.raises(ecr.exceptions.RepositoryNotFoundException):
        ecr.list_images(repositoryName="shop/deleted")


def test_policies_are_kept_and_told(ecr: Any) -> None:
    """Those of access and of life."""
    ecr.create_repository(repositoryName="shop/policies")
    with pytest.raises(ecr.exceptions.RepositoryPolicyNotFoundException):
        ecr.get_repository_policy(repositoryName="shop/policies")
    ecr.set_repository_policy(repositoryName="shop/policies", policyText='{"Version": "2012-10-17"}')
    assert ecr.get_repository_policy(repositoryName="shop/policies")["policyText"] == '{"Version": "2012-10-17"}'
    with pytest.raises(ecr.exceptions.LifecyclePolicyNotFoundException):
        ecr.get_lifecycle_policy(repositoryName="shop/policies")
    with pytest.raises(ecr.exceptions.InvalidParameterException):
        ecr.put_lifecycle_policy(repositoryName="shop/policies", lifecyclePolicyText="no policy, " * 20)
    ecr.put_image_tag_mutability(repositoryName="shop/policies", imageTagMutability="IMMUTABLE")
    [found] = ecr.describe_repositories(repositoryNames=["shop/policies"])["repositories"]
    assert found["imageTagMutability"] == "IMMUTABLE"


def test_a_password_is_given_for_docker_login(ecr: Any) -> None:
    """Scripts log in before they build."""
    [data] = ecr.get_authorization_token()["authorizationData"]
    user, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
    assert user == "AWS" and len(password) > 20
    assert data["proxyEndpoint"] == "https://000000000000.dkr.ecr.us-east-1.amazonaws.com"


SCRIPT = """
aws ecr describe-repositories --repository-names shop/script >/dev/null 2>err || {
  grep -q RepositoryNotFoundException err
  aws ecr create-repository --repository-name shop/script --query repository.repositoryUri --output text
}
aws ecr get-login-password | wc -c | grep -qv '^0'
aws ecr describe-repositories --repository-names shop/script --query 'repositories[0].repositoryName' --output text
"""


def test_the_usual_build_script_goes_on(platform: Platform, tmp_path: Path) -> None:
    """Describe, create where that fails, log in: by the aws CLI."""
    environment = {
        **os.environ,
        **client_environment(platform.settings, platform.address, proxy=False),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    command = ["bash", "-euo", "pipefail", "-c", SCRIPT]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["000000000000.dkr.ecr.us-east-1.amazonaws.com/shop/script", "shop/script"]
