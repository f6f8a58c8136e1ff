"""The body of one invocation, what forms it, and why it may be impossible to form."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from millrace.dataplane.bad_records import Isolation
    from millrace.dataplane.json_members import Frame

__all__ = [
    "BEGINNING",
    "CorruptRecords",
    "HeaderTooLarge",
    "NoPayloads",
    "Payload",
    "PayloadFormer",
    "PayloadTooLarge",
    "UnusableRecord",
]

BEGINNING = 1, 0
"""The number and first byte of an object's first record."""


SHORT_BODY_BYTES = 64 * 1024
"""Up to as many bytes of what was sent are held until the answer comes, for another attempt."""


class UnusableRecord(Exception):
    """No payload can be formed; `record` counts from 1, `offset` is its first byte."""

    def __init__(self, message: str, record: int, offset: int) -> None:
        super().__init__(message)
        self.record = record
        self.offset = offset

    def told(self, limit: int) -> str:
        """Return what the job's owner reads; `limit` is the payload limit in bytes."""
        return str(self)

    def counted_from(self, begin: int) -> "UnusableRecord":
        """Return the same with the places in its message as they are in an object that was read from `begin` on."""
        return self


class PayloadTooLarge(UnusableRecord):
    """A record does not fit in one payload."""

    may_be_passed_over = True
    """Whether it is the record that is too long, so that there may be payloads behind it."""

    def __init__(self, record: int, offset: int) -> None:
        super().__init__("Too much data for max payload size", record, offset)

    def told(self, limit: int) -> str:
        return f"{self}: it must be at most {limit} bytes"


class HeaderTooLarge(PayloadTooLarge):
    """A header that each payload begins with leaves no room for a record."""

    may_be_passed_over = False


class CorruptRecords(UnusableRecord):
    """The object is not framed as its split type says, from this record on; the message says where and why.

    `words` holds `{}` where a place stands that the message tells.
    """

    def __init__(self, words: str, record: int, offset: int, *, place: int | None = None) -> None:
        super().__init__(words if place is None else words.format(place), record, offset)
        self._words = words
        self._place = place

    def counted_from(self, begin: int) -> UnusableRecord:
        if self._place is None:
            return self
        return CorruptRecords(self._words, self.record, self.offset, place=begin + self._place)


class Payload:
    """The body of one invocation and where it comes from. Mutable and plain: there is one for every request.

    `record` is the number (from 1) of its first record, `offset` that record's first byte in the object. `raw` is the
    original text where a join needs it, `frames` what answers are joined with if that is known before they come.
    `dropped` are those of its `records` that are not sent, since they are blank.
    `index`, `failed_attempts`, `isolation` and `sent_at` (of the attempt that failed last) belong to the run.
    `is_suspect` tells that it is sent by itself, `lost_alone` how often it had no answer then.
    `too_large` tells that it is not to be sent: it holds the beginning of a record of `length` bytes.
    """

    raw = b""
    frames: "list[Frame] | None" = None
    index = 0
    failed_attempts = 0
    dropped = 0
    lost_alone = 0
    is_suspect = False
    sent_at = 0.0
    too_large: PayloadTooLarge | None = None
    length = 0
    isolation: "Isolation | None" = None

    def __init__(
        self, body: bytes | Sequence[bytes | memoryview], size: int, record: int, offset: int, records: int
    ) -> None:
        self.body = body
        self.size = size
        self.sent_size = size
        self.record = record
        self.offset = offset
        self.records = records

    def let_go(self) -> None:
        """Forget the body, which was sent and can be made of `raw` again; a short one is not worth that."""
        if self.raw and self.sent_size > SHORT_BODY_BYTES:
            self.body = b""

    @property
    def is_let_go(self) -> bool:
        """Whether the body must be made again to be sent."""
        return self.sent_size > SHORT_BODY_BYTES and not self.body

    def joined(self) -> bytes:
        """Return the body as one bytes object."""
        return self.body if isinstance(self.body, bytes) else b"".join(self.body)


class PayloadFormer(Protocol):
    """Makes payloads of one object's chunks.

    `ready` holds payloads that are formed, the next one last: whoever wants many may take them off it without a call.
    `aim` is a size that payloads of many records should about have, within the limit; 0 is as large as fits.
    """

    aim: int
    ready: list[Payload]

    @property
    def buffered(self) -> int:
        """Bytes fed and not yet handed out in a payload."""
        ...

    def feed(self, chunk: bytes) -> None:
        """Add the next bytes of the object."""
        ...

    def finish(self) -> None:
        """Tell that the object has ended."""
        ...

    def take(self) -> Payload | None:
        """Return the next payload, or None if more must be fed or nothing is left; raises UnusableRecord."""
        ...

    def taken(self) -> tuple[int, int]:
        """Return how many records, and bytes, of the object are in payloads that were taken."""
        ...

    def reached(self) -> tuple[int, int]:
        """Return the number (from 1) and first byte of the record that was fed in part; then take no more."""
        ...

    def rest(self) -> list[bytes | memoryview]:
        """Return what was fed and is in no payload that was taken; then feed and take no more."""
        ...


class NoPayloads:
    """The former of an object of which no more payloads are wanted than were taken."""

    buffered = 0

    def __init__(self, taken: tuple[int, int]) -> None:
        self.aim = 0
        self.ready: list[Payload] = []
        self._taken = taken

    def feed(self, chunk: bytes) -> None:
        """Ignore the chunk."""

    def finish(self) -> None:
        """Ignore the end."""

    def take(self) -> None:
        """Give nothing."""

    def reached(self) -> tuple[int, int]:
        records, offset = self._taken
        return records + 1, offset

    def taken(self) -> tuple[int, int]:
        return self._taken

    def rest(self) -> list[bytes | memoryview]:
        return []
