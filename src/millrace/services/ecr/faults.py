"""ECR's own errors."""

from millrace.errors import ApiError

__all__ = [
    "ImageNotFound",
    "InvalidParameter",
    "LifecyclePolicyNotFound",
    "RepositoryExists",
    "RepositoryNotEmpty",
    "RepositoryNotFound",
    "RepositoryPolicyNotFound",
    "TooManyTags",
]


class InvalidParameter(ApiError):
    """A parameter breaks a rule that the model cannot express."""

    code = "InvalidParameterException"


class RepositoryNotFound(ApiError):
    """There is no such repository. Scripts make it when they see this."""

    code = "RepositoryNotFoundException"


class RepositoryExists(ApiError):
    """The repository was made already."""

    code = "RepositoryAlreadyExistsException"


class RepositoryNotEmpty(ApiError):
    """The repository holds images, and `force` was not given."""

    code = "RepositoryNotEmptyException"


class ImageNotFound(ApiError):
    """There is no such tag or digest in the repository."""

    code = "ImageNotFoundException"


class RepositoryPolicyNotFound(ApiError):
    """The repository has no policy."""

    code = "RepositoryPolicyNotFoundException"


class LifecyclePolicyNotFound(ApiError):
    """The repository has no lifecycle policy."""

    code = "LifecyclePolicyNotFoundException"


class TooManyTags(ApiError):
    """A repository would have more tags than ECR allows."""

    code = "TooManyTagsException"
