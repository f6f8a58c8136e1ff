"""A server and the commands with their state in PostgreSQL: everything works, and nothing tells the password."""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace.settings import BadSettings, Settings, as_environment, load
from tests.integration.platform import Platform
from tests.postgresql import PostgresqlServer

PASSWORD = "hush-hush"
"""Stands in the addresses of the tests' databases."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, postgresql: PostgresqlServer) -> Iterator[Platform]:
    """One server on an empty database."""
    url = postgresql.create_database(empty=True)
    running = Platform(tmp_path_factory.mktemp("platform"), database_url=url, log_level="debug").start()
    running.put("s3://shop/in/a.csv", b"1,2\n3,4\n5,6\n")
    running.transform("t", running.model("m", MODE="rowsum"), "s3://shop/in/")
    assert running.ended_transform("t")["TransformJobStatus"] == "Completed"
    yield running
    assert running.stop() == 0


def millrace(settings: Settings, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command with a server's settings and return how it ended."""
    return subprocess.run(
        [sys.executable, "-m", "millrace", *words],
        env={**os.environ, **as_environment(settings), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("jobs", "list"), "transform-job/t"),
        (("jobs", "show", "t"), '"InstanceFinished"'),
        (("jobs", "logs", "t"), "serving rowsum"),
        (("keys", "list"), "millrace"),
        (("env",), "AWS_ENDPOINT_URL"),
        (("doctor",), "runs on http://127.0.0.1:"),
        (("doctor",), "ok      state: the PostgreSQL database"),
        (("gc", "--dry-run"), "would remove"),
        (("exec", "--", "printenv", "AWS_ENDPOINT_URL"), "http://127.0.0.1:"),
    ],
)
def test_commands_work_on_the_database(server: Platform, words: tuple[str, ...], text: str) -> None:
    """They find what the server keeps there, and the server; none of them tells the password."""
    ended = millrace(server.settings, *words)
    assert text in ended.stdout, ended.stderr
    assert PASSWORD not in ended.stdout + ended.stderr
    assert not server.settings.database_path.exists()


def test_nothing_tells_the_password(server: Platform) -> None:
    """Neither logs nor metrics nor the list of processes nor any file of the data directory."""
    with urllib.request.urlopen(f"{server.address.url}/_millrace/metrics") as answer:
        assert PASSWORD not in answer.read().decode()
    for path in server.settings.data_dir.rglob("*"):
        if path.is_file():
            assert PASSWORD.encode() not in path.read_bytes(), path
    assert server.process is not None
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                assert PASSWORD.encode() not in (entry / "cmdline").read_bytes()
            except OSError:
                continue  # it has ended


def test_containers_do_not_get_the_address(server: Platform) -> None:
    """They are the users' programs, and need no way to the state."""
    server.train("look", HyperParameters={"do": "environment"})
    server.ended_training("look")
    [line] = [line for line in server.log("/aws/sagemaker/TrainingJobs", "look/") if line.startswith("environment")]
    assert "TRAINING_JOB_NAME" in line
    assert "MILLRACE_DATABASE_URL" not in line


def test_a_database_that_is_not_there_is_named(server: Platform, tmp_path: Path) -> None:
    """In one line, without a traceback, the user or the password."""
    url = f"postgresql://someone:{PASSWORD}@/shop?host={tmp_path}"
    ended = millrace(server.settings, "serve", MILLRACE_DATABASE_URL=url, MILLRACE_DATA_DIR=str(tmp_path / "data"))
    assert ended.returncode == 2
    assert "PostgreSQL database 'shop'" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert PASSWORD not in ended.stderr


def test_doctor_tells_what_is_wrong_with_the_database(server: Platform, tmp_path: Path) -> None:
    """As a fault, by its name, without the password."""
    url = f"postgresql://someone:{PASSWORD}@/shop?host={tmp_path}"
    ended = millrace(server.settings, "doctor", MILLRACE_DATABASE_URL=url)
    assert ended.returncode == 1
    assert "missing state: PostgreSQL database 'shop'" in ended.stdout
    assert PASSWORD not in ended.stdout + ended.stderr


def test_a_server_with_a_state_file_stays_out(server: Platform) -> None:
    """It would give other jobs the same working folders."""
    ended = millrace(server.settings, "serve", MILLRACE_DATABASE_URL="")
    assert ended.returncode == 2
    assert "a server with another state runs on" in ended.stderr


def test_a_server_with_another_data_directory_stays_out(server: Platform, tmp_path: Path) -> None:
    """It would not find the objects that the jobs of this database are about."""
    ended = millrace(server.settings, "serve", MILLRACE_DATA_DIR=str(tmp_path / "data"))
    assert ended.returncode == 2
    assert "does not hold the objects of this database" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("url", [f"mysql://someone:{PASSWORD}@db/shop", f"someone:{PASSWORD}@db/shop"])
def test_another_database_is_refused_by_name(url: str) -> None:
    """Its scheme is told, and nothing more of the address."""
    with pytest.raises(BadSettings, match="MILLRACE_DATABASE_URL must start with postgresql:// or be empty") as refused:
        load({"MILLRACE_DATABASE_URL": url})
    assert PASSWORD not in str(refused.value)
    assert PASSWORD not in repr(load({"MILLRACE_DATABASE_URL": f"postgresql://someone:{PASSWORD}@db/shop"}))


def test_the_driver_is_asked_for_by_name(server: Platform) -> None:
    """Without the extra the message tells how to install it."""
    hide = "import sys; sys.modules['psycopg'] = None\n"
    program = hide + "from millrace.cli import main; sys.exit(main(['jobs', 'list']))"
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **as_environment(server.settings)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "pip install 'millrace[postgresql]'" in ended.stderr


def test_jobs_as_json_are_told_as_with_a_state_file(server: Platform) -> None:
    """The same document, progress included."""
    shown = json.loads(millrace(server.settings, "jobs", "show", "t").stdout)
    [agent] = shown["agents"]
    assert agent["progress"]["records"] == 3
