"""IAM's errors."""

from millrace.errors import ApiError

__all__ = ["DeleteConflict", "EntityAlreadyExists", "MalformedPolicyDocument", "NoSuchEntity"]


class NoSuchEntity(ApiError):
    """The role, policy or user does not exist."""

    code = "NoSuchEntity"
    status = 404


class EntityAlreadyExists(ApiError):
    """The name is taken."""

    code = "EntityAlreadyExists"
    status = 409


class DeleteConflict(ApiError):
    """A role that still has policies is not deleted."""

    code = "DeleteConflict"
    status = 409


class MalformedPolicyDocument(ApiError):
    """The policy is no JSON object."""

    code = "MalformedPolicyDocument"
    status = 400
