"""Who takes which object changes no output: neither its name nor a byte of it, nor what is told of failures."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from tests.acceptance.transform_rig import ECHO, Result, job, run_job, status

from millrace.jobs.transform import AssembleWith, BatchStrategy, SplitType, transform_failure_reason
from millrace.jobs.transform_options import JobOptions, Scheduling, job_options
from millrace.testing.model_server import Behaviour
from millrace.testing.objects import MemoryObjects

INPUTS: Mapping[str, bytes] = {
    f"in/{name}.csv": b"".join(b"%s,%d\n" % (name.encode(), row) for row in range(rows))
    for name, rows in (("a", 3), ("b", 40), ("c", 0), ("d/e", 17), ("d/f", 200), ("g", 1), ("h", 90))
}
JOBS: dict[str, dict[str, Any]] = {
    "whole objects": {},
    "lines": {"split": SplitType.LINE, "strategy": BatchStrategy.MULTI_RECORD, "max_payload_bytes": 1 << 20},
    "single lines": {
        "split": SplitType.LINE,
        "strategy": BatchStrategy.SINGLE_RECORD,
        "assemble_with": AssembleWith.LINE,
    },
}


async def run_all(
    spec: Mapping[str, Any], count: int, options: JobOptions, behaviour: Behaviour = ECHO
) -> tuple[MemoryObjects, Sequence[Result]]:
    """Run all instances of a job."""
    objects = MemoryObjects()
    for key, data in INPUTS.items():
        objects.add(f"s3://b/{key}", data)
    made = job(instance_count=count, invocation_max_retries=0, **spec)
    results = await asyncio.gather(
        *(run_job(made, behaviour, {}, objects=objects, options=options, instance=index) for index in range(count))
    )
    return objects, results


@pytest.mark.spec("B §2.4")
@pytest.mark.parametrize("name", JOBS)
async def test_outputs_are_the_same_for_all_ways_to_share(name: str) -> None:
    """One instance, the default of several, and SageMaker's turns: the same objects, and bytes."""
    found = []
    for count, options in ((1, JobOptions()), (3, job_options({})), (3, JobOptions(scheduling=Scheduling.MODULO))):
        objects, _ = await run_all(JOBS[name], count, options)
        found.append({key: objects.data(f"s3://b/{key}") for key in objects.keys("b", "out/")})
    assert found[0].keys() == {f"out/{key.removeprefix('in/')}.out" for key in INPUTS}
    assert found[0] == found[1] == found[2]


async def test_objects_are_shared_by_their_sizes_unless_told_otherwise() -> None:
    """By default the two largest, which stand at even places here, have an instance each."""
    by_size: dict[str, int] = {}
    in_turn: dict[str, int] = {}
    for shares, options in ((by_size, job_options({})), (in_turn, job_options({"MILLRACE_SCHEDULING": "modulo"}))):
        _, results = await run_all(JOBS["lines"], 2, options)
        for index, result in enumerate(results):
            shares.update({entry.ref.key: index for entry in result.committed})
    assert by_size["in/d/f.csv"] != by_size["in/h.csv"]
    assert in_turn["in/d/f.csv"] == in_turn["in/h.csv"] == 0


@pytest.mark.parametrize("name", JOBS)
async def test_the_first_failure_is_the_same_for_all_ways_to_share(name: str) -> None:
    """It is the first one by key, whoever had it."""
    reasons = set()
    for count, options in ((1, JobOptions()), (3, job_options({})), (3, JobOptions(scheduling=Scheduling.MODULO))):
        _, results = await run_all(JOBS[name], count, options, status(400, "no", only=b",16\n"))
        reasons.add(transform_failure_reason([result.outcome for result in results]))
    [reason] = reasons
    assert reason is not None
    assert "4 of 7 objects failed; first: in/b.csv" in reason
