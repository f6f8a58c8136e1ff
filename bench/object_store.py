"""How fast objects are stored, read and listed over S3's protocol."""

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import boto3
from botocore.config import Config

from bench import goals, wrk
from bench.case import Case, Options
from bench.environments import LIGHT
from bench.machine import TreeClock, pinned, versions
from bench.platform import BUCKET, Platform, serve
from bench.servers import free_port, running
from bench.turns import Comparison, Outcome, OutputDiffers, Sample, run
from millrace.names import DEFAULT_REGION

__all__ = ["CASE"]

MIB = 1024 * 1024
LARGE_BYTES, LARGE_OBJECTS = 8 * MIB, 16
"""More objects than connections: moto's server fails if a key is written twice at the same time."""
SMALL_BYTES, SMALL_OBJECTS = 1024, 200
LISTED = 1000
SERVER_CORE, CLIENT_CORE = 0, 1
WRK_SECONDS = 2
MILLRACE, MOTO = "millrace serve", "moto_server"
SIDES = (
    "wrk sends the same signed requests to both. Millrace checks the signature and the body's SHA-256, computes the "
    "MD5 that is the ETag, and has the object on disk (fsync) before it answers; moto checks no signature and keeps "
    "objects in memory. Processor time is the server's."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """One of the two, and a client for what is not timed."""

    url: str
    process_id: int
    client: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """One kind of request."""

    title: str
    method: str
    paths: Sequence[str]
    bodies: Sequence[bytes]
    connections: int
    factor: float
    check: Callable[[Server], object]
    """Returns what must be the same of all servers, asked after the warm-up and at the end."""


def cases(options: Options) -> Iterator[Outcome]:
    """Compare with moto's server."""
    wrk.ensure_installed()
    seconds = 1 if options.quick else WRK_SECONDS
    absence = LIGHT.absence()
    with ExitStack() as stack:
        platform = stack.enter_context(serve(options.folder / "platform", core=SERVER_CORE))
        servers = {MILLRACE: Server(url=platform.url, process_id=platform.process_id, client=platform.s3)}
        if absence is None:
            servers[MOTO] = _moto(options, stack)
        for server in servers.values():
            for number in range(LISTED):
                server.client.put_object(Bucket=BUCKET, Key=f"listed/folder/{number:04}", Body=b"")
        for question in _questions():
            comparison = _comparison(question, platform, servers, seconds, absence)
            yield run(comparison, options.rounds)
            comparison.check()


def _moto(options: Options, stack: ExitStack) -> Server:
    port = free_port()
    command = pinned([str(LIGHT.python.with_name("moto_server")), "-p", str(port)], SERVER_CORE)
    peer = stack.enter_context(running(command, port=port, ready="/moto-api/", log=options.folder / "moto.log"))
    client = boto3.client(
        "s3",
        endpoint_url=peer.url,
        region_name=DEFAULT_REGION,
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(s3={"addressing_style": "path"}),
    )
    client.create_bucket(Bucket=BUCKET)
    return Server(url=peer.url, process_id=peer.process_id, client=client)


def _questions() -> Iterator[Question]:
    numbers = random.Random(0)
    for name, size, count, connections, factor in (
        ("8 MiB", LARGE_BYTES, LARGE_OBJECTS, 4, 3),
        ("1 KiB", SMALL_BYTES, SMALL_OBJECTS, 8, 10),
    ):
        keys = [f"{size}/{number}" for number in range(count)]
        bodies = [numbers.randbytes(size) for _ in keys]
        paths = [f"/{BUCKET}/{key}" for key in keys]
        check = partial(_require_stored, keys, bodies)
        for method in ("PUT", "GET"):
            yield Question(
                title=f"{method} of {name}",
                method=method,
                paths=paths,
                bodies=bodies if method == "PUT" else [b""] * count,
                connections=connections,
                factor=factor,
                check=check,
            )
    yield Question(
        title=f"List of {LISTED:,} keys",
        method="GET",
        paths=[f"/{BUCKET}?list-type=2&prefix=listed%2F"],
        bodies=[b""],
        connections=8,
        factor=30,
        check=_listed,
    )


def _comparison(
    question: Question, platform: Platform, servers: Mapping[str, Server], seconds: int, absence: str | None
) -> Comparison:
    def contend(server: Server) -> Callable[[], Sample]:
        def turn() -> Sample:
            requests = [
                platform.signed("s3", question.method, path, {}, body)
                for path, body in zip(question.paths, question.bodies, strict=True)
            ]
            clock = TreeClock(server.process_id)
            before = clock.look()
            sample = wrk.replay(
                server.url, requests, connections=question.connections, seconds=seconds, core=CLIENT_CORE
            )
            return replace(sample, cpu_seconds=clock.look() - before)

        return turn

    def check() -> None:
        found = {name: question.check(server) for name, server in servers.items()}
        for name, answer in found.items():
            if answer != found[MILLRACE]:
                raise OutputDiffers(f"{question.title}: {name} gives {answer}, millrace {found[MILLRACE]}")

    return Comparison(
        title=f"{question.title}: {question.connections} connections, one core for each server",
        unit="requests",
        contenders={name: contend(server) for name, server in servers.items()},
        references=(MOTO,) if MOTO in servers else (MILLRACE,),
        check=check,
        goals=(goals.speed(MILLRACE, MOTO, question.factor),),
        absent={} if absence is None else {MOTO: absence},
        sides=SIDES,
    )


def _require_stored(keys: Sequence[str], bodies: Sequence[bytes], server: Server) -> list[str]:
    """Return the ETags, having read every object."""
    tags = []
    for key, body in zip(keys, bodies, strict=True):
        answer = server.client.get_object(Bucket=BUCKET, Key=key)
        if hashlib.sha256(answer["Body"].read()).digest() != hashlib.sha256(body).digest():
            raise OutputDiffers(f"{server.url} gives other bytes for {key}")
        tags.append(answer["ETag"])
    return tags


def _listed(server: Server) -> list[tuple[str, int, str]]:
    answer = server.client.list_objects_v2(Bucket=BUCKET, Prefix="listed/")
    return [(entry["Key"], entry["Size"], entry["ETag"]) for entry in answer["Contents"]]


CASE = Case(
    name="object_store",
    question="how fast are objects stored, read and listed?",
    run=cases,
    versions=lambda: f"{versions('millrace', 'boto3')}, {wrk.version()}; peers: {LIGHT.versions()}",
)
