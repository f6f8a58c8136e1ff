"""What stands in a log line, for people and for programs."""

import json
import logging
import subprocess
import sys
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.log_format import JsonFormatter, TextFormatter, blank_secrets


def _record(message: str = "job claimed", **fields: object) -> logging.LogRecord:
    record = logging.makeLogRecord({"name": "millrace.x", "levelno": 20, "levelname": "INFO", "msg": message})
    record.created = 1_700_000_000.25
    vars(record).update(fields)
    return record


def test_a_json_line_is_one_object_with_its_fields() -> None:
    """Time with milliseconds in UTC, level, logger, message, what the process is about, and the record's own fields."""
    line = JsonFormatter({"job_id": 3, "instance": 0}).format(_record(status=200, path=b"/a", reason=None))
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "info",
        "logger": "millrace.x",
        "message": "job claimed",
        "job_id": 3,
        "instance": 0,
        "status": 200,
        "path": "/a",
        "reason": None,
    }
    assert datetime.fromisoformat(json.loads(line)["time"]).utcoffset() is not None


def test_an_exception_is_a_field() -> None:
    """A traceback does not break the line."""
    try:
        raise ValueError("two\nlines")
    except ValueError:
        record = _record()
        record.exc_info = sys.exc_info()
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert json.loads(line)["exception"].endswith("ValueError: two\nlines")


def test_a_field_does_not_hide_what_every_line_has() -> None:
    """A field called like one of the line's own gets an underscore."""
    entry = json.loads(JsonFormatter().format(_record(level="high", time=5)))
    assert (entry["level"], entry["level_"], entry["time_"]) == ("info", "high", 5)


def test_a_text_line_ends_with_its_fields() -> None:
    """For people: what the process is about before the message, fields as name=value behind it."""
    line = TextFormatter({"job_id": 3, "instance": 0, "attempt": 2}).format(_record(detail="x y"))
    assert line.endswith("INFO millrace.x: job 3 instance 0 attempt 2: job claimed detail=x y")


NAMES = st.from_regex(r"[a-z_]{1,9}", fullmatch=True)


@given(
    st.text(st.characters(exclude_categories=())),
    st.dictionaries(NAMES, st.none() | st.integers() | st.floats() | st.binary()),
)
def test_whatever_is_logged_is_one_line_of_json(message: str, fields: dict[str, object]) -> None:
    """No text, number or bytes break the form or lose the line."""
    record = _record("%s")
    record.args = (message,)
    vars(record).update({f"x_{name}": value for name, value in fields.items()})
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert {f"x_{name}" for name in fields} <= json.loads(line).keys()


@pytest.mark.parametrize(
    ("line", "blanked"),
    [
        ("GET /a?X-Amz-Signature=abc123&X-Amz-Date=1", "GET /a?X-Amz-Signature=***&X-Amz-Date=1"),
        ("X-Amz-Security-Token=tok/en+=&b=1", "X-Amz-Security-Token=***&b=1"),
        ("AWS4-HMAC-SHA256 Credential=AKIA/x, Signature=ff00", "AWS4-HMAC-SHA256 Credential=***, Signature=***"),
        ("/a?AWSAccessKeyId=A&Signature=x%2By", "/a?AWSAccessKeyId=A&Signature=***"),
        ("('x-amz-security-token', 'secret')", "('x-amz-security-token', '***')"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("postgresql://me:pass@host/db", "postgresql://me:***@host/db"),
        ("http://host:80/a@b", "http://host:80/a@b"),
        ("signatures are checked", "signatures are checked"),
    ],
)
def test_credentials_are_blanked(line: str, blanked: str) -> None:
    """Whatever brings them into a line, they do not leave the process by it."""
    assert blank_secrets(line) == blanked


def test_an_uncaught_exception_is_a_line_too() -> None:
    """A program that reads the log as JSON can read its end."""
    code = "from millrace.log_format import set_up_logging; set_up_logging('info', 'json'); 1 / 0"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    [line] = ended.stderr.splitlines()
    entry = json.loads(line)
    assert (ended.returncode, entry["level"], entry["message"]) == (1, "critical", "uncaught exception")
    assert "ZeroDivisionError" in entry["exception"]
