"""Log lines for people: time, level, constant message, then its fields as name=value."""

import logging
import sys

__all__ = ["set_up_logging"]

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class _FieldFormatter(logging.Formatter):
    """Appends what was given as `extra`."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        line = super().formatMessage(record)
        fields = [f"{name}={value!s}" for name, value in vars(record).items() if name not in _STANDARD]
        return " ".join([line, *fields])


def set_up_logging(level: str, *, subject: str = "") -> None:
    """Send log lines of at least this level to stderr.

    Args:
        subject: What the process is about, such as a job; stands in each line.
    """
    handler = logging.StreamHandler(sys.stderr)
    about = f" {subject}:" if subject else ""
    handler.setFormatter(_FieldFormatter(f"%(asctime)s %(levelname)s %(name)s:{about} %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
