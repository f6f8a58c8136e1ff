"""Run Ceph's public S3 tests against a server of this checkout and print the tally.

    git clone https://github.com/ceph/s3-tests
    python -m venv s3-tests/venv && s3-tests/venv/bin/pip install -r s3-tests/requirements.txt pytest-xdist
    python scripts/s3_conformance.py --s3-tests s3-tests --python s3-tests/venv/bin/python

It starts a server on a temporary data directory, with a key for each of the users that the tests know, writes their
configuration, runs the selection below, and prints how many tests passed and the names of those that did not.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["MARKS", "NAMES", "main"]

MARKS = (
    "not fails_on_aws and not fails_on_s3 "  # what Amazon S3 itself does not pass is no aim
    "and not encryption and not sse_s3 and not bucket_encryption "
    "and not lifecycle and not lifecycle_expiration and not lifecycle_transition "
    "and not bucket_logging and not bucket_logging_cleanup "
    "and not cloud_transition and not cloud_restore and not storage_class "
    "and not appendobject and not delete_marker and not s3select "
    "and not iam_account and not iam_user and not iam_role and not iam_tenant and not iam_cross_account "
    "and not s3website and not s3website_routing_rules and not s3website_redirect_location"
)
"""Tests of what is not offered, by mark: SSE-C and KMS, lifecycle and logging that act, tiers, appends, IAM users."""

NAMES = (
    "not version and not object_lock and not put_current_object_if and not put_object_current_if "
    "and not sse_ and not torrent and not different_tenant and not tenanted_bucket"
)
"""The same by name, where there is no mark: versions, Object Lock, BitTorrent, Ceph's namespaces of users."""

USERS = ("main", "alt", "tenant", "iam", "root", "altroot")

_CONFIGURATION = """\
[DEFAULT]
host = 127.0.0.1
port = {port}
is_secure = False

[fixtures]
bucket prefix = conformance-{{random}}-

[s3 main]
{main}
api_name = eu-west-1

[s3 alt]
{alt}

[s3 tenant]
{tenant}
tenant = tenant

[iam]
{iam}

[iam root]
{root}

[iam alt root]
{altroot}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tests; return 0 if all of the selection passed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--s3-tests", type=Path, required=True, metavar="DIR", help="a checkout of ceph/s3-tests")
    parser.add_argument("--python", default=sys.executable, help="an interpreter that has the tests' requirements")
    parser.add_argument("--workers", type=int, default=2, help="processes that run tests; more than 1 needs xdist")
    parser.add_argument("--file", default="s3tests/functional/test_s3.py", help="the file of tests")
    parser.add_argument("-m", dest="marks", default=MARKS, help="pytest's -m, instead of the selection's")
    parser.add_argument("-k", dest="names", default=NAMES, help="pytest's -k, instead of the selection's")
    parser.add_argument("--details", type=Path, metavar="FILE", help="write pytest's output to a file")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="millrace-s3-") as folder:
        return _report(_run(options, Path(folder)))


def _run(options: argparse.Namespace, folder: Path) -> Path:
    environment = {
        **os.environ,
        "MILLRACE_DATA_DIR": str(folder / "data"),
        "MILLRACE_PORT": "0",
        "MILLRACE_NEW_BUCKETS": "open",
        "MILLRACE_ACCESS_LOG": "none",
    }
    users = {user: _make_key(user, environment) for user in USERS}
    server = subprocess.Popen(
        [sys.executable, "-m", "millrace", "serve", "--stop-at-eof"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        port = server.stdout.readline().partition("http://127.0.0.1:")[2].partition(",")[0]
        configuration = folder / "s3tests.conf"
        sections = {user: _section(user, key) for user, key in users.items()}
        configuration.write_text(_CONFIGURATION.format(port=port, **sections), "utf-8")
        return _pytest(options, folder, {**environment, "S3TEST_CONF": str(configuration)})
    finally:
        server.terminate()
        server.wait()


def _make_key(user: str, environment: Mapping[str, str]) -> Mapping[str, Any]:
    # The tests grant rights by e-mail address too, which here is an account's name.
    command = [sys.executable, "-m", "millrace", "keys", "create", "--owner", f"{user}@example.com", "--json"]
    made = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    document: Mapping[str, Any] = json.loads(made.stdout)
    return document


def _section(user: str, key: Mapping[str, Any]) -> str:
    return "\n".join(
        [
            f"display_name = {key['Owner']}",
            f"user_id = {key['CanonicalUserId']}",
            f"email = {key['Owner']}",
            f"access_key = {key['AccessKeyId']}",
            f"secret_key = {key['SecretAccessKey']}",
        ]
    )


def _pytest(options: argparse.Namespace, folder: Path, environment: Mapping[str, str]) -> Path:
    results = folder / "results.xml"
    command = [options.python, "-m", "pytest", "-q", options.file, "-m", options.marks, "-k", options.names]
    command += ["-p", "no:cacheprovider", f"--junitxml={results}", "--tb=short", f"--basetemp={folder / 'pytest'}"]
    if options.workers > 1:
        command += ["-n", str(options.workers)]
    began = time.monotonic()
    if options.details is None:
        subprocess.run(command, cwd=options.s3_tests, env=environment, stdout=subprocess.DEVNULL, check=False)
    else:
        with options.details.open("wb") as output:
            subprocess.run(command, cwd=options.s3_tests, env=environment, stdout=output, stderr=output, check=False)
    print(f"ran for {time.monotonic() - began:.0f} s")
    return results


def _report(results: Path) -> int:
    outcomes: dict[str, list[str]] = {"passed": [], "failed": [], "skipped": []}
    for case in ElementTree.parse(results).iter("testcase"):
        kinds = {child.tag for child in case}
        outcome = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        outcomes[outcome].append(case.get("name") or "")
    for name in sorted(outcomes["failed"]):
        print(f"failed {name}")
    print(", ".join(f"{len(names)} {outcome}" for outcome, names in outcomes.items()))
    return 1 if outcomes["failed"] or not outcomes["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
