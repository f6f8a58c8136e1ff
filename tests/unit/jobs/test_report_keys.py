"""Where reports are, and that only those are taken for reports."""

import pytest

from millrace.jobs.report_keys import HTML_NAME, is_report, report_key


@pytest.mark.parametrize(
    ("key", "report"),
    [
        ("_millrace/job-1/report.json", True),
        ("deep/out/_millrace/job-1/report.html", True),
        (report_key("a", HTML_NAME), True),
        ("_millrace/job-1/report.csv", False),
        ("_millrace/report.json", False),
        ("my_millrace/job/report.json", False),
        ("in/report.json", False),
        ("_millrace/a/b/report.json", False),
    ],
)
def test_only_reports_are_taken_for_reports(key: str, report: bool) -> None:
    """What a person calls alike stays input."""
    assert is_report(key) is report
