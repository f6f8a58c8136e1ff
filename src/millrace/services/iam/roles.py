"""A role as it is stored, and as the API tells it. Pure."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Self
from urllib.parse import quote

from millrace.services.iam.faults import MalformedPolicyDocument

__all__ = ["SAGEMAKER_TRUST", "Role", "checked_policy", "encoded_policy", "role_arn", "role_description", "unique_id"]

SAGEMAKER_TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
)
"""The trust policy of the default role; SDK v3 looks for the principal in it."""

DEFAULT_SESSION_SECONDS = 3600


@dataclass(frozen=True, kw_only=True, slots=True)
class Role:
    """A role. `inline` maps policy names to documents, `attached` ARNs of managed policies to names."""

    name: str
    trust: str
    path: str = "/"
    description: str | None = None
    max_session_seconds: int = DEFAULT_SESSION_SECONDS
    tags: Mapping[str, str] = field(default_factory=dict)
    inline: Mapping[str, str] = field(default_factory=dict)
    attached: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> Self:
        """Build the role that `content` was made of."""
        return cls(**content)

    @property
    def content(self) -> dict[str, Any]:
        """The role as a JSON document."""
        return asdict(self)


def checked_policy(document: str, member: str) -> str:
    """Return a policy document; raises MalformedPolicyDocument unless it is a JSON object."""
    try:
        policy = json.loads(document)
    except ValueError as exc:
        raise MalformedPolicyDocument(f"{member} must be a JSON document: {exc}") from None
    if not isinstance(policy, dict):
        raise MalformedPolicyDocument(f"{member} must be a JSON object, got {document[:100]!r}")
    return document


def encoded_policy(document: str) -> str:
    """Return a policy as IAM's answers have it: percent-encoded JSON, which botocore decodes."""
    return quote(document, safe="")


def unique_id(prefix: str, name: str) -> str:
    """Return a stable id such as AROA... for a name."""
    return prefix + hashlib.sha256(name.encode()).hexdigest()[:17].upper()


def role_arn(role: Role, account: str) -> str:
    """Return the role's ARN."""
    return f"arn:aws:iam::{account}:role{role.path}{role.name}"


def role_description(role: Role, account: str, created_at: datetime) -> dict[str, Any]:
    """Return the role as GetRole tells it."""
    return {
        "Path": role.path,
        "RoleName": role.name,
        "RoleId": unique_id("AROA", role.name),
        "Arn": role_arn(role, account),
        "CreateDate": created_at.replace(microsecond=0),
        "AssumeRolePolicyDocument": encoded_policy(role.trust),
        "Description": role.description,
        "MaxSessionDuration": role.max_session_seconds,
        "Tags": [{"Key": key, "Value": value} for key, value in role.tags.items()] or None,
    }
