"""How many invocations an endpoint carries, and how much later than from the container itself their answers come."""

import json
import os
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import joblib
import numpy as np
from sklearn.linear_model import LogisticRegression

from bench import goals, wrk
from bench.case import Case, Options
from bench.environments import MLSERVER
from bench.inputs import csv_text
from bench.machine import TreeClock, versions
from bench.platform import BUCKET, ROLE, Platform, serve
from bench.servers import free_port, running
from bench.turns import Comparison, Outcome, OutputDiffers, Sample, run

__all__ = ["CASE"]

ROWS, COLUMNS = 1000, 10
NAME, IMAGE = "labels", "bench-sklearn:1"
CLIENT_CORE = 1
WRK_SECONDS = 2
IN_SERVICE_SECONDS = 60.0
ENDPOINT, DIRECT = "millrace endpoint", "container itself"
IDLE = "millrace endpoint, nothing predicted"
"""The same with a container that answers at once, always the same: what the platform carries by itself."""
PEER, PEER_ALONE = "MLServer", "MLServer, parallel_workers 0"
"""As it starts unless it is told otherwise, with one worker process; and without that, which is its fastest way."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """Where the row is sent, and what the label is in the answer."""

    url: str
    process_id: int
    request: Callable[[], bytes]
    label: Callable[[bytes], int]


def cases(options: Options) -> Iterator[Outcome]:
    """Compare eight connections for the rate, then a single one for the time that is added."""
    wrk.ensure_installed()
    text = csv_text(ROWS, COLUMNS)
    row = text[: text.find(b"\n") + 1]
    numbers = np.array([line.split(b",") for line in text.splitlines()], np.float64)
    labels = (numbers[:, 0] + numbers[:, 1] > 0).astype(np.int64)
    model = LogisticRegression().fit(numbers, labels)
    expected = int(model.predict(numbers[:1])[0])
    absence = MLSERVER.absence() if options.peers else "make bench-peers has it"
    seconds = 1 if options.quick else WRK_SECONDS
    with ExitStack() as stack:
        archive = _archive(model)
        answer = {"BENCH_ANSWER": str(expected)}
        targets = {
            ENDPOINT: _endpoint(options.folder / "platform", archive, row, stack, {}),
            IDLE: _endpoint(options.folder / "platform-idle", archive, row, stack, answer),
            DIRECT: _container(options.folder / "direct", model, row, stack),
        }
        if absence is None:
            targets[PEER] = _mlserver(options.folder / "mlserver", model, numbers[0], stack, {})
            alone = {"parallel_workers": 0}
            targets[PEER_ALONE] = _mlserver(options.folder / "mlserver-alone", model, numbers[0], stack, alone)
        for connections in (8, 1):
            yield run(_comparison(targets, connections, expected, seconds, absence), options.rounds)


def _comparison(
    targets: Mapping[str, Target], connections: int, expected: int, seconds: int, absence: str | None
) -> Comparison:
    def contend(target: Target) -> Callable[[], Sample]:
        def turn() -> Sample:
            clock = TreeClock(target.process_id)
            before = clock.look()
            sample = wrk.replay(
                target.url, [target.request()], connections=connections, seconds=seconds, core=CLIENT_CORE
            )
            return replace(sample, cpu_seconds=clock.look() - before)

        return turn

    def check() -> None:
        for name, target in targets.items():
            if (label := target.label(wrk.once(target.url, target.request()))) != expected:
                raise OutputDiffers(f"{name}: expected label {expected}, got {label}")

    wanted: tuple[goals.Goal, ...]
    if connections == 1:
        wanted = (goals.fact_difference(ENDPOINT, DIRECT, "p50 ms", 0.5),)
    else:
        told = (goals.told_speed(ENDPOINT, PEER_ALONE), goals.told_speed(DIRECT, PEER), goals.told_speed(IDLE, PEER))
        wanted = (goals.speed(ENDPOINT, PEER, 10), *told)
    return Comparison(
        title=f"One row to a scikit-learn model: {connections} connection{'s' * (connections > 1)}",
        unit="requests",
        contenders={name: contend(target) for name, target in targets.items()},
        references=tuple(name for name in targets if name not in (ENDPOINT, IDLE)),
        check=check,
        goals=wanted,
        absent={} if absence is None else dict.fromkeys((PEER, PEER_ALONE), absence),
        sides="Endpoint and container run the same program (bench/programs/sklearn_server.py) on the same model file; "
        "the endpoint's requests are signed, checked and routed. Where nothing is predicted, the program answers at "
        "once: what is left is the platform's own part. MLServer has the same file and speaks JSON, "
        "once with the settings it starts with, which are one worker process beside the server, and once without it. "
        "All may use both cores, wrk runs on the second. Processor time is of the server and all its processes.",
    )


def _endpoint(folder: Path, archive: bytes, row: bytes, stack: ExitStack, environment: Mapping[str, str]) -> Target:
    folder.mkdir(parents=True)
    command = json.dumps([sys.executable, str(Path(__file__).with_name("programs") / "sklearn_server.py")])
    (folder / "host-images.toml").write_text(f'[[image]]\nmatch = "{IMAGE}"\ncommand = {command}\n', "utf-8")
    platform = stack.enter_context(serve(folder))
    platform.put("model.tar.gz", archive)
    platform.sagemaker.create_model(
        ModelName=NAME,
        ExecutionRoleArn=ROLE,
        PrimaryContainer={
            "Image": IMAGE,
            "ModelDataUrl": f"s3://{BUCKET}/model.tar.gz",
            "Environment": dict(environment),
        },
    )
    variant = {"VariantName": "only", "ModelName": NAME, "InitialInstanceCount": 1, "InstanceType": "ml.m5.large"}
    platform.sagemaker.create_endpoint_config(EndpointConfigName=NAME, ProductionVariants=[variant])
    platform.sagemaker.create_endpoint(EndpointName=NAME, EndpointConfigName=NAME)
    _await_service(platform)
    path, headers = f"/endpoints/{NAME}/invocations", {"Content-Type": "text/csv", "Accept": "text/csv"}
    return Target(
        url=platform.url,
        process_id=platform.process_id,
        request=lambda: platform.signed("sagemaker", "POST", path, headers, row),
        label=int,
    )


def _await_service(platform: Platform) -> None:
    deadline = time.monotonic() + IN_SERVICE_SECONDS
    while (found := platform.sagemaker.describe_endpoint(EndpointName=NAME))["EndpointStatus"] == "Creating":
        if time.monotonic() > deadline:
            raise SystemExit(f"the endpoint is not in service after {IN_SERVICE_SECONDS:.0f} seconds")
        time.sleep(0.05)
    if found["EndpointStatus"] != "InService":
        raise SystemExit(f"the endpoint is {found['EndpointStatus']}: {found.get('FailureReason')}")


def _container(folder: Path, model: LogisticRegression, row: bytes, stack: ExitStack) -> Target:
    (folder / "opt" / "ml" / "model").mkdir(parents=True)
    joblib.dump(model, folder / "opt" / "ml" / "model" / "model.joblib")
    port = free_port()
    started = stack.enter_context(
        running(
            [sys.executable, str(Path(__file__).with_name("programs") / "sklearn_server.py"), "serve"],
            port=port,
            ready="/ping",
            log=folder / "server.log",
            environment={**os.environ, "SAGEMAKER_BASE_DIR": str(folder), "SAGEMAKER_BIND_TO_PORT": str(port)},
        )
    )
    headers = {"Host": started.netloc, "Content-Type": "text/csv", "Accept": "text/csv"}
    request = wrk.raw_request("POST", "/invocations", headers, row)
    return Target(url=started.url, process_id=started.process_id, request=lambda: request, label=int)


def _mlserver(
    folder: Path, model: LogisticRegression, row: np.ndarray, stack: ExitStack, chosen: Mapping[str, int]
) -> Target:
    folder.mkdir()
    joblib.dump(model, folder / "model.joblib")
    port = free_port()
    settings = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "debug": False,
        **chosen,
    }
    (folder / "settings.json").write_text(json.dumps(settings), "utf-8")
    described = {
        "name": NAME,
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": "./model.joblib", "version": "v1"},
    }
    (folder / "model-settings.json").write_text(json.dumps(described), "utf-8")
    started = stack.enter_context(
        running(
            [str(MLSERVER.python.with_name("mlserver")), "start", str(folder)],
            port=port,
            ready=f"/v2/models/{NAME}/ready",
            log=folder / "server.log",
            environment=MLSERVER.variables(),
        )
    )
    inputs = {"name": "predict", "shape": [1, COLUMNS], "datatype": "FP64", "data": row.tolist()}
    body = json.dumps({"inputs": [inputs]}).encode()
    headers = {"Host": started.netloc, "Content-Type": "application/json"}
    request = wrk.raw_request("POST", f"/v2/models/{NAME}/infer", headers, body)
    return Target(
        url=started.url,
        process_id=started.process_id,
        request=lambda: request,
        label=lambda answer: int(json.loads(answer)["outputs"][0]["data"][0]),
    )


def _archive(model: LogisticRegression) -> bytes:
    stored, packed = BytesIO(), BytesIO()
    joblib.dump(model, stored)
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo("model.joblib")
        member.size = len(stored.getvalue())
        archive.addfile(member, BytesIO(stored.getvalue()))
    return packed.getvalue()


CASE = Case(
    name="invoke_endpoint",
    question="how many invocations does an endpoint carry, and what does it add to their time?",
    run=cases,
    versions=lambda: (
        f"{versions('millrace', 'scikit-learn', 'uvicorn')}, {wrk.version()}; peers: {MLSERVER.versions()}"
    ),
    has_peers=True,
)
