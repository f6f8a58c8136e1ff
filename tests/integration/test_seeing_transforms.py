"""Transforms that are explained, tried, reported and run from Python, with the real command and a real server."""

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import millrace
from millrace.errors import JobFailure, UsageError
from millrace.notebook import TransformHandle
from tests.integration.platform import PROGRAM, Platform, wait_until

CSV = {"split_type": "Line", "assemble_with": "Line", "content_type": "text/csv", "accept": "text/csv"}


class Place:
    """A data directory with the brought program as an image, a model and an input."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "data").mkdir()
        command = json.dumps([sys.executable, str(PROGRAM)])
        (path / "data" / "host-images.toml").write_text(f'[[image]]\nmatch = "brought:*"\ncommand = {command}\n')
        (path / "model").mkdir()
        (path / "in" / "sub").mkdir(parents=True)
        (path / "in" / "a.csv").write_text("1,2\n3,4\n")
        (path / "in" / "sub" / "b.csv").write_text("5,6\n")

    def words(self, *options: str) -> list[str]:
        """Return the words of a `millrace transform`."""
        words = [word for name, value in CSV.items() for word in (f"--{name.replace('_', '-')}", value)]
        for option, name in (("--data-dir", "data"), ("--model", "model"), ("--input", "in"), ("--output", "out")):
            words += [option, str(self.path / name)]
        return [sys.executable, "-m", "millrace", "transform", "--image", "brought:latest", *words, *options]

    def command(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run `millrace transform`."""
        return subprocess.run(self.words(*options), capture_output=True, text=True, timeout=120, check=False)

    def start(self, **options: Any) -> TransformHandle:
        """Run `millrace.transform`."""
        places: dict[str, Any] = {
            "data_dir": self.path / "data",
            "model": self.path / "model",
            "input": self.path / "in",
            "output": self.path / "out",
        }
        handle: TransformHandle = millrace.transform(
            **{"image": "brought:latest", **places, **CSV, "env": {"MODE": "rowsum"}, **options}
        )
        return handle


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    yield Place(tmp_path)


def test_a_plan_is_printed_and_nothing_done(place: Place) -> None:
    """Objects, outputs, settings and requests; the model is not started and no folder made."""
    ended = place.command("--explain", "--max-concurrent-transforms", "3", "--env", "MODE=exit")
    assert ended.returncode == 0, ended.stderr
    assert "2 objects, 12 B as stored" in ended.stdout
    assert f"{place.path}/in/sub/b.csv (4 B) -> {place.path}/out/sub/b.csv.out" in ended.stdout
    assert "MaxConcurrentTransforms=3" in ended.stdout
    assert "MaxPayloadInMB=asked from the container at its start, else 6" in ended.stdout
    assert "requests: about 2" in ended.stdout
    assert "warning" not in ended.stdout
    assert not (place.path / "out").exists()


def test_one_record_is_tried(place: Place) -> None:
    """What is sent, what comes back, and what the output would begin with."""
    ended = place.command("--dry-run", "--join-source", "Input", "--env", "MODE=rowsum")
    assert ended.returncode == 0, ended.stderr
    assert f"record 1 of {place.path}/in/a.csv" in ended.stdout
    assert "> POST /invocations HTTP/1.1" in ended.stdout
    assert ended.stdout.endswith(f"output, first of {place.path}/out/a.csv.out:\n  1,2,3\n")
    assert not (place.path / "out").exists()
    refused = place.command("--dry-run", "--env", "MODE=status", "--env", "STATUS=400")
    assert refused.returncode == 1
    assert "< status 400" in refused.stdout
    assert "the model says no" in refused.stdout


def test_bars_are_drawn_on_a_terminal(place: Place) -> None:
    """In total and for objects in work; the summary follows."""
    gate = place.path / "gate"
    terminal, ours = pty.openpty()
    running = subprocess.Popen(
        place.words("--env", "MODE=rowsum", "--env", f"WAIT_FOR={gate}"),
        env={**os.environ, "COLUMNS": "120", "TERM": "xterm"},
        stdout=subprocess.PIPE,
        stderr=ours,
        text=True,
    )
    os.close(ours)
    drawn = b""
    while b"sub/b.csv" not in drawn:  # in work, as its model does not answer yet
        drawn += os.read(terminal, 65536)
    gate.touch()
    with suppress(OSError):  # the terminal's other end is closed
        while chunk := os.read(terminal, 65536):
            drawn += chunk
    os.close(terminal)
    summary, _ = running.communicate(timeout=60)
    assert running.returncode == 0
    assert b"0/2 objects" in drawn
    assert b"in flight" in drawn
    assert "2 of 2 objects, 3 records" in summary


def test_a_transform_is_reported(place: Place) -> None:
    """Into a folder that is asked for, and below the output, where the next one does not read it."""
    report = place.path / "reports"
    ended = place.command("--report", str(report), "--env", "MODE=rowsum", "--env", "MILLRACE_REPORT=true")
    assert ended.returncode == 0, ended.stderr
    told = json.loads((report / "report.json").read_text())
    assert (told["status"], told["records"]["in"], told["records"]["out"]) == ("Completed", 3, 3)
    assert told["output"] == str(place.path / "out")
    assert told["instances"][0]["settings"].startswith("MaxConcurrentTransforms=1")
    assert (report / "report.html").read_text().startswith("<!doctype html>")
    [below] = (place.path / "out" / "_millrace").iterdir()
    assert sorted(path.name for path in below.iterdir()) == ["report.html", "report.json"]
    again = place.command("--input", str(place.path / "out"), "--output", str(place.path / "twice"), "--explain")
    assert "2 objects" in again.stdout


def test_a_model_that_does_not_start_is_reported_too(place: Place) -> None:
    """With the reason."""
    ended = place.command("--report", str(place.path / "reports"), "--env", "MODE=exit")
    assert ended.returncode == 1
    told = json.loads((place.path / "reports" / "report.json").read_text())
    assert (told["status"], told["objects"]["not_done"]) == ("Failed", 2)
    assert "exited with" in told["failure_reason"]


def test_options_do_what_their_variables_do(place: Place) -> None:
    """Bad records are left out, told of, and counted."""
    (place.path / "in" / "a.csv").write_text("1,2\nx\n3,4\n")
    options = ("--on-error", "quarantine", "--invocations-max-retries", "0", "--env", "MODE=rowsum")
    ended = place.command(*options)
    assert ended.returncode == 0, ended.stderr
    assert (place.path / "out" / "a.csv.out").read_text() == "3\n7\n"
    assert "1 bad record; <name>.errors.jsonl" in ended.stderr
    over = place.command(*options, "--max-failed-records", "10%")
    assert over.returncode == 1
    assert "more than 10%" in over.stderr


def test_a_job_of_the_api_is_reported_where_it_asks_for_it(platform: Platform) -> None:
    """Once its end is seen, the report is there: one for all instances; the command prints the same of any job."""
    model = platform.model("reported", MODE="rowsum")
    platform.transform(
        "reported-job",
        model,
        "s3://shop/in/",
        Environment={"MILLRACE_REPORT": "true"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 2},
    )
    assert platform.ended_transform("reported-job")["TransformJobStatus"] == "Completed"
    told = json.loads(platform.get("s3://shop/reported-job/_millrace/reported-job/report.json"))
    assert (told["records"]["out"], len(told["instances"]), told["status"]) == (4, 2, "Completed")
    assert platform.get("s3://shop/reported-job/_millrace/reported-job/report.html").startswith(b"<!doctype html>")
    words = [sys.executable, "-m", "millrace", "jobs", "report", "reported-job"]
    where = ["--data-dir", str(platform.settings.data_dir)]
    printed = subprocess.run([*words, *where], capture_output=True, check=True, timeout=60)
    assert json.loads(printed.stdout) == told


def test_reports_of_jobs_that_have_none_are_refused(platform: Platform) -> None:
    """One line that says why."""
    words = [sys.executable, "-m", "millrace", "jobs", "report", "nobody"]
    where = ["--data-dir", str(platform.settings.data_dir)]
    ended = subprocess.run([*words, *where], capture_output=True, check=False, timeout=60, text=True)
    assert (ended.returncode, "there is no job 'nobody'" in ended.stderr) == (1, True)


def test_a_transform_from_python_gives_its_results(place: Place) -> None:
    """Outputs in input order, as paths and as one table; the counters stay."""
    handle = place.start(join_source="Input")
    result = handle.wait(60)
    assert (result.ok, result.status, result.progress.records) == (True, "Completed", 3)
    assert result.outputs == handle.outputs == (f"{place.path}/out/a.csv.out", f"{place.path}/out/sub/b.csv.out")
    assert handle.to_arrow().to_pydict() == {"f0": [1, 3, 5], "f1": [2, 4, 6], "f2": [3, 7, 11]}
    assert (handle.done, handle.status, handle.progress.objects_done) == (True, "Completed", 2)
    assert "Completed, 100 % of 12 B, 2/2 objects, 3 records, 0 failed, 0 in flight, p50" in repr(handle)
    assert "<progress value=" in handle._repr_html_()
    assert handle.report().records["in"] == 3


def test_it_can_be_watched(place: Place) -> None:
    """What waits for the end shows how it goes; what it returns or raises is what `wait` does."""
    result = place.start().watch()
    assert result.ok
    assert repr(result).startswith("<Completed, 2 of 2 objects, 3 records, ")
    with pytest.raises(JobFailure, match="exited with"):
        place.start(env={"MODE": "exit"}).watch()


async def test_it_works_where_a_loop_runs(place: Place) -> None:
    """As in Jupyter: nothing takes the caller's loop."""
    handle = place.start(output_compression="zstd")
    await asyncio.to_thread(handle.wait, 60)
    assert handle.to_arrow().to_pydict() == {"f0": [3, 7, 11]}
    assert handle.errors() == []


def test_bad_records_are_given(place: Place) -> None:
    """With the object they are of."""
    (place.path / "in" / "sub" / "b.csv").write_text("5,6\nx\n")
    handle = place.start(on_error="quarantine", invocations_max_retries=0)
    assert handle.result.ok
    [bad] = handle.errors()
    assert (bad["object"], bad["record"], bad["input"]) == (f"{place.path}/in/sub/b.csv", 2, "x\n")


def test_who_fails_is_shown_what_the_container_logged(place: Place) -> None:
    """It is kept nowhere else; there is no job log to look at."""
    ended = place.command("--invocations-max-retries", "0", "--env", "MODE=status", "--env", "STATUS=500")
    assert ended.returncode == 1
    assert "failed: a.csv, record 1 at byte 0: Bad HTTP status received from algorithm: 500" in ended.stderr
    assert "the containers logged last:\n  serving status" in ended.stderr
    assert ended.stderr.endswith("millrace transform: 2 of 2 objects failed\n")
    assert "See job logs" not in ended.stderr


def test_what_makes_no_sense_raises_at_once(place: Place) -> None:
    """In the words of the command."""
    with pytest.raises(UsageError, match="--input: there is no file or folder"):
        place.start(input=place.path / "nowhere")
    with pytest.raises(UsageError, match=r"--split-type must be one of \[None, Line"):
        place.start(split_type="Lines")
    with pytest.raises(UsageError, match="max_concurrent_transforms must be a whole number, got '4'"):
        place.start(max_concurrent_transforms="4")


def test_a_table_that_would_lack_rows_is_no_result(place: Place) -> None:
    """Where an object failed it is only given to who asks for what is there."""
    (place.path / "in" / "a.csv").write_text("1,two\n")
    handle = place.start(invocations_max_retries=0)
    with pytest.raises(JobFailure, match=r"Failed, 1 of 2 objects.*first: a.csv, record 1.*; to_arrow\(partial=True\)"):
        handle.to_arrow()
    assert handle.to_arrow(partial=True).to_pydict() == {"f0": [11]}
    assert handle.to_pandas(partial=True)["f0"].tolist() == [11]


def test_a_model_that_does_not_start_raises_from_waiting(place: Place) -> None:
    """With what it said."""
    handle = place.start(env={"MODE": "exit"})
    with pytest.raises(JobFailure, match="exited with"):
        handle.wait(60)
    assert handle.status == "Failed"


def test_a_transform_is_stopped(place: Place) -> None:
    """While its model does not answer; waiting says so."""
    handle = place.start(env={"MODE": "rowsum", "WAIT_FOR": str(place.path / "never")})
    with pytest.raises(TimeoutError):
        handle.wait(0)
    handle.stop()
    assert handle.wait(60).status == "Stopped"
    assert handle.outputs == ()


@pytest.mark.parametrize("options", [(), ("--dry-run",), ("--instances", "2")])
def test_who_interrupts_twice_does_not_wait(place: Place, options: tuple[str, ...]) -> None:
    """The first time the model is asked to end, and given time; the second time it is killed."""
    journal, asked = place.path / "journal", place.path / "asked"
    deaf = {"DEAF": str(asked), "WAIT_FOR": str(place.path / "never"), "JOURNAL": str(journal)}
    words = place.words(*options, *(word for item in deaf.items() for word in ("--env", "=".join(item))))
    scratch = place.path / "scratch"
    scratch.mkdir()
    environment = {**os.environ, "MILLRACE_SERVE_STOP_GRACE_SECONDS": "3600", "TMPDIR": str(scratch)}
    with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True) as running:
        wait_until("a request", journal.exists)
        running.send_signal(signal.SIGINT)
        wait_until("SIGTERM", asked.exists)
        running.send_signal(signal.SIGINT)
        assert running.stderr is not None
        assert running.stderr.read().endswith("millrace transform: ended at once; finished objects stay\n")
    assert running.returncode == 130
    assert not list(scratch.iterdir())
    wait_until("end of the container", lambda: not _runs(str(journal)))


def test_a_program_that_ends_leaves_no_container(place: Place) -> None:
    """Nobody waits for the transform: its model goes with the program."""
    journal = place.path / "journal"
    script = f"""
        import pathlib, threading, millrace
        millrace.transform(
            model={str(place.path / "model")!r}, image="brought:latest", input={str(place.path / "in")!r},
            output={str(place.path / "out")!r}, data_dir={str(place.path / "data")!r}, split_type="Line",
            env={{"WAIT_FOR": {str(place.path / "never")!r}, "JOURNAL": {str(journal)!r}}},
        )
        pause = threading.Event()
        while not pathlib.Path({str(journal)!r}).exists():
            pause.wait(0.02)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], timeout=60, check=True)

    wait_until("end of the container", lambda: not _runs(str(journal)))


def _runs(word: str) -> bool:
    """Whether a process has a word in its environment."""
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if word.encode() in entry.read_bytes():
                return True
        except OSError:  # it ended, or is somebody else's
            continue
    return False


def test_importing_millrace_costs_nothing() -> None:
    """What transforms need is imported with the first one."""
    script = "import sys, millrace; print([name for name in sys.modules if name.startswith('millrace')], end='')"
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert printed.stdout == "['millrace']"
