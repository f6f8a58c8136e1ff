"""Log lines: for people (fields as name=value) or for programs (one JSON object a line); secrets in neither.

A field is what was given as `extra`, and what the process as a whole is about. Credentials that a message, a field or a
traceback holds all the same, such as the query of a presigned URL, are blanked in the finished line.
"""

import json
import logging
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType, TracebackType

import orjson

__all__ = ["JsonFormatter", "TextFormatter", "blank_secrets", "set_up_logging"]

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_RESERVED = frozenset({"time", "level", "logger", "message", "exception", "stack"})
_NO_FIELDS: Mapping[str, object] = MappingProxyType({})

# A fixed part of each alternative is looked for first: most lines have none, and then this costs no regular expression.
_SECRET_MARKS = ("ignature", "ecurity-", "://", "redential", "earer ")
_SECRETS = re.compile(
    r"(?P<before>X-Amz-(?:Signature|Credential|Security-Token)=|[?&]Signature=|\bSignature=|\bCredential="
    r"|x-amz-security-token['\"]?\s*[:=,]\s*['\"]?|\bBearer )[^&\s'\",;]+"
    r"|(?P<scheme>[a-z][a-z0-9+]*://[^\s/:@'\"]*:)[^\s/@'\"]+(?=@)",
    re.IGNORECASE,
)


def blank_secrets(line: str) -> str:
    """Return a line with signatures, session tokens, bearer tokens and passwords of URLs replaced by asterisks."""
    if not any(mark in line for mark in _SECRET_MARKS):
        return line
    return _SECRETS.sub(lambda found: f"{found['before'] or found['scheme']}***", line)


class TextFormatter(logging.Formatter):
    """Time, level, logger, what the process is about, constant message, then the fields."""

    def __init__(self, about: Mapping[str, object] = _NO_FIELDS) -> None:
        subject = " ".join(f"{name.removesuffix('_id')} {value}" for name, value in about.items())
        super().__init__(f"%(asctime)s %(levelname)s %(name)s:{' ' + subject + ':' if subject else ''} %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return blank_secrets(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:
        line = super().formatMessage(record)
        return " ".join([line, *(f"{name}={_plain(value)!s}" for name, value in _fields(record).items())])


class JsonFormatter(logging.Formatter):
    """One JSON object: time (RFC 3339, UTC, milliseconds), level, logger, message, the fields, the traceback."""

    def __init__(self, about: Mapping[str, object] = _NO_FIELDS) -> None:
        super().__init__()
        self._about = about

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        entry: dict[str, object] = {
            "time": f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._about,
        }
        for name, value in _fields(record).items():
            entry[f"{name}_" if name in _RESERVED else name] = _plain(value)
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            entry["stack"] = self.formatStack(record.stack_info)
        return blank_secrets(_dump(entry))


def set_up_logging(level: str, layout: str = "text", *, about: Mapping[str, object] = _NO_FIELDS) -> None:
    """Send log lines of at least this level to stderr, and an exception that ends the process too.

    Args:
        level: debug, info, warning or error.
        layout: "text" or "json".
        about: Fields of every line: what the process is about, such as a job.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(about) if layout == "json" else TextFormatter(about))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught


def _dump(entry: Mapping[str, object]) -> str:
    try:
        return orjson.dumps(entry).decode()
    except TypeError:  # names of files that are no UTF-8, integers of more than 64 bits: no line is lost for them
        return json.dumps(entry)


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger("millrace").critical("uncaught exception", exc_info=(kind, error, trace))


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def _plain(value: object) -> object:
    """Return a field as JSON or text can hold it: paths of requests are bytes, some fields are values of ours."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, str | int | float | bool | None):
        return value
    return str(value)
