"""Kill processes of a real platform at random while jobs run, and hold what comes of it to the laws.

The laws: every job ends Completed, if need be after it was resumed; its outputs are byte for byte those of a run that
nothing disturbed; no request holds what was committed before a kill; and no draft, process or work folder is left.

A trial is a kill that hit jobs at work. Some come at any moment, others the moment that a draft has grown or an output
has appeared: that is when parts and outputs are being committed.
"""

import asyncio
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from millrace.clock import SystemClock
from millrace.jobs.job import Job, JobKind, JobStatus
from millrace.ports.jobs import InstanceRef, NoSuchJob
from millrace.store.opening import open_database
from millrace.store.sql_jobs import SqlJobStore
from millrace.store.sql_journal import SqlJournal
from tests.crash.cases import CASES, RECORD, Case
from tests.integration.platform import Platform, wait_until

__all__ = ["Crashes"]

PROGRAM = Path(__file__).parents[1] / "programs" / "slow_model.py"
IMAGE = "000000000000.dkr.ecr.us-east-1.amazonaws.com/slow:latest"
REGION = "us-east-1"
LOOK_SECONDS = 0.001
PATIENCE_SECONDS = 0.6
"""How long a kill waits for the moment that it is meant for."""

END_SECONDS = 60.0
LOG_CHARS = 3000
"""Of the server's log, as much is told when it does not end well."""

KILLS = ("agent", "agents", "container", "server", "tree")
MOMENTS = ("any", "any", "written", "committed")


@dataclass
class Run:
    """One job, and those that resumed it."""

    case: Case
    name: str
    first_name: str
    asked: Path
    instances: int
    kills: list[str] = field(default_factory=list)
    committed: list[tuple[int, Mapping[str, list[tuple[int, int]]], frozenset[str]]] = field(default_factory=list)
    """At each kill: lines in the journal of requests, the bytes that parts cover by object, and finished objects."""

    def __str__(self) -> str:
        return f"{self.name} ({self.case.name}, {self.instances} instances) after {', '.join(self.kills) or 'nothing'}"


class Crashes:
    """A platform whose processes are killed; `trials` counts how often, by what was killed and when."""

    def __init__(self, platform: Platform, chance: random.Random) -> None:
        self.platform = platform
        self.chance = chance
        self.trials: Counter[str] = Counter()
        self.hit = 0
        self.resumed = 0
        self.repeated = 0
        """Requests of which an earlier attempt had made the same: in flight, or not committed, at a kill."""
        self.asked = 0
        self._numbers = 0
        self._runs: list[Run] = []
        self._folder = platform.settings.data_dir
        self._pause = threading.Event()
        self._expected: dict[str, dict[str, bytes]] = {}
        (self._folder / "asked").mkdir(parents=True, exist_ok=True)
        with (self._folder / "host-images.toml").open("a") as file:
            command = orjson.dumps([sys.executable, str(PROGRAM)]).decode()
            file.write(f'[[image]]\nmatch = "slow:*"\ncommand = {command}\n')
        platform.start()
        self._database = open_database(platform.settings)
        self._jobs = SqlJobStore(self._database, clock=SystemClock())
        self._runner = asyncio.Runner()

    def close(self) -> None:
        """Stop the platform in order, and jobs that are left of a trial that failed."""
        for run in self._runs:
            with suppress(NoSuchJob):
                _kill_all([*self._agents(run), *self._containers(run)])
        self._runner.close()
        self._database.close()
        code = self.platform.stop()
        log = (self._folder / "server.log").read_text(errors="replace")
        assert code == 0, f"the server ended with exit code {code}: {log[-LOG_CHARS:]}"

    def told(self, seconds: float) -> str:
        """Return what was done in so many seconds."""
        total = self.trials.total()
        return (
            f"{total} trials ({60 * total / seconds:.0f} a minute), {self.hit} jobs hit, {self.resumed} resumed, "
            f"{self.repeated} of {self.asked} requests repeated: {dict(self.trials)}"
        )

    # -- what is run

    def prepare(self, cases: Sequence[Case]) -> None:
        """Store inputs, and have each case run once in peace."""
        runs = []
        self.platform.model("slow", IMAGE)
        for case in cases:
            for key, data in case.objects().items():
                self.platform.put(f"{case.source}{key}", data)
        for start in range(0, len(cases), 8):
            runs = [self._begin(case, instances=1, sleep=0.0) for case in cases[start : start + 8]]
            for run in runs:
                job = self._ended(run)
                assert job.status is JobStatus.COMPLETED, f"{run}: {job.failure_reason}"
                self._expected[run.case.name] = self._outputs(run)

    def round(self, *, jobs: int, kills: int) -> None:
        """Run some jobs, kill, and look at what came of them."""
        known = [case for case in CASES if case.name in self._expected]
        cases = [self.chance.choice(known) for _ in range(jobs)]
        runs = [self._begin(it, instances=self.chance.randint(1, it.max_instances), sleep=it.sleep) for it in cases]
        for _ in range(kills):
            if not any(self._is_at_work(run) for run in runs):
                break
            self._kill(runs)
        for run in runs:
            self._see_through(run)
        self._require_nothing_left(runs)

    def _begin(self, case: Case, *, instances: int, sleep: float) -> Run:
        self._numbers += 1
        name = f"t{self._numbers}"
        asked = self._folder / "asked" / name
        asked.touch()
        run = Run(case=case, name=name, first_name=name, asked=asked, instances=instances)
        environment = {"JOURNAL": str(asked), "SLEEP": str(sleep)}
        self._create(run, case.request(environment, instances=instances))
        self._runs.append(run)
        return run

    def _create(self, run: Run, members: Mapping[str, Any]) -> None:
        output = {"S3OutputPath": f"s3://shop/{run.first_name}", **run.case.output}
        self.platform.client("sagemaker").create_transform_job(
            TransformJobName=run.name, ModelName="slow", TransformOutput=output, **members
        )

    def _see_through(self, run: Run) -> None:
        """Wait for a job's end, resume it if its container was killed, and hold it to the laws."""
        job = self._ended(run)
        while job.status is JobStatus.FAILED and "container" in run.kills:
            assert "exited with status" in (job.failure_reason or ""), f"{run}: {job.failure_reason}"
            self._note_committed(run)
            request = self._runner.run(self._jobs.get_with_request(JobKind.TRANSFORM, REGION, run.name))[1]
            members = {key: it for key, it in request.items() if key not in ("TransformJobName", "TransformOutput")}
            members = {key: it for key, it in members.items() if key != "ModelName"}
            members["Environment"] = {**request["Environment"], "MILLRACE_RESUME_FROM": run.name}
            run.instances = self.chance.randint(1, run.case.max_instances)
            members["TransformResources"] = {"InstanceType": "ml.m5.large", "InstanceCount": run.instances}
            self._numbers += 1
            run.name = f"t{self._numbers}"
            self._create(run, members)
            self.resumed += 1
            job = self._ended(run)
        assert job.status is JobStatus.COMPLETED, f"{run}: {job.status} {job.failure_reason}"
        outputs, expected = self._outputs(run), self._expected[run.case.name]
        assert outputs.keys() == expected.keys(), f"{run}: outputs {sorted(outputs)}"
        for key, data in outputs.items():
            assert data == expected[key], f"{run}: {key} differs, {len(data)} of {len(expected[key])} bytes"
        self._require_no_repeats(run)

    # -- kills

    def _kill(self, runs: Sequence[Run]) -> None:
        kind, moment = self.chance.choice(KILLS), self.chance.choice(MOMENTS)
        self._await_moment(moment)
        at_work = [run for run in runs if self._is_at_work(run)]
        if not at_work:
            return
        takes_all = kind in ("tree", "agents", "server")
        hit = at_work if takes_all else [self.chance.choice(at_work)]
        agents = [pid for run in hit for pid in self._agents(run)]
        containers = [pid for run in hit for pid in self._containers(run)]
        if kind == "agent":
            agents = agents[:1]
        if (kind in ("agent", "agents") and not agents) or (kind == "container" and not containers):
            return
        for run in hit:
            self._note_committed(run)
            run.kills.append(kind)
        if kind in ("server", "tree"):
            self.platform.kill()
        if kind in ("agent", "agents", "tree"):
            _kill_all(agents)
        if kind == "container":
            _kill_all(containers[:1])
        if kind == "tree":
            _kill_all(containers)
        self.trials[f"{kind}, {moment}"] += 1
        self.hit += len(hit)
        if kind in ("server", "tree"):
            self._pause.wait(self.chance.uniform(0, 0.2))
            self.platform.start()

    def _await_moment(self, moment: str) -> None:
        """Return at the moment; at the latest when patience is over."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        if moment == "any":
            self._pause.wait(self.chance.uniform(0, PATIENCE_SECONDS))
            return
        look = self._draft_sizes if moment == "written" else self._output_count
        before = look()
        while time.monotonic() < deadline and look() == before:
            self._pause.wait(LOOK_SECONDS)
        self._pause.wait(self.chance.uniform(0, 0.003))

    def _draft_sizes(self) -> dict[str, int]:
        found = {}
        for path in self._drafts():
            with suppress(OSError):
                found[path.name] = path.stat().st_size
        return found

    def _drafts(self) -> Iterator[Path]:
        return (self.platform.settings.objects_dir / ".millrace").glob("*/drafts/*")

    def _output_count(self) -> int:
        return sum(1 for _ in self.platform.settings.objects_dir.glob("shop/t*/*"))

    def _agents(self, run: Run) -> list[int]:
        agents = self._runner.run(self._jobs.list_agents(self._job(run).id))
        return [agent.process_id for agent in agents if self._is_ours(agent.process_id)]

    def _containers(self, run: Run) -> list[int]:
        """Return the processes that were asked something and live."""
        asked = {int(line.split()[0]) for line in run.asked.read_bytes().splitlines()}
        return [process for process in asked if self._is_ours(process)]

    def _is_ours(self, process: int) -> bool:
        """Whether a process runs and belongs to the platform: the numbers of those that ended are given to others."""
        try:
            environment = (Path("/proc") / str(process) / "environ").read_bytes()
        except OSError:
            return False
        return str(self._folder).encode() in environment and _is_alive(process)

    # -- what is known of a job

    def _job(self, run: Run) -> Job:
        return self._runner.run(self._jobs.get(JobKind.TRANSFORM, REGION, run.name))

    def _is_at_work(self, run: Run) -> bool:
        job = self._job(run)
        return not job.is_terminal

    def _ended(self, run: Run) -> Job:
        deadline = time.monotonic() + END_SECONDS
        while True:
            job = self._job(run)
            if job.is_terminal:
                return job
            assert time.monotonic() < deadline, f"{run}: no end within {END_SECONDS:.0f} s"
            self._runner.run(self._jobs.wait_for_change(0.1))

    def _outputs(self, run: Run) -> dict[str, bytes]:
        folder = self.platform.settings.objects_dir / "shop" / run.first_name
        return {path.name: path.read_bytes() for path in folder.glob("*")}

    def _note_committed(self, run: Run) -> None:
        """Take note of what must not be asked again. The journal is read before the requests are counted."""
        job = self._job(run)
        finished = frozenset(path.name.partition(".")[0] for path in self._finished(run))
        nobody = InstanceRef(job_id=job.id, index=0, attempt=0)
        journal = SqlJournal(self._database, nobody, agent_id="", clock=SystemClock())
        reached: dict[str, list[tuple[int, int]]] = {}
        for entries in self._runner.run(journal.load_of(job.id)).values():
            for output, text in entries.items():
                if output.startswith("#"):  # what the instance has listed
                    continue
                entry = orjson.loads(text)
                name = output.partition("#")[0].rpartition("/")[2].partition(".")[0]  # behind "#" of ranges
                begin = entry["began_at"]
                reached.setdefault(name, []).append((begin, begin + entry["offset"]))
        run.committed.append((len(run.asked.read_bytes().splitlines()), reached, finished))

    def _finished(self, run: Run) -> list[Path]:
        return list((self.platform.settings.objects_dir / "shop" / run.first_name).glob(run.case.finished))

    def _model_servers(self) -> list[int]:
        """Return the containers that run, whether they were asked something or not."""
        found = []
        mark = str(self._folder).encode()
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                is_one = PROGRAM.name.encode() in (entry / "cmdline").read_bytes()
                if is_one and mark in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
        return found

    # -- the laws

    def _require_no_repeats(self, run: Run) -> None:
        """What was committed when a process was killed is in no request that came later."""
        lines = run.asked.read_bytes().splitlines()
        firsts = [bytes.fromhex(line.split()[2].decode()) for line in lines if len(line.split()) == 3]
        offsets = run.case.offsets()
        places = [match.groups() if (match := RECORD.search(first)) else None for first in firsts]
        for count, reached, finished in run.committed:
            for number, place in enumerate(places[count:], start=count):
                assert place is not None, f"{run}: request {number} holds no record: {firsts[number]!r}"
                name, record = place[0].decode(), int(place[1])
                offset = offsets[name][record]
                told = f"{run}: request {number} holds record {record} of {name}, at byte {offset}"
                assert name not in finished, f"{told}; its output was finished at request {count}"
                again = [span for span in reached.get(name, ()) if span[0] <= offset < span[1]]
                assert not again, f"{told}; {again} were committed at request {count}"
        self.asked += len(lines)
        self.repeated += len(lines) - len({line.split(b" ", 1)[1] for line in lines})

    def _require_nothing_left(self, runs: Sequence[Run]) -> None:
        wait_until("end of the agents", lambda: not any(self._agents(run) for run in runs))
        wait_until("end of the containers", lambda: not self._model_servers())
        work = self.platform.settings.work_dir
        wait_until("removal of the work folders", lambda: not any(map(_content, _content(work))))
        left = list(self._drafts())
        assert not left, f"drafts are left of {'; '.join(map(str, runs))}: {left}"


def _content(folder: Path) -> list[Path]:
    """Return what a folder holds; one that has just been removed holds nothing."""
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def _kill_all(processes: Sequence[int]) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    for process in processes:
        wait_until(f"death of {process}", partial(_is_dead, process))


def _is_dead(process: int) -> bool:
    return not _is_alive(process)


def _is_alive(process: int) -> bool:
    """Whether a process runs; one that is dead and not yet reaped does not."""
    try:
        return (Path("/proc") / str(process) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
