"""What may go, by which rule, and the seam of those who find and remove it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from millrace.settings import Settings

__all__ = ["Collector", "Leftover", "LeftoverKind", "Rules", "rules_of"]


class LeftoverKind(StrEnum):
    """What there is to remove; the values are those of reports."""

    JOB = "job record"
    LOG_STREAM = "log stream"
    UPLOAD = "multipart upload"
    DRAFT = "half-written file"
    OUTPUT = "unfinished output"
    IMAGE_DRAFT = "image draft"
    IMAGES = "unused images"
    WORK_FOLDER = "work folder"
    KEYS = "expired keys"


@dataclass(frozen=True, kw_only=True, slots=True)
class Leftover:
    """One thing that may go. `mark` is what its collector finds it by again."""

    kind: LeftoverKind
    name: str
    size: int
    since: datetime | None
    """When it was last of use; None where nothing tells."""
    mark: object = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """How long things are kept; None stands for ever."""

    jobs: timedelta | None = None
    logs: timedelta | None = None
    """Where a log group has no retention of its own."""
    uploads: timedelta | None = None
    drafts: timedelta = timedelta(days=1)
    outputs: timedelta | None = None


def rules_of(settings: Settings) -> Rules:
    """Return the rules that the settings make."""
    return Rules(
        jobs=_days(settings.keep_jobs_days),
        logs=_days(settings.keep_logs_days),
        uploads=_days(settings.keep_uploads_days),
        drafts=timedelta(hours=settings.keep_drafts_hours),
        outputs=_days(settings.keep_unfinished_outputs_days),
    )


def _days(number: float) -> timedelta | None:
    return timedelta(days=number) if number else None


class Collector(Protocol):
    """Finds one kind of leftovers and removes them.

    Finding changes nothing. Removing looks again whether the thing may still go, so that what came back to life since
    it was found stays; it may be broken off at any instant and done again.
    """

    async def find(self, now: datetime) -> list[Leftover]:
        """Return what may go now."""
        ...

    async def remove(self, leftover: Leftover, now: datetime) -> bool:
        """Remove one of them; False if it is gone already, or of use again."""
        ...
