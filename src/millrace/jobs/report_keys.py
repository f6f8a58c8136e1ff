"""Say where a job's report is below its output path, so that no later job takes it for input. Pure."""

import re

__all__ = ["HTML_NAME", "JSON_NAME", "is_report", "report_key"]

JSON_NAME = "report.json"
HTML_NAME = "report.html"
FOLDER = "_millrace"

_REPORT = re.compile(rf"(?:.*/)?{FOLDER}/[a-zA-Z0-9](?:-*[a-zA-Z0-9]){{0,62}}/(?:report\.json|report\.html)", re.DOTALL)


def report_key(job: str, name: str) -> str:
    """Return the key of a report relative to the output path of its job."""
    return f"{FOLDER}/{job}/{name}"


def is_report(key: str) -> bool:
    """Return whether a key is a report's: then it is no input of a job that reads the prefix it is under."""
    return key.endswith((JSON_NAME, HTML_NAME)) and _REPORT.fullmatch(key) is not None
