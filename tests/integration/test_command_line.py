"""The `millrace` command as users type it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from millrace.app import read_address
from millrace.settings import load
from tests.integration.platform import PROGRAM, Platform, wait_until


def millrace(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command and return how it ended."""
    return subprocess.run(
        [sys.executable, "-m", "millrace", *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data directory with the brought program as an image."""
    folder = tmp_path / "data"
    folder.mkdir()
    command = json.dumps([sys.executable, str(PROGRAM)])
    (folder / "host-images.toml").write_text(f'[[image]]\nmatch = "brought:*"\ncommand = {command}\n')
    return folder


def transform(data_dir: Path, tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "model").mkdir(exist_ok=True)
    return millrace(
        "transform",
        *("--data-dir", str(data_dir), "--model", str(tmp_path / "model"), "--image", "brought:latest"),
        *("--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")),
        *("--split-type", "Line", "--assemble-with", "Line", "--content-type", "text/csv", "--accept", "text/csv"),
        *("--env", "MODE=rowsum", *options),
    )


def test_transform_of_local_folders_needs_no_server(data_dir: Path, tmp_path: Path) -> None:
    """Folders in, folders out, a summary, exit code 0."""
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "a.csv").write_text("1,2\n3,4\n")
    (tmp_path / "in" / "sub" / "b.csv").write_text("5,6\n")
    ended = transform(data_dir, tmp_path, "--join-source", "Input", "--output-filter", "$[-1]")
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "out" / "a.csv.out").read_text() == "3\n7\n"
    assert (tmp_path / "out" / "sub" / "b.csv.out").read_text() == "11\n"
    assert "2 of 2 objects, 3 records" in ended.stdout
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == ["a.csv", "sub"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.csv.out", "sub"]


def test_transform_tells_what_failed(data_dir: Path, tmp_path: Path) -> None:
    """Object, record and offset; the others have their output; exit code 1."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bad.csv").write_text("1,2\nx\n")
    (tmp_path / "in" / "good.csv").write_text("1,2\n")
    ended = transform(data_dir, tmp_path, "--strategy", "SingleRecord", "--invocations-max-retries", "0")
    assert ended.returncode == 1
    assert "failed: bad.csv, record 2 at byte 4" in ended.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.csv.out"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--max-payload-in-mb", "101"), "MaxPayloadInMB must not exceed 100"),
        (("--input-filter", "$.name"), "InputFilter"),
        (("--split-type", "RecordIO", "--input-filter", "$.a"), "InputFilter"),
        (("--model", "nobody"), "nobody"),
        (("--input", "/no/such/place"), "--input: there is no file or folder /no/such/place"),
        (("--output", "s3://"), "--output"),
        (("--env", "MILLRACE_RESUME_FROM=t"), "--env MILLRACE_RESUME_FROM: only jobs of a server can be resumed"),
    ],
)
def test_transform_refuses_what_makes_no_sense(
    data_dir: Path, tmp_path: Path, options: tuple[str, ...], text: str
) -> None:
    """One line that names the option and the rule; exit code 2."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("1,2\n")
    ended = transform(data_dir, tmp_path, *options)
    assert ended.returncode == 2
    assert text in ended.stderr
    assert "Traceback" not in ended.stderr


def test_failures_tell_places_as_they_were_asked_for(data_dir: Path, tmp_path: Path) -> None:
    """A local folder is a bucket inside; nobody hears of its name, and none of the data directory has it."""
    archive, manifest, bucket = tmp_path / "model.tar.gz", tmp_path / "manifest", data_dir / "objects" / "local0"
    archive.write_text("no archive")
    bucket.mkdir(parents=True)
    (bucket / "a.csv").write_text("1,2\n")
    ended = transform(data_dir, tmp_path, "--input", "s3://local0/", "--model", str(archive))
    assert (ended.returncode, ended.stderr) == (
        1,
        f"millrace transform: ClientError: model data {archive} is not a valid .tar.gz archive: "
        "Not a gzipped file (b'no')\n",
    )
    manifest.write_text('[{"prefix":"s3://local0/"},"a.csv"]')
    assert transform(data_dir, tmp_path, "--input", str(manifest), "--manifest").returncode == 0
    assert (tmp_path / "out" / "a.csv.out").read_text() == "3\n"
    manifest.write_text("[1]")
    ended = transform(data_dir, tmp_path, "--input", str(manifest), "--manifest")
    assert f"ClientError: manifest {manifest} must be a JSON array" in ended.stderr


def test_jobs_are_listed_shown_and_their_logs_printed(platform: Platform) -> None:
    """The commands find the state by the data directory."""
    model = platform.model("cli", MODE="rowsum")
    platform.transform("cli-job", model, "s3://shop/in/")
    platform.ended_transform("cli-job")
    where = ("--data-dir", str(platform.settings.data_dir))
    listed = millrace("jobs", "list", *where)
    assert any("Completed" in line and "transform-job/cli-job" in line for line in listed.stdout.splitlines())
    shown = json.loads(millrace("jobs", "show", "cli-job", *where).stdout)
    assert (shown["status"], shown["agents"][0]["progress"]["objects_done"]) == ("Completed", 2)
    assert shown["history"][0]["event"] == "InstanceStarted"
    assert shown["created_at"] <= shown["started_at"] <= shown["ended_at"]  # all of them as people read times
    logs = millrace("jobs", "logs", "cli-job", *where).stdout
    assert "serving rowsum" in logs
    assert "MaxConcurrentTransforms=1" in logs
    assert "is Completed already" in millrace("jobs", "stop", "cli-job", *where).stderr
    unknown = millrace("jobs", "show", "nobody", *where)
    assert (unknown.returncode, "no job 'nobody'" in unknown.stderr) == (1, True)


def test_env_prints_what_a_shell_takes(platform: Platform) -> None:
    """Evaluated by a shell, it lets the AWS CLI in."""
    where = f"--data-dir {platform.settings.data_dir}"
    script = (
        f'eval "$({sys.executable} -m millrace env {where})"; aws sts get-caller-identity --query Arn --output text'
    )
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ended = subprocess.run(
        ["bash", "-c", script],
        env={**os.environ, "PATH": path, "AWS_SESSION_TOKEN": "of another login"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.stdout.strip() == "arn:aws:sts::000000000000:assumed-role/MillraceExecutionRole/millrace", ended.stderr


def test_exec_starts_a_server_for_the_time_of_a_command() -> None:
    """With a temporary data directory; the command's exit code is handed on."""
    script = (
        "import boto3, sys; boto3.client('s3').create_bucket(Bucket='there');"
        "sys.exit(7 if [b['Name'] for b in boto3.client('s3').list_buckets()['Buckets']] == ['there'] else 1)"
    )
    ended = millrace("exec", "--", sys.executable, "-c", script)
    assert ended.returncode == 7, ended.stderr


def test_exec_uses_the_server_that_runs(platform: Platform) -> None:
    """And leaves it running."""
    script = "import boto3; print(boto3.client('s3').list_objects_v2(Bucket='shop', Prefix='in/')['KeyCount'])"
    where = ("--data-dir", str(platform.settings.data_dir))
    ended = millrace("exec", *where, "--", sys.executable, "-c", script)
    assert ended.stdout.strip() == "2", ended.stderr
    assert platform.process is not None
    assert platform.process.poll() is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_exec_leaves_no_server_behind(tmp_path: Path, number: signal.Signals) -> None:
    """However it is ended, its server ends too."""
    script = "import signal, sys; print('ready', flush=True); signal.pause()"
    where = ("--data-dir", str(tmp_path / "data"))
    process = subprocess.Popen(
        [sys.executable, "-m", "millrace", "exec", *where, "--", sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    settings = load({}, data_dir=tmp_path / "data")
    assert read_address(settings) is not None
    process.send_signal(number)
    process.wait(60)
    wait_until("the server's end", lambda: read_address(settings) is None)
    if number is signal.SIGKILL:  # the command itself is nobody's child any more
        os.killpg(process.pid, signal.SIGKILL)
    process.stdout.close()


@pytest.mark.parametrize(("words", "code"), [((), 2), (("--", "/no/such/command"), 127)])
def test_exec_tells_what_it_can_not_run(words: tuple[str, ...], code: int) -> None:
    """As a shell does."""
    assert millrace("exec", *words).returncode == code


def test_one_server_for_one_data_directory(platform: Platform) -> None:
    """A second one says why it does not start."""
    ended = millrace("serve", "--port", "0", "--data-dir", str(platform.settings.data_dir))
    assert ended.returncode == 2
    assert "runs on" in ended.stderr


def test_a_taken_port_is_told(platform: Platform, tmp_path: Path) -> None:
    """In one line, without a traceback."""
    port = platform.address.url.rpartition(":")[2]
    ended = millrace("serve", "--port", port, "--data-dir", str(tmp_path))
    assert ended.returncode == 1
    assert f"can't listen on 127.0.0.1:{port}" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_bad_settings_are_told_all_at_once(tmp_path: Path) -> None:
    """Each with its variable and value."""
    ended = millrace("doctor", "--data-dir", str(tmp_path), MILLRACE_PORT="x", MILLRACE_ACCOUNT="12")
    assert ended.returncode == 2
    assert "MILLRACE_PORT must be of type int, got 'x'" in ended.stderr
    assert "MILLRACE_ACCOUNT must be 12 digits, got '12'" in ended.stderr


def test_doctor_tells_what_works(tmp_path: Path) -> None:
    """Runtime, extras, data directory."""
    ended = millrace("doctor", "--data-dir", str(tmp_path))
    assert ended.returncode == 0, ended.stdout
    for subject in (
        "runtime process",
        "extra algorithms",
        "extra arrow",
        "extra postgresql",
        "data directory",
        "object facts",
        "server",
    ):
        assert subject in ended.stdout


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("jobs", "list", "--limit", "0"), 2, "must be a whole number of at least 1, got '0'"),
        (("serve", "--port", "99999"), 2, "MILLRACE_PORT must be between 0 and 65535, got 99999"),
        (("serve", "--data-dir", "/proc/nowhere"), 2, "data directory /proc/nowhere"),
        (("doctor", "--data-dir", "/proc/nowhere"), 1, "missing data directory"),
        (("exec", "--data-dir", "/proc/nowhere", "--", "true"), 2, "/proc/nowhere"),
        (("env", "--data-dir", "/proc/nowhere"), 2, "/proc/nowhere"),
        (("serve", "--port", "0", "--data-dir", "/tmp"), 2, "/tmp is shared by all users"),
        (("transform", "--model", "m", "--input", "ftp://x", "--output", "o"), 2, "got 'ftp://x'"),
        (("transform", "--model", "m", "--input", "/", "--output", "/proc/x"), 2, "can't make folder /proc/x"),
        (("transform", "--model", "m", "--input", "/", "--output", "o", "--env", "A"), 2, "NAME=VALUE, got 'A'"),
    ],
)
def test_wrong_usage_is_told_in_a_line(tmp_path: Path, words: tuple[str, ...], code: int, text: str) -> None:
    """What is wrong and the value, never a traceback."""
    ended = subprocess.run(
        [sys.executable, "-m", "millrace", *words],
        env={**os.environ, "MILLRACE_DATA_DIR": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, "Traceback" in ended.stderr) == (code, False), ended.stderr
    assert text in ended.stderr + ended.stdout


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_may_go_away(tmp_path: Path, unbuffered: str) -> None:
    """As `head` does once it has its lines: that is no fault of ours, and no traceback."""
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        [sys.executable, "-m", "millrace", "doctor", "--data-dir", str(tmp_path)],
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_exec_takes_the_data_directory_of_the_environment(platform: Platform) -> None:
    """As `millrace env` exports it; otherwise what the command made would vanish with a temporary one."""
    script = "import boto3; print(boto3.client('s3').list_objects_v2(Bucket='shop', Prefix='in/')['KeyCount'])"
    ended = millrace("exec", "--", sys.executable, "-c", script, MILLRACE_DATA_DIR=str(platform.settings.data_dir))
    assert ended.stdout.strip() == "2", ended.stderr


@pytest.mark.parametrize(
    ("variable", "value", "text"),
    [
        ("MILLRACE_MAX_JOBS", "0", "at least 1, got 0"),
        ("MILLRACE_LEASE_SECONDS", "2", "at least 3 heartbeats of 1.0 s, got 2.0"),
        ("MILLRACE_HEARTBEAT_SECONDS", "nan", "at least 0.01, got nan"),
        ("MILLRACE_LOG_LEVEL", "loud", "one of debug, info, warning, error, got 'loud'"),
    ],
)
def test_settings_out_of_range_are_refused(tmp_path: Path, variable: str, value: str, text: str) -> None:
    """A server that could never work does not start."""
    ended = millrace("serve", "--port", "0", "--data-dir", str(tmp_path), **{variable: value})
    assert ended.returncode == 2
    assert f"{variable} must be {text}" in ended.stderr


def test_only_the_owner_may_look_into_a_data_directory(tmp_path: Path) -> None:
    """A new one is closed at once; one that held other things keeps its mode, its secrets are closed all the same."""
    assert millrace("env", "--data-dir", str(tmp_path / "new")).returncode == 0
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    (tmp_path / "old").mkdir(mode=0o755)
    (tmp_path / "old" / "notes.txt").touch()
    assert millrace("env", "--data-dir", str(tmp_path / "old")).returncode == 0
    assert (tmp_path / "old").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "old" / "state.db").stat().st_mode & 0o777 == 0o600
