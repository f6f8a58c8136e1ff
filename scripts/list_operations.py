"""Write the table of docs/operations-served.md from the handler tables of the server.

    python scripts/list_operations.py          # rewrite the page
    python scripts/list_operations.py --print  # print it instead

The page is committed; a test fails when it does not say what this script would write.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from botocore import xform_name

from millrace import settings
from millrace.app import Server

__all__ = ["PAGE", "main", "operations_served", "render"]

PAGE = Path(__file__).parents[1] / "docs" / "operations-served.md"

_TITLES = {
    "sagemaker": "SageMaker",
    "sagemaker-runtime": "SageMaker runtime",
    "s3": "S3",
    "logs": "CloudWatch Logs",
    "sts": "STS",
    "iam": "IAM",
}

_HEAD = """\
# Operations served

Every AWS operation that Millrace answers. This page is written by `scripts/list_operations.py`; do not edit it.

An operation that is not listed here is answered with an error that names it
(`UnknownOperationException`, in S3 `NotImplemented`, in STS and IAM `InvalidAction`; see [errors.md](errors.md)).
What an operation does differently from AWS stands on the page of its service.
"""


def operations_served() -> Mapping[str, Sequence[str]]:
    """Return the names of the operations of each service, both in order."""
    with tempfile.TemporaryDirectory(prefix="millrace-operations-") as folder:
        server = Server(settings.load({}, data_dir=Path(folder)))
        try:
            return {service: sorted(table) for service, table in sorted(server.handlers().items())}
        finally:
            server.database.close()


def render(operations: Mapping[str, Sequence[str]]) -> str:
    """Return the page."""
    parts = [_HEAD]
    for service, names in operations.items():
        rows = "\n".join(f"| `{name}` | `{xform_name(name)}` |" for name in names)
        title = f"## {_TITLES.get(service, service)} (`{service}`): {len(names)}"
        parts.append(f"{title}\n\n| operation | in boto3 |\n|---|---|\n{rows}\n")
    return "\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script and return its exit code."""
    parser = argparse.ArgumentParser(description="Write docs/operations-served.md from the handler tables.")
    parser.add_argument("--print", action="store_true", help="print the page instead of writing it")
    options = parser.parse_args(arguments)
    page = render(operations_served())
    if options.print:
        sys.stdout.write(page)
    else:
        PAGE.write_text(page, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
