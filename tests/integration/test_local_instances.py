"""Transforms from the command line whose objects several models share."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

MODEL = Path(__file__).parents[1] / "programs" / "slow_model.py"
ROWS = b"".join(b"%d,%s\n" % (number, b"y" * (number % 300)) for number in range(20_000))
"""3 MB."""


class Place:
    """A data directory with an image that gives bodies back, and an input of one large and two small objects."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "data").mkdir()
        command = json.dumps([sys.executable, str(MODEL)])
        (path / "data" / "host-images.toml").write_text(f'[[image]]\nmatch = "echo:*"\ncommand = {command}\n')
        (path / "model").mkdir()
        (path / "in").mkdir()
        (path / "in" / "large.csv").write_bytes(ROWS)
        for name in ("a.csv", "b.csv"):
            (path / "in" / name).write_bytes(b"1,2\n")

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run `millrace transform` on lines, one MB per request."""
        words = ["--split-type", "Line", "--content-type", "text/csv", "--max-payload-in-mb", "1"]
        for option, name in (("--data-dir", "data"), ("--model", "model"), ("--input", "in"), ("--output", "out")):
            words += [option, str(self.path / name)]
        variables = ["--env", "FRAMED=1", "--env", f"JOURNAL={self.path / 'asked'}", "--env", "SLEEP=0.02"]
        return subprocess.run(
            [sys.executable, "-m", "millrace", "transform", "--image", "echo:1", *words, *variables, *options],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def outputs(self) -> dict[str, bytes]:
        """Return everything in the output folder, hidden files among it."""
        folder = self.path / "out"
        return {
            os.path.relpath(path, folder): path.read_bytes() if path.is_file() else b""
            for path in sorted(folder.rglob("*"))
            if path.is_file() or path.name.startswith(".")
        }


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


EXPECTED = {"a.csv.out": b"1,2\n", "b.csv.out": b"1,2\n", "large.csv.out": ROWS}


def test_models_share_one_object(place: Place) -> None:
    """Each gets a part of its records; there is one output, in order, and nothing beside it."""
    ended = place.run("--instances", "2", "--range-split", "1", "--report", str(place.path / "report"))
    assert ended.returncode == 0, ended.stderr
    report = json.loads((place.path / "report" / "report.json").read_bytes())
    assert report["records"]["out"] == sum(instance["records"] for instance in report["instances"]) == 20002
    assert [instance["index"] for instance in report["instances"]] == [0, 1]
    assert "3 of 3 objects 20002 records" in ended.stdout.replace(",", "")
    assert place.outputs() == EXPECTED
    asked = [line.split() for line in (place.path / "asked").read_text().splitlines()]
    assert len({process for process, *_ in asked}) == 2


def test_what_a_killed_transform_left_is_removed(place: Place) -> None:
    """By one that writes into the same folder, once it is old; what may belong to another one that runs stays."""
    left, days = place.path / "out" / ".millrace-tmp", 24 * 3600
    for name, age in (("tmp/old", 2 * days), ("drafts/old", 8 * days), ("drafts/young", 2 * days)):
        (left / name).parent.mkdir(parents=True, exist_ok=True)
        (left / name).write_text("half")
        os.utime(left / name, ns=(0, time.time_ns() - age * 1_000_000_000))
    assert place.run().returncode == 0
    assert place.outputs() == {
        **EXPECTED,
        ".millrace-tmp": b"",
        ".millrace-tmp/drafts/young": b"half",
    }


def test_models_share_objects_that_are_whole(place: Place) -> None:
    """Without ranges each object has one model; the outputs are the same."""
    ended = place.run("--instances", "2", "--scheduling", "modulo")
    assert ended.returncode == 0, ended.stderr
    assert place.outputs() == EXPECTED


def test_one_model_may_have_ranges_too(place: Place) -> None:
    """So that what it is sent, and with it the output, is what several would get."""
    ended = place.run("--range-split", "1")
    assert ended.returncode == 0, ended.stderr
    assert place.outputs() == EXPECTED


def test_a_range_that_fails_leaves_nothing(place: Place) -> None:
    """The object is told of once; the others have their outputs, and no part of it is left in the folder."""
    ended = place.run("--instances", "2", "--range-split", "1", "--env", "REFUSE=12345,")
    assert ended.returncode == 1
    assert ended.stderr.count("failed: ") == 1
    assert "failed: large.csv, record " in ended.stderr
    assert "1 of 3 objects failed" in ended.stderr
    assert place.outputs() == {name: EXPECTED[name] for name in ("a.csv.out", "b.csv.out")}


def test_a_model_that_ends_stops_the_others(place: Place) -> None:
    """The transform fails with what became of it."""
    ended = place.run("--instances", "3", "--env", "NO_SUCH=1", "--env", "JOURNAL=/dev/null/none")
    assert ended.returncode == 1
    assert "before it answered /ping" in ended.stderr


def test_shares_are_explained(place: Place) -> None:
    """Who would take which ranges of which object."""
    ended = place.run("--explain", "--instances", "2", "--range-split", "1")
    assert ended.returncode == 0, ended.stderr
    assert f"{place.path}/in/large.csv is cut into 3 ranges of about 1.0 MB" in ended.stdout
    assert "  instance 1: 2 ranges, 2.1 MB\n" in ended.stdout
    assert f"    {place.path}/in/large.csv, ranges 1 to 2 of 3\n" in ended.stdout
    assert f"  instance 2: 2 objects and 1 range, 1.0 MB\n    {place.path}/in/a.csv\n" in ended.stdout
    assert "2 instances; not started" in ended.stdout


def test_objects_that_stay_whole_are_explained(place: Place) -> None:
    """With the reason, and so they are in a job's log."""
    (place.path / "in" / "large.csv").rename(place.path / "in" / "large.csv.gz")
    ended = place.run("--explain", "--range-split", "1", "--input-compression", "auto")
    assert (
        f"{place.path}/in/large.csv.gz is not cut into ranges: its name says that it is compressed (gzip), and what is "
        "compressed can only be read from its beginning\n"
    ) in ended.stdout


@pytest.mark.parametrize("count", ["0", "101"])
def test_there_is_a_number_of_instances(place: Place, count: str) -> None:
    """The message names the option."""
    ended = place.run("--instances", count)
    assert ended.returncode == 2
    assert f"--instances must be between 1 and 100, got {count}" in ended.stderr
