"""`millrace jobs report`: how a transform job went, from what the state tells of it."""

import asyncio
import sys
from pathlib import Path

from millrace.commands.open_jobs import OpenJobs
from millrace.dataplane.report import job_report
from millrace.jobs.job import TransformJob
from millrace.names import DEFAULT_REGION
from millrace.settings import Settings

__all__ = ["print_report"]


def print_report(settings: Settings, name: str, *, region: str | None, html: Path | None) -> int:
    """Print the report of a job that has ended as JSON, or write it as a page."""
    with OpenJobs(settings) as jobs:
        kind, job = asyncio.run(jobs.find(name, region or DEFAULT_REGION))
    if not isinstance(job, TransformJob):
        raise SystemExit(f"millrace jobs: {name} is a {kind.value}; only transform jobs have reports")
    if not job.is_terminal:
        raise SystemExit(
            f"millrace jobs: {name} is {job.status.value}; it has a report once it has ended (`millrace jobs watch`)"
        )
    report = job_report(job)
    if html is None:
        sys.stdout.buffer.write(report.to_json())
        return 0
    try:
        html.write_text(report.to_html(), encoding="utf-8")
    except OSError as exc:
        raise SystemExit(f"millrace jobs: --html: can't write {html}: {exc.strerror}") from exc
    print(f"report in {html}")
    return 0
