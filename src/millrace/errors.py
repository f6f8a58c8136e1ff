"""Every exception of ours, by who reads it.

MillraceError
  ApiError                 the caller reads it: AWS code, message, HTTP status
    ValidationError        also ResourceNotFound, ResourceInUse, ResourceLimitExceeded, ConflictError,
                           AccessDenied, UnknownOperation, DiskFull
    S3Error                S3's own codes, one class: the code is data there
  UsageError               the one at the command line reads it
  JobFailure               the job's owner reads it, as FailureReason (at most 1,024 characters)
    ClientFailure          "ClientError: ...": the input, the model or the request is at fault
    AlgorithmFailure       "AlgorithmError: ...": the container is at fault
    InternalFailure        "InternalServerError: ...": the platform is at fault
  InfrastructureError      the operator reads it, with its traceback; a caller sees InternalFailure
    StoreUnavailable       also StoreFull
    RuntimeUnavailable, ImageUnavailable, LeaseLost
"""

import errno
from typing import ClassVar

from millrace.told import printable

__all__ = [
    "FAILURE_REASON_LIMIT",
    "NOT_ALLOWED",
    "NO_ROOM",
    "AccessDenied",
    "AlgorithmFailure",
    "ApiError",
    "ClientFailure",
    "ConflictError",
    "DiskFull",
    "ImageUnavailable",
    "InfrastructureError",
    "InternalFailure",
    "JobFailure",
    "LeaseLost",
    "MillraceError",
    "ResourceInUse",
    "ResourceLimitExceeded",
    "ResourceNotFound",
    "RuntimeUnavailable",
    "S3Error",
    "StoreFull",
    "StoreUnavailable",
    "UnknownOperation",
    "UsageError",
    "ValidationError",
]

FAILURE_REASON_LIMIT = 1024

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Error numbers of a disk that takes no more."""

NOT_ALLOWED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
"""Error numbers of a place that may not be written to."""


class MillraceError(Exception):
    """The root of all errors that Millrace raises on purpose."""


class ApiError(MillraceError):
    """An answer to the caller. `code` is what AWS calls it; `status` is the HTTP status.

    `members` are further members of the modelled error shape (such as ModelError's OriginalStatusCode).
    """

    code: ClassVar[str] = "InternalFailure"
    status: ClassVar[int] = 400
    fault: ClassVar[str] = "client"

    def __init__(self, message: str, *, members: dict[str, object] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.members = members or {}

    @property
    def wire_code(self) -> str:
        """The code as the client reads it."""
        return self.code

    @property
    def wire_status(self) -> int:
        """The HTTP status of the answer."""
        return self.status


class ValidationError(ApiError):
    """The request breaks a rule of the API. SageMaker's control plane calls this ValidationException."""

    code = "ValidationException"


class ResourceNotFound(ApiError):
    """Something that the request names does not exist."""

    code = "ResourceNotFound"


class ResourceInUse(ApiError):
    """The name is taken."""

    code = "ResourceInUse"


class ResourceLimitExceeded(ApiError):
    """A quota is used up."""

    code = "ResourceLimitExceeded"


class ConflictError(ApiError):
    """The request collides with another one."""

    code = "ConflictException"


class AccessDenied(ApiError):
    """The caller may not do this."""

    code = "AccessDeniedException"


class DiskFull(ApiError):
    """Nothing can be stored now; clients retry this."""

    code = "ServiceUnavailable"
    status = 503
    fault = "server"

    def __init__(self) -> None:
        super().__init__("The disk of the server's data directory is full. Nothing was stored.")


class UnknownOperation(ApiError):
    """We do not serve this operation; the message names it."""

    code = "UnknownOperationException"


class S3Error(ApiError):
    """One of S3's error codes; there the code is data, for there are about a hundred."""

    def __init__(self, code: str, message: str, *, status: int, members: dict[str, object] | None = None) -> None:
        super().__init__(message, members=members)
        self._code = code
        self._status = status

    @property
    def wire_code(self) -> str:
        return self._code

    @property
    def wire_status(self) -> int:
        return self._status


class UsageError(MillraceError):
    """An option or setting of the command line does not make sense here; the message names it."""


class JobFailure(MillraceError):
    """Why a job failed, for its owner. `str(failure.reason)` becomes FailureReason.

    `container` names the one of a model's several containers that is at fault; the text then begins with it.
    """

    label: ClassVar[str] = "InternalServerError"

    def __init__(self, message: str = "", *, container: str | None = None) -> None:
        super().__init__(message if container is None else f"{container}: {message}")
        self.container = container

    @property
    def reason(self) -> str:
        """The FailureReason: label, colon, text, control characters escaped; cut at 1,024 characters."""
        return printable(f"{self.label}: {self}")[:FAILURE_REASON_LIMIT]


class ClientFailure(JobFailure):
    """The input, the model or the request is at fault."""

    label = "ClientError"


class AlgorithmFailure(JobFailure):
    """The container is at fault."""

    label = "AlgorithmError"


class InternalFailure(JobFailure):
    """The platform is at fault."""

    label = "InternalServerError"


class InfrastructureError(MillraceError):
    """Something below us does not work; for the operator."""


class StoreUnavailable(InfrastructureError):
    """The state store or object store cannot be reached or is damaged."""


class StoreFull(StoreUnavailable):
    """The disk of the state takes no more."""


class RuntimeUnavailable(InfrastructureError):
    """No container runtime can do what was asked."""


class ImageUnavailable(InfrastructureError):
    """No image answers to this name."""


class LeaseLost(InfrastructureError):
    """Another process has taken over this piece of work: stop at once and write nothing more."""
