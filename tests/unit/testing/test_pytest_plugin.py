"""The fixtures as a project of its own uses them: each test runs pytest in a process."""

import sys
from pathlib import Path

import pytest

import millrace

pytest_plugins = ("pytester",)

TWO_TESTS = """
import os
import boto3

def test_one(millrace_server):
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="shop")
    s3.put_object(Bucket="shop", Key="a", Body=b"x")
    assert (millrace_server.data_dir / "objects" / "shop" / "a").read_bytes() == b"x"

def test_two(millrace_server):
    s3 = boto3.client("s3")
    assert s3.list_buckets()["Buckets"] == []
    s3.create_bucket(Bucket="shop")
    assert "Contents" not in s3.list_objects_v2(Bucket="shop")
    assert os.environ["MILLRACE_DATA_DIR"] == str(millrace_server.data_dir)

def test_without():
    assert "AWS_ENDPOINT_URL" not in os.environ
"""

A_JOB = """
import sys, json, subprocess

ROLE = "arn:aws:iam::000000000000:role/MillraceExecutionRole"
PIDS = []

def test_starts_a_job_that_never_ends(millrace_server, tmp_path_factory):
    program = "import os, sys, time; print(os.getpid(), flush=True); time.sleep(3600)"
    command = json.dumps([sys.executable, "-c", program])
    (millrace_server.data_dir / "host-images.toml").write_text(f'[[image]]\\nmatch = "mine:*"\\ncommand = {command}\\n')
    sagemaker, logs = millrace_server.boto3_client("sagemaker"), millrace_server.boto3_client("logs")
    s3 = millrace_server.boto3_client("s3")
    s3.create_bucket(Bucket="shop")
    sagemaker.create_training_job(
        TrainingJobName="endless",
        RoleArn=ROLE,
        AlgorithmSpecification={
            "TrainingImage": "000000000000.dkr.ecr.us-east-1.amazonaws.com/mine:latest", "TrainingInputMode": "File"
        },
        OutputDataConfig={"S3OutputPath": "s3://shop/out"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
    )
    follow = subprocess.Popen(
        [sys.executable, "-m", "millrace", "jobs", "logs", "--follow", "endless"],
        stdout=subprocess.PIPE, text=True, env={**__import__("os").environ, **millrace_server.env},
    )
    for line in follow.stdout:
        if line.strip().isdigit():
            PIDS.append(int(line))
            break
    follow.kill()
    follow.communicate()

def test_has_no_jobs(millrace_server):
    assert millrace_server.boto3_client("sagemaker").list_training_jobs()["TrainingJobSummaries"] == []

def test_the_process_is_gone(request):
    # The server, and with it all that it started, ends when the session does; the job ended before.
    import os, select
    try:
        descriptor = os.pidfd_open(PIDS[0])
    except ProcessLookupError:
        return
    assert select.select([descriptor], [], [], 30)[0]
"""


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without a server, and without the options of these tests."""
    for name in ("AWS_ENDPOINT_URL", "MILLRACE_DATA_DIR", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)


def test_each_test_starts_from_nothing(pytester: pytest.Pytester) -> None:
    """Buckets of one test are not there in the next; the environment is that of the test only."""
    pytester.makepyfile(TWO_TESTS)
    pytester.runpytest_subprocess("-p", "no:xdist").assert_outcomes(passed=3)


def test_each_worker_has_a_server(pytester: pytest.Pytester) -> None:
    """Under pytest-xdist tests run side by side, each worker with a server of its own."""
    pytester.makepyfile(test_a=TWO_TESTS, test_b=TWO_TESTS)
    pytester.runpytest_subprocess("-n", "2").assert_outcomes(passed=6)


def test_a_reset_ends_running_jobs(pytester: pytest.Pytester) -> None:
    """A job that one test leaves running is killed when the next one begins."""
    pytester.makepyfile(A_JOB)
    pytester.runpytest_subprocess("-p", "no:xdist").assert_outcomes(passed=3)


def test_the_session_server_keeps_its_state(pytester: pytest.Pytester) -> None:
    """What one test made is there for the next, and in the function's server it is not."""
    pytester.makepyfile(
        """
        def test_one(millrace_server_session, millrace_server):
            millrace_server_session.boto3_client("s3").create_bucket(Bucket="shop")
            assert millrace_server.boto3_client("s3").list_buckets()["Buckets"] == []

        def test_two(millrace_server_session):
            [bucket] = millrace_server_session.boto3_client("s3").list_buckets()["Buckets"]
            assert bucket["Name"] == "shop"
        """
    )
    pytester.runpytest_subprocess("-p", "no:xdist").assert_outcomes(passed=2)


def test_importing_the_plugin_imports_nothing_of_the_server(pytester: pytest.Pytester) -> None:
    """A session that uses none of the fixtures pays next to nothing for them."""
    script = pytester.makepyfile(
        look="""
            import sys
            import millrace.testing.pytest_plugin
            heavy = [name for name in sys.modules if name.split(".")[0] in ("botocore", "boto3", "uvicorn", "orjson")]
            assert heavy == [], heavy
            assert not [name for name in sys.modules if name.startswith("millrace.") and ".testing" not in name]
            """
    )
    ended = pytester.run(sys.executable, str(script))
    assert ended.ret == 0


def test_a_server_that_does_not_start_is_told(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the end of the server's log, which names what is wrong."""
    monkeypatch.setenv("MILLRACE_LOG_LEVEL", "loud")
    pytester.makepyfile("def test_one(millrace_server): pass")
    ended = pytester.runpytest_subprocess("-p", "no:xdist")
    ended.assert_outcomes(errors=1)
    ended.stdout.fnmatch_lines(["*MILLRACE_LOG_LEVEL must be one of*"])


def test_serve_has_no_door_for_resets() -> None:
    """Only the program behind the fixtures can reset: nothing else of the package imports it."""
    package = Path(millrace.__file__).parent
    sources = [path for path in package.rglob("*.py") if package / "testing" not in path.parents]
    assert [path for path in sources if "testing.server" in path.read_text("utf-8")] == []
