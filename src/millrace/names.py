"""Names of things on the wire: ARNs, S3 references, job names. Frozen values that parse and print."""

import hashlib
import re
from dataclasses import dataclass
from typing import Self

__all__ = [
    "DEFAULT_ACCOUNT",
    "DEFAULT_REGION",
    "Arn",
    "ObjectPrefix",
    "ObjectRef",
    "canonical_user_id",
    "relative_key",
    "sagemaker_arn",
]

DEFAULT_ACCOUNT = "000000000000"
DEFAULT_REGION = "us-east-1"

_S3_URI = re.compile(r"(?:s3|S3)://([^/]+)/?(.*)", re.DOTALL)


@dataclass(frozen=True, kw_only=True, slots=True)
class Arn:
    """An Amazon Resource Name; `resource` is everything after the fifth colon."""

    service: str
    region: str
    account: str
    resource: str
    partition: str = "aws"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `arn:partition:service:region:account:resource`.

        Raises:
            ValueError: The text has another form; the message shows it.
        """
        parts = text.split(":", 5)
        if len(parts) != 6 or parts[0] != "arn" or not parts[5]:
            raise ValueError(f"expected arn:partition:service:region:account:resource, got {text!r}")
        return cls(partition=parts[1], service=parts[2], region=parts[3], account=parts[4], resource=parts[5])

    def __str__(self) -> str:
        return f"arn:{self.partition}:{self.service}:{self.region}:{self.account}:{self.resource}"

    @property
    def name(self) -> str:
        """The part of `resource` after its first slash: the name of a SageMaker resource."""
        return self.resource.partition("/")[2]


def sagemaker_arn(kind: str, name: str, *, region: str, account: str = DEFAULT_ACCOUNT) -> Arn:
    """Return the ARN of a SageMaker resource such as kind "transform-job"."""
    return Arn(service="sagemaker", region=region, account=account, resource=f"{kind}/{name}")


def canonical_user_id(account: str) -> str:
    """Return how S3's owners and grants name an account: 64 hexadecimal digits, which tell nothing about it."""
    return hashlib.sha256(account.encode()).hexdigest()


@dataclass(frozen=True, slots=True, order=True)
class ObjectRef:
    """One object: a bucket and a non-empty key."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Parse `s3://bucket/key`.

        Raises:
            ValueError: The text is no S3 URI, or has no key.
        """
        match = _S3_URI.fullmatch(uri)
        if match is None or not match[2]:
            raise ValueError(f"expected s3://bucket/key, got {uri!r}")
        return cls(match[1], match[2])

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True, slots=True, order=True)
class ObjectPrefix:
    """All objects of a bucket whose keys start with `prefix` (as a string, not as a folder); it may be empty."""

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Parse `s3://bucket[/prefix]`.

        Raises:
            ValueError: The text is no S3 URI.
        """
        match = _S3_URI.fullmatch(uri)
        if match is None:
            raise ValueError(f"expected s3://bucket/prefix, got {uri!r}")
        return cls(match[1], match[2])

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    def join(self, relative: str) -> ObjectRef:
        """Return the object below this prefix taken as a folder: one slash between, none doubled."""
        folder = self.prefix.rstrip("/")
        return ObjectRef(self.bucket, f"{folder}/{relative}" if folder else relative)


def relative_key(prefix: str, key: str) -> str:
    """Return the name of an object relative to the key prefix that selected it.

    One rule for channels, processing inputs and batch outputs.

    Raises:
        ValueError: The key does not start with the prefix.

    Source:
        containers.md 2.5.1, batch-transform.md 5.2: folders are kept, the selecting folder's own name is not.
    """
    if not key.startswith(prefix):
        raise ValueError(f"key {key!r} does not start with {prefix!r}")
    rest = key[len(prefix) :]
    if not rest:
        return key.rpartition("/")[2]
    if not prefix or prefix.endswith("/"):
        return rest
    if rest.startswith("/"):
        return rest[1:]
    return key[prefix.rfind("/") + 1 :]
