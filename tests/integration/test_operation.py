"""Running a server: logs, metrics, watching jobs, gc, back-up, and its end."""

import contextlib
import json
import os
import pty
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from prometheus_client.parser import text_string_to_metric_families

from millrace import settings as settings_module
from tests.integration.platform import Platform, wait_until


@pytest.fixture
def talkative(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A server that logs all it can, as JSON."""
    running = Platform(
        tmp_path_factory.mktemp("talkative"),
        log_format="json",
        log_level="debug",
        access_log="all",
        heartbeat_seconds=0.2,
        lease_seconds=3.0,
    ).start()
    running.put("s3://shop/in/a.csv", b"1,2\n3,4\n5,6\n")
    yield running
    running.stop()


def millrace(platform: Platform, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command on the platform's data directory."""
    where = ("--data-dir", str(platform.settings.data_dir))
    return subprocess.run(
        [sys.executable, "-m", "millrace", *words, *where], capture_output=True, text=True, check=False, **options
    )


def slow_model(platform: Platform, name: str = "slow") -> str:
    """Make a model whose container answers only once the file `go` is there."""
    return platform.model(name, MODE="rowsum", WAIT_FOR=str(platform.settings.data_dir / "go"))


def scrape(url: str, **headers: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return the samples of a metrics page by name and labels."""
    request = urllib.request.Request(url, headers=headers)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=30) as answer:
        text = answer.read().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def log_entries(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a JSON log; the line that says that the server is ready is for people."""
    text = path.read_text("utf-8") if path.exists() else ""
    whole = text[: text.rfind("\n") + 1].splitlines()
    return [json.loads(line) for line in whole if not line.startswith("millrace ")]


def test_each_log_line_is_json_and_names_its_subject(talkative: Platform) -> None:
    """Requests under the id that the client got, agents' lines with job, instance and attempt."""
    slow_model(talkative, "logged")
    talkative.transform("logged-job", "logged", "s3://shop/in/")
    for agent in wait_until("an agent", talkative.agents):
        os.kill(agent, signal.SIGKILL)
    (talkative.settings.data_dir / "go").touch()
    talkative.ended_transform("logged-job")
    answer = talkative.client("sagemaker").describe_model(ModelName="logged")
    request_id = answer["ResponseMetadata"]["RequestId"]
    with pytest.raises(talkative.client("sagemaker").exceptions.ClientError):
        talkative.client("sagemaker").describe_model(ModelName="nobody")
    log = talkative.settings.data_dir / "server.log"
    # A line is written when its answer was sent: the client may be quicker.
    wait_until("the last line", lambda: [it for it in log_entries(log) if it.get("status") == 400] or None)
    entries = log_entries(log)
    [entry] = [it for it in entries if it.get("request_id") == request_id]
    assert (entry["service"], entry["operation"], entry["status"]) == ("sagemaker", "DescribeModel", 200)
    assert entry["duration_ms"] > 0
    assert [it["status"] for it in entries if it.get("operation") == "DescribeModel"] == [200, 400]
    assert [it["level"] for it in entries if it["message"] == "instance lost"] == ["warning"]
    agents = log_entries(talkative.settings.data_dir / "agents.log")
    assert all({"time", "level", "logger", "message", "job_id", "instance", "attempt"} <= it.keys() for it in agents)


def test_no_log_holds_a_secret(talkative: Platform) -> None:
    """Keys, session tokens and signatures of a whole run stand in no file that is a log, whatever went wrong."""
    environment = talkative.client("s3")._request_signer._credentials
    sts = talkative.client("sts").get_session_token()["Credentials"]
    temporary = boto3.Session(
        aws_access_key_id=sts["AccessKeyId"],
        aws_secret_access_key=sts["SecretAccessKey"],
        aws_session_token=sts["SessionToken"],
        region_name="us-east-1",
    ).client("s3", endpoint_url=talkative.address.url, config=Config(signature_version="s3v4"))
    signed = [
        temporary.generate_presigned_url("get_object", Params={"Bucket": "shop", "Key": key})
        for key in ("in/a.csv", "nothing")
    ]
    for url in (signed[0], signed[1], signed[0].replace("in/a", "in/b"), signed[0] + "0"):
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(url, timeout=30).close()
    temporary.put_object(Bucket="shop", Key="b", Body=b"x")
    with pytest.raises(temporary.exceptions.ClientError):
        temporary.get_object(Bucket="nothing", Key="b")
    model = talkative.model("secretive", MODE="rowsum")
    talkative.transform("secretive-job", model, "s3://shop/in/")
    talkative.ended_transform("secretive-job")
    with contextlib.closing(sqlite3.connect(talkative.settings.database_path)) as state:
        keys = state.execute("SELECT secret, session_token FROM access_keys").fetchall()
    signatures = [url.partition("X-Amz-Signature=")[2].partition("&")[0] for url in signed]
    secrets = {it for row in keys for it in row if it} | {*signatures, environment.secret_key, sts["SessionToken"]}
    assert len(secrets) >= 6
    folder = talkative.settings.data_dir
    files = [folder / "server.log", folder / "agents.log", *(folder / "logs").rglob("*.log")]
    text = "\n".join(path.read_text("utf-8") for path in files if path.exists())
    assert "request" in text
    assert [secret for secret in secrets if secret in text] == []


def test_metrics_tell_of_requests_jobs_and_transforms(own_platform: Platform) -> None:
    """What a run did stands on the page, and a scraper's /metrics is the same page."""
    url = own_platform.address.url
    model = own_platform.model("measured", MODE="rowsum")
    scrape(f"{url}/_millrace/metrics")
    own_platform.transform("measured-job", model, "s3://shop/in/")
    own_platform.ended_transform("measured-job")
    found = scrape(f"{url}/metrics", Accept="text/plain;version=0.0.4")
    labels = (("operation", "CreateTransformJob"), ("service", "sagemaker"), ("status", "200"))
    assert found["millrace_requests_total", labels] == 1
    assert found["millrace_request_duration_seconds_count", labels[:2]] == 1
    assert found["millrace_jobs", (("kind", "transform-job"), ("status", "Completed"))] == 1
    assert found["millrace_transform_objects_total", ()] == 1
    assert found["millrace_transform_records_total", ()] == 3
    assert found["millrace_transform_input_bytes_total", ()] == 12
    assert found["millrace_container_invocation_duration_seconds_count", ()] >= 1
    assert found["millrace_agents_started_total", ()] == 1
    assert found["millrace_lease_takeovers_total", ()] == 0
    assert found["millrace_store_write_duration_seconds_count", ()] > 5
    assert found["process_open_fds", ()] > 3
    assert found["process_resident_memory_bytes", ()] > 1e6


def test_metrics_tell_of_agents_that_died(own_platform: Platform) -> None:
    """Another attempt in the place of one whose agent was killed is a takeover."""
    model = slow_model(own_platform)
    own_platform.transform("killed-job", model, "s3://shop/in/")
    [agent] = wait_until("an agent", own_platform.agents)
    os.kill(agent, signal.SIGKILL)
    url = f"{own_platform.address.url}/_millrace/metrics"
    found = wait_until(
        "a takeover", lambda: it if (it := scrape(url))["millrace_lease_takeovers_total", ()] == 1 else None
    )
    assert found["millrace_agents_lost_total", ()] == 1
    own_platform.client("sagemaker").stop_transform_job(TransformJobName="killed-job")
    own_platform.ended_transform("killed-job")


def test_a_bucket_called_metrics_is_a_bucket(own_platform: Platform) -> None:
    """Clients of S3 reach it as any other; only an unsigned request for a form of metrics is a scraper's."""
    own_platform.put("s3://metrics/a", b"x")
    assert own_platform.keys("s3://metrics/") == ["a"]
    listed = own_platform.client("s3").list_objects(Bucket="metrics")
    assert [entry["Key"] for entry in listed["Contents"]] == ["a"]
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{own_platform.address.url}/metrics", timeout=30)
    with refused.value as answer:
        assert b"<Code>AccessDenied</Code>" in answer.read()


def test_watching_a_job_ends_with_it(platform: Platform) -> None:
    """Each change is a line of JSON; the exit code is how the job ended."""
    model = platform.model("watched", MODE="rowsum")
    platform.transform("watched-job", model, "s3://shop/in/")
    watched = millrace(platform, "jobs", "watch", "watched-job", "--json")
    lines = [json.loads(line) for line in watched.stdout.splitlines()]
    assert (watched.returncode, lines[-1]["status"], lines[-1]["objects_done"]) == (0, "Completed", 2)
    assert lines[-1]["instances"][0]["records"] == 4
    again = millrace(platform, "jobs", "watch", "transform-job/watched-job")
    assert (again.returncode, again.stdout.count("\n")) == (0, 1)
    assert "transform-job/watched-job Completed, 2/2 objects, 4 records, 0 failed" in again.stdout


def test_watching_tells_failures_and_stops_by_its_exit_code(own_platform: Platform) -> None:
    """1 for a job that failed, 2 for one that was stopped; without a name, all that run are followed."""
    failing = own_platform.model("failing", MODE="status", STATUS="400")
    own_platform.transform("failed-job", failing, "s3://shop/in/")
    assert millrace(own_platform, "jobs", "watch", "failed-job").returncode == 1
    slow = slow_model(own_platform)
    own_platform.transform("stopped-job", slow, "s3://shop/in/")
    wait_until("an agent", own_platform.agents)
    own_platform.client("sagemaker").stop_transform_job(TransformJobName="stopped-job")
    watched = millrace(own_platform, "jobs", "watch")
    assert watched.returncode == 2 or "no job runs" in watched.stderr
    assert millrace(own_platform, "jobs", "watch", "stopped-job").returncode == 2
    nothing = millrace(own_platform, "jobs", "watch")
    assert (nothing.returncode, nothing.stderr) == (0, "no job runs\n")


def test_jobs_are_listed_by_kind_status_and_name(own_platform: Platform) -> None:
    """Filters combine; JSON has one object a line."""
    model = own_platform.model("listed", MODE="rowsum")
    for name in ("prices-1", "prices-2", "stock-1"):
        own_platform.transform(name, model, "s3://shop/in/")
        own_platform.ended_transform(name)
    words = ("jobs", "list", "--json", "--kind", "transform-job", "--status", "completed", "--name", "prices")
    entries = [json.loads(line) for line in millrace(own_platform, *words).stdout.splitlines()]
    assert [it["name"] for it in entries] == ["prices-2", "prices-1"]
    assert millrace(own_platform, "jobs", "list", "--kind", "endpoint").stdout == ""
    wrong = millrace(own_platform, "jobs", "list", "--status", "Done")
    assert (wrong.returncode, "--status must be one of InProgress" in wrong.stderr) == (2, True)


def test_logs_are_followed_to_the_end(platform: Platform) -> None:
    """What the job writes is printed as it comes; the command ends with the job."""
    model = platform.model("followed", MODE="rowsum")
    platform.transform("followed-job", model, "s3://shop/in/")
    followed = millrace(platform, "jobs", "logs", "-f", "followed-job", timeout=60)
    assert (followed.returncode, "serving rowsum" in followed.stdout) == (0, True)
    assert platform.ended_transform("followed-job")["TransformJobStatus"] == "Completed"


def test_gc_beside_a_server_leaves_what_runs(own_platform: Platform) -> None:
    """Leftovers go, the running job's folder, logs and record stay, and it goes on."""
    slow = slow_model(own_platform)
    own_platform.transform("running-job", slow, "s3://shop/in/")
    wait_until("an agent", own_platform.agents)
    work = own_platform.settings.work_dir
    (work / "4711" / "0").mkdir(parents=True)
    keep = {"MILLRACE_KEEP_JOBS_DAYS": "0.000001", "MILLRACE_KEEP_LOGS_DAYS": "0.000001"}
    dry = json.loads(millrace(own_platform, "gc", "--dry-run", "--json", env={**os.environ, **keep}).stdout)
    assert (dry["dry_run"], dry["counts"]) == (True, {"work folder": 1})
    done = json.loads(millrace(own_platform, "gc", "--json", env={**os.environ, **keep}).stdout)
    assert done["counts"] == {"work folder": 1}
    assert [path.name for path in work.iterdir()] != []
    assert not (work / "4711").exists()
    assert len(own_platform.agents()) == 1
    own_platform.client("sagemaker").stop_transform_job(TransformJobName="running-job")
    assert own_platform.ended_transform("running-job")["TransformJobStatus"] == "Stopped"


def test_a_back_up_of_a_running_server_can_be_served(own_platform: Platform, tmp_path: Path) -> None:
    """Jobs that had ended are there with their outputs; one that ran starts anew there, and the original goes on."""
    model = own_platform.model("backed-up", MODE="rowsum")
    own_platform.transform("ended-job", model, "s3://shop/in/")
    own_platform.ended_transform("ended-job")
    own_platform.transform("running-job", slow_model(own_platform), "s3://shop/in/")
    [agent] = wait_until("an agent", own_platform.agents)
    assert millrace(own_platform, "backup", str(tmp_path / "copy")).returncode == 0
    copy = Platform(tmp_path / "copy").start()
    try:
        found = copy.client("sagemaker").describe_transform_job(TransformJobName="ended-job")
        assert found["TransformJobStatus"] == "Completed"
        assert copy.get("s3://shop/ended-job/a.csv.out") == own_platform.get("s3://shop/ended-job/a.csv.out")
        [other] = wait_until("an agent", copy.agents)
        assert other != agent
        copy.client("sagemaker").stop_transform_job(TransformJobName="running-job")
        assert copy.ended_transform("running-job")["TransformJobStatus"] == "Stopped"
        assert own_platform.agents() == [agent]
    finally:
        copy.stop()
    own_platform.client("sagemaker").stop_transform_job(TransformJobName="running-job")
    own_platform.ended_transform("running-job")


def _half_a_request(platform: Platform) -> socket.socket:
    """Send a request whose body does not end, and return once the server has begun to read it."""
    host, port = platform.address.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=30)
    head = f"POST / HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-length: 100\r\nexpect: 100-continue\r\n"
    connection.sendall(f"{head}content-type: application/x-www-form-urlencoded\r\n\r\n".encode())
    assert connection.recv(100).startswith(b"HTTP/1.1 100")
    return connection


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_server_at_once(tmp_path: Path, number: signal.Signals) -> None:
    """The first one waits for the request in progress, for as long as the setting says; the second one does not."""
    platform = Platform(tmp_path, drain_seconds=600.0).start()
    assert platform.process is not None
    with _half_a_request(platform):
        platform.process.send_signal(number)
        wait_until("the end of listening", lambda: _refuses(platform))
        assert platform.process.poll() is None
        platform.process.send_signal(number)
        assert platform.process.wait(60) == -number


def test_draining_is_bounded(tmp_path: Path) -> None:
    """A client that never finishes its request does not keep the server from its end, which is a clean one."""
    platform = Platform(tmp_path, drain_seconds=0.2).start()
    with _half_a_request(platform):
        assert platform.stop() == 0


def _refuses(platform: Platform) -> bool:
    host, port = platform.address.url.removeprefix("http://").split(":")
    try:
        socket.create_connection((host, int(port)), timeout=30).close()
    except ConnectionRefusedError:
        return True
    return False


def test_wrong_choices_are_told_with_the_others() -> None:
    """Settings with a fixed set of values name it."""
    environ = {"MILLRACE_LOG_FORMAT": "xml", "MILLRACE_ACCESS_LOG": "some", "MILLRACE_KEEP_DRAFTS_HOURS": "0"}
    with pytest.raises(settings_module.BadSettings) as refused:
        settings_module.load(environ)
    assert "MILLRACE_LOG_FORMAT must be one of text, json, got 'xml'" in str(refused.value)
    assert "MILLRACE_ACCESS_LOG must be one of none, errors, all, got 'some'" in str(refused.value)
    assert "MILLRACE_KEEP_DRAFTS_HOURS must be at least 1" in str(refused.value)


def test_on_a_terminal_watching_draws_a_table(platform: Platform) -> None:
    """The same command shows a table where there is a terminal, and leaves its last state there."""
    model = platform.model("drawn", MODE="rowsum")
    platform.transform("drawn-job", model, "s3://shop/in/")
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen:
        words = ("jobs", "watch", "drawn-job", "--data-dir", str(platform.settings.data_dir))
        environment = {**os.environ, "COLUMNS": "160", "TERM": "xterm"}
        process = subprocess.Popen([sys.executable, "-m", "millrace", *words], stdout=theirs, env=environment)
        os.close(theirs)
        drawn = b""
        with contextlib.suppress(OSError):  # how a terminal tells that nobody has it open any more
            while piece := screen.read(4096):
                drawn += piece
    assert process.wait(60) == 0
    last = drawn.decode().rpartition("transform-job/drawn-job")[2]
    assert "Completed" in last
    assert "2/2 objects" in last
