"""How many Describe and List requests a server answers in a second, ten thousand jobs in its state."""

import asyncio
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench import goals, wrk
from bench.case import Case, Options
from bench.environments import LIGHT
from bench.machine import TreeClock, pinned, versions
from bench.platform import BUCKET, Platform, serve
from bench.servers import free_port, running
from bench.turns import Comparison, Outcome, OutputDiffers, Sample, run
from millrace import settings
from millrace.clock import SystemClock
from millrace.jobs.job import Instance, JobKind, JobStatus, TransformJob
from millrace.names import DEFAULT_ACCOUNT, DEFAULT_REGION, sagemaker_arn
from millrace.services.sagemaker.transform_jobs import transform_spec
from millrace.store.opening import open_agent_database
from millrace.store.sql_jobs import SqlJobStore

__all__ = ["CASE"]

JOBS, PAGE = 10_000, 100
CONNECTIONS = 8
SERVER_CORE, CLIENT_CORE = 0, 1
WRK_SECONDS = 2
MILLRACE, MOTO, UVICORN = "millrace serve", "moto_server", "bare uvicorn"
REQUEST: Mapping[str, Any] = {
    "ModelName": "labels",
    "MaxConcurrentTransforms": 4,
    "MaxPayloadInMB": 6,
    "BatchStrategy": "MultiRecord",
    "TransformInput": {
        "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/rows/"}},
        "ContentType": "text/csv",
        "SplitType": "Line",
        "CompressionType": "None",
    },
    "TransformOutput": {"S3OutputPath": f"s3://{BUCKET}/out", "Accept": "text/csv", "AssembleWith": "Line"},
    "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
}
LISTING: Mapping[str, Any] = {"MaxResults": PAGE, "SortBy": "CreationTime", "SortOrder": "Ascending"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What is asked over and over, and how many times moto's rate is the goal (None: it is only told)."""

    title: str
    operation: str
    parameters: Mapping[str, Any]
    factor: float | None
    page_by_page: bool = False
    """Whether each request goes on where the one before ended: none asks what was asked just now."""


QUESTIONS = (
    Question(
        title="DescribeTransformJob",
        operation="DescribeTransformJob",
        parameters={"TransformJobName": "job-00042"},
        factor=10,
    ),
    Question(
        title=f"ListTransformJobs, {PAGE} of {JOBS:,}", operation="ListTransformJobs", parameters=LISTING, factor=20
    ),
    Question(
        title=f"ListTransformJobs, {JOBS:,} by pages of {PAGE}",
        operation="ListTransformJobs",
        parameters=LISTING,
        factor=None,
        page_by_page=True,
    ),
)

_ONE_READ = (
    "wrk sends the same signed request to all. Millrace checks the signature and, as nobody writes meanwhile, finds in "
    "memory what it has read of SQLite; "
)
_PAGES_READ = (
    "wrk sends signed requests that go from page to page, with each server's own tokens. Millrace checks the signature "
    "and reads SQLite for each, for it keeps fewer pages than there are; "
)


def cases(options: Options) -> Iterator[Outcome]:
    """Compare with moto's server, and with a program that answers every request with two bytes."""
    wrk.ensure_installed()
    count = JOBS // 10 if options.quick else JOBS
    seconds = 1 if options.quick else WRK_SECONDS
    absence = LIGHT.absence()
    with ExitStack() as stack:
        asyncio.run(_seed(options.folder / "platform", count))
        platform = stack.enter_context(serve(options.folder / "platform", core=SERVER_CORE))
        servers: dict[str, tuple[str, int]] = {MILLRACE: (platform.url, platform.process_id)}
        if absence is None:
            port = free_port()
            script = str(Path(__file__).with_name("peers") / "moto_seeded.py")
            command = [str(LIGHT.python), script, str(port), str(count), DEFAULT_REGION, json.dumps(REQUEST)]
            moto = running(pinned(command, SERVER_CORE), port=port, ready="/moto-api/", log=options.folder / "moto.log")
            servers[MOTO] = ((peer := stack.enter_context(moto)).url, peer.process_id)
        port = free_port()
        command = [sys.executable, "-m", "uvicorn", "--port", str(port), "--log-level", "warning", "--lifespan", "off"]
        bare = running(
            pinned([*command, "bench.constant_app:app"], SERVER_CORE),
            port=port,
            ready="/",
            log=options.folder / "uvicorn.log",
        )
        servers[UVICORN] = ((limit := stack.enter_context(bare)).url, limit.process_id)
        for question in QUESTIONS:
            yield run(_comparison(question, platform, servers, seconds, absence), options.rounds)


def _comparison(
    question: Question,
    platform: Platform,
    servers: Mapping[str, tuple[str, int]],
    seconds: int,
    absence: str | None,
) -> Comparison:
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": f"SageMaker.{question.operation}"}
    bodies: dict[str, list[bytes]] = {}

    def signed(body: bytes) -> bytes:
        return platform.signed("sagemaker", "POST", "/", headers, body)  # a signature is good for 15 minutes

    def asked(name: str) -> list[bytes]:
        """Return the bodies of what one server is asked; tokens that lead from page to page are its own."""
        if name not in bodies:
            bodies[name] = asked(MILLRACE) if name == UVICORN else list(_bodies(question, servers[name][0], signed))
        return bodies[name]

    def contend(name: str, url: str, process: int) -> Callable[[], Sample]:
        def turn() -> Sample:
            requests = [signed(body) for body in asked(name)]
            clock = TreeClock(process)
            before = clock.look()
            sample = wrk.replay(url, requests, connections=CONNECTIONS, seconds=seconds, core=CLIENT_CORE)
            return replace(sample, cpu_seconds=clock.look() - before)

        return turn

    def check() -> None:
        answers = {
            name: [_comparable(json.loads(wrk.once(url, signed(body)))) for body in asked(name)]
            for name, (url, _) in servers.items()
            if name != UVICORN
        }
        for name, answer in answers.items():
            if answer != answers[MILLRACE] or not all(answer):
                raise OutputDiffers(
                    f"{name} answers {question.operation} with {answer}, millrace with {answers[MILLRACE]}"
                )

    return Comparison(
        title=f"{question.title}: {CONNECTIONS} connections, one core for each server",
        unit="requests",
        contenders={name: contend(name, url, process) for name, (url, process) in servers.items()},
        references=(MOTO, UVICORN) if MOTO in servers else (UVICORN,),
        check=check,
        goals=(
            goals.told_speed(MILLRACE, MOTO)
            if question.factor is None
            else goals.speed(MILLRACE, MOTO, question.factor),
        ),
        absent={} if absence is None else {MOTO: absence},
        sides=(_PAGES_READ if question.page_by_page else _ONE_READ)
        + "moto checks no signature and looks into its memory; uvicorn answers two bytes whatever it is asked. The "
        "jobs were put into the state of both servers, not created by requests. Processor time is the server's.",
    )


def _bodies(question: Question, url: str, signed: Callable[[bytes], bytes]) -> Iterator[bytes]:
    """Yield what is asked: the question, and from page to page on to the end if it is asked so."""
    parameters = dict(question.parameters)
    while True:
        body = json.dumps(parameters).encode()
        yield body
        token = json.loads(wrk.once(url, signed(body))).get("NextToken") if question.page_by_page else None
        if token is None:
            return
        parameters["NextToken"] = token


async def _seed(data_dir: Path, count: int) -> None:
    """Put completed jobs into the state of a server that starts next."""
    clock = SystemClock()
    data_dir.mkdir()
    database = open_agent_database(settings.load({}, data_dir=data_dir))
    try:
        jobs = SqlJobStore(database, clock=clock)
        spec = transform_spec(REQUEST)
        for number in range(count):
            now = clock.now()
            arn = sagemaker_arn(JobKind.TRANSFORM, f"job-{number:05}", region=DEFAULT_REGION, account=DEFAULT_ACCOUNT)
            job = TransformJob(
                name=arn.name,
                arn=arn,
                status=JobStatus.COMPLETED,
                created_at=now,
                modified_at=now,
                started_at=now,
                ended_at=now,
                spec=spec,
                containers=(),
                instances=(Instance(index=0),),
            )
            await jobs.save(await jobs.add(JobKind.TRANSFORM, job, {**REQUEST, "TransformJobName": job.name}))
    finally:
        database.close()


def _comparable(answer: dict[str, Any]) -> list[Any]:
    """Return what must be the same in the answers of all servers: no times, no account."""
    if "TransformJobSummaries" in answer:
        return [summary["TransformJobName"] for summary in answer["TransformJobSummaries"]]
    if "TransformJobName" not in answer:
        return []
    members = ("TransformJobName", "ModelName", "MaxPayloadInMB", "TransformInput", "TransformOutput")
    return [_said(answer[member]) for member in members]


def _said(value: Any) -> Any:
    """Return a member without what is empty, which one server tells and the other leaves out."""
    return {key: inner for key, inner in value.items() if inner} if isinstance(value, dict) else value


CASE = Case(
    name="control_plane",
    question="how many requests about jobs does the server answer in a second?",
    run=cases,
    versions=lambda: f"{versions('millrace', 'uvicorn', 'botocore')}, {wrk.version()}; peers: {LIGHT.versions()}",
)
