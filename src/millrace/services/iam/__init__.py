"""IAM: roles that jobs and notebooks name. They are kept and told; nothing is ever refused for want of a policy."""

from millrace.services.iam.operations import handlers

__all__ = ["handlers"]
