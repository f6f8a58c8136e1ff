"""Every exception of the algorithms, by who is at fault.

AlgorithmError
  InputError               the job's owner gave bad hyperparameters or data: exit code 2, text in output/failure
  RequestError             the caller of the endpoint: an HTTP status
    PayloadError           400: the body cannot be evaluated
    PayloadTooLarge        413
    UnsupportedContentType 415
    NotAcceptable          406
  MalformedText            a cell that is no number, or a row of another width: both branches word it
    BadCell, BadLine, BadRowWidth, NotFinite
  MalformedRecord          bytes that are no RecordIO or no protobuf record
  ModelError               the model directory does not hold what serving needs
"""

import math
from collections.abc import Sequence
from typing import ClassVar

__all__ = [
    "AlgorithmError",
    "BadCell",
    "BadLine",
    "BadRowWidth",
    "InputError",
    "MalformedRecord",
    "MalformedText",
    "ModelError",
    "NotAcceptable",
    "NotFinite",
    "PayloadError",
    "PayloadTooLarge",
    "RequestError",
    "UnsupportedContentType",
]


class AlgorithmError(Exception):
    """The root of all errors that the algorithms raise on purpose."""


class InputError(AlgorithmError):
    """The job's owner can put it right; the message becomes its FailureReason."""


class ModelError(AlgorithmError):
    """The model directory does not hold a model that this program can serve."""


class RequestError(AlgorithmError):
    """An answer to the caller of the endpoint with an HTTP status of its own."""

    status: ClassVar[int] = 400


class PayloadError(RequestError):
    """The body cannot be evaluated; clients match the first words."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"unable to evaluate payload provided: {reason}")


class PayloadTooLarge(RequestError):
    """The body exceeds the limit."""

    status = 413

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"payload must be at most {limit_bytes} bytes")


class UnsupportedContentType(RequestError):
    """The body's media type is not one that the algorithm reads."""

    status = 415

    def __init__(self, given: str, supported: Sequence[str]) -> None:
        super().__init__(f"content-type {given} not supported; expected one of {', '.join(supported)}")


class NotAcceptable(RequestError):
    """The media type asked for is not one that the algorithm writes."""

    status = 406

    def __init__(self, given: str, supported: Sequence[str]) -> None:
        super().__init__(
            f"Accept type {given} is not supported. Please use supported accept types: {', '.join(supported)}."
        )


class MalformedText(AlgorithmError):
    """Text or instances that hold no table of numbers."""


class BadCell(MalformedText):
    """A cell that is no number; `row` and `column` count from 1."""

    def __init__(self, *, row: int, column: int, text: str) -> None:
        what = "blank cell" if not text.strip() else f"{text[:60]!r} is not a number"
        super().__init__(f"{what} in row {row}, column {column}")
        self.row = row
        self.column = column
        self.text = text


class BadLine(MalformedText):
    """A line that is no row of cells at all; `row` counts from 1."""

    def __init__(self, what: str, *, row: int) -> None:
        super().__init__(f"{what} in row {row}")
        self.row = row


class BadRowWidth(MalformedText):
    """A row with more or fewer numbers than expected; `row` counts from 1."""

    def __init__(self, *, row: int, expected: int, got: int) -> None:
        super().__init__(f"expected {expected} features, got {got} in row {row}")
        self.row = row
        self.expected = expected
        self.got = got


class NotFinite(MalformedText):
    """A number that is NaN or infinite, or becomes so in float32; `row` and `column` count from 1, a label has none."""

    def __init__(self, *, value: float, row: int, column: int | None) -> None:
        what = "finite as float32" if math.isfinite(value) else "finite"
        where = f"row {row}, column {column}" if column is not None else f"the label of row {row}"
        super().__init__(f"'{value:g}' is not {what} in {where}")
        self.value = value
        self.row = row
        self.column = column


class MalformedRecord(AlgorithmError):
    """Bytes that are no RecordIO frame or no protobuf record; `record` counts from 1."""

    def __init__(self, reason: str, *, record: int) -> None:
        super().__init__(f"{reason} in record {record}")
        self.record = record
