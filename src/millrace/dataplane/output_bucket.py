"""Tell a bucket that is missing because the output path names it from one that the store has lost."""

from collections.abc import Iterator
from contextlib import contextmanager

from millrace.names import ObjectRef
from millrace.ports.objects import NoSuchBucket

__all__ = ["NoOutputBucket", "of_output"]


class NoOutputBucket(Exception):
    """The output path is in a bucket that does not exist: the client's fault, unlike other errors of the store."""


@contextmanager
def of_output(ref: ObjectRef) -> Iterator[None]:
    """Say of a bucket that is missing that it is the output's."""
    try:
        yield
    except NoSuchBucket as exc:
        raise NoOutputBucket(f"bucket {ref.bucket} of the output does not exist") from exc
