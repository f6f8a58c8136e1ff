"""Two servers on one PostgreSQL database share the work, and survive each other's death and the database's."""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.integration.platform import Platform, wait_until
from tests.postgresql import PostgresqlServer

Pair = tuple[Platform, Platform]

INPUT = b"1,2\n3,4\n5,6\n"
OUTPUT = b"3\n7\n11\n"


def start_pair(folder: Path, database_url: str, **settings: object) -> Pair:
    """Start two servers on one folder and database; what the tests need lies in the bucket."""
    settings = {"heartbeat_seconds": 0.2, "lease_seconds": 3.0, **settings}
    first, second = (Platform(folder, database_url=database_url, **settings) for _ in range(2))
    first.start()
    second.start()
    first.put("s3://shop/in/a.csv", INPUT)
    return first, second


@pytest.fixture
def pair(tmp_path_factory: pytest.TempPathFactory, postgresql: PostgresqlServer) -> Iterator[Pair]:
    """Two servers for one test that hurts them."""
    servers = start_pair(tmp_path_factory.mktemp("pair"), postgresql.create_database())
    yield servers
    for server in servers:
        server.stop()


def gated(server: Platform, name: str, gate: Path, **environment: str) -> str:
    """Make a model whose answers wait for a file."""
    return server.model(name, MODE="rowsum", WAIT_FOR=str(gate), JOURNAL=f"{gate}.journal", **environment)


def wait_for_request(gate: Path) -> int:
    """Wait until a gated model was asked, and return the process that was."""
    journal = Path(f"{gate}.journal")

    def asked() -> list[str]:
        return journal.read_text().split() if journal.exists() else []  # it is made a moment before it is written to

    return int(wait_until("a request", asked)[-1])


def history(server: Platform, kind: str, name: str) -> list[str]:
    """Return what happened to a job, as `millrace jobs show` tells."""
    return [entry["event"] for entry in server.show(f"{kind}/{name}")["history"]]


def test_a_job_is_one_thing_to_both(pair: Pair) -> None:
    """What was created through one is listed, described, tagged and read through the other; a taken name is taken."""
    first, second = pair
    second.transform("t", first.model("m", MODE="rowsum"), "s3://shop/in/")
    assert first.ended_transform("t")["TransformJobStatus"] == "Completed"
    assert second.get("s3://shop/t/a.csv.out") == first.get("s3://shop/t/a.csv.out") == OUTPUT
    with pytest.raises(ClientError, match="ResourceInUse"):
        first.transform("t", "m", "s3://shop/in/")
    assert [it["TransformJobName"] for it in first.client("sagemaker").list_transform_jobs()["TransformJobSummaries"]]
    assert history(first, "transform-job", "t") == ["InstanceStarted", "InstanceFinished"]


def test_a_waiter_on_the_other_server_learns_of_the_end_at_once(pair: Pair, tmp_path: Path) -> None:
    """A held Describe is answered when the server that it does not talk to has moved the job."""
    first, second = pair
    gate = tmp_path / "gate"
    first.transform("t", gated(first, "m", gate), "s3://shop/in/")
    wait_for_request(gate)
    gate.touch()
    # Asked once only: what is not answered by the job's end is a failure of the waiter.
    waiter = second.client("sagemaker").get_waiter("transform_job_completed_or_stopped")
    waiter.wait(TransformJobName="t", WaiterConfig={"Delay": 0, "MaxAttempts": 1})


def test_two_servers_run_more_than_one(tmp_path_factory: pytest.TempPathFactory, database_url: str) -> None:
    """The limit of jobs is each server's own; a job for which one has no room is started by the other."""
    folder = tmp_path_factory.mktemp("pair")
    first, second = start_pair(folder, database_url, max_jobs=1)
    gates = [folder / name for name in ("one", "two", "three")]
    for gate in gates:
        first.transform(gate.name, gated(first, gate.name, gate), "s3://shop/in/")
    for gate in gates[:2]:
        wait_for_request(gate)
    assert not Path(f"{gates[2]}.journal").exists()
    for gate in gates:
        gate.touch()
        assert second.ended_transform(gate.name)["TransformJobStatus"] == "Completed"
    assert (first.stop(), second.stop()) == (0, 0)


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_server_s_agents_go_on_under_the_other(pair: Pair, tmp_path: Path, killed: int) -> None:
    """The job ends through the same agent, whichever server had started it, and its output is whole."""
    gate = tmp_path / "gate"
    pair[0].transform("t", gated(pair[0], "m", gate), "s3://shop/in/")
    container = wait_for_request(gate)
    pair[killed].kill()
    left = pair[1 - killed]
    gate.touch()
    assert left.ended_transform("t")["TransformJobStatus"] == "Completed"
    assert left.get("s3://shop/t/a.csv.out") == OUTPUT
    assert wait_for_request(gate) == container
    assert history(left, "transform-job", "t") == ["InstanceStarted", "InstanceFinished"]


def test_an_agent_that_dies_with_its_server_is_replaced_by_the_other(pair: Pair, tmp_path: Path) -> None:
    """The survivor takes the job over, finds its agent dead, and starts the next attempt."""
    first, second = pair
    gate = tmp_path / "gate"
    first.transform("t", gated(first, "m", gate), "s3://shop/in/")
    container = wait_for_request(gate)
    first.kill()
    [agent] = second.agents()
    second.kill_process(agent)
    wait_until("another attempt", lambda: wait_for_request(gate) != container)
    gate.touch()
    assert second.ended_transform("t")["TransformJobStatus"] == "Completed"
    assert second.get("s3://shop/t/a.csv.out") == OUTPUT
    assert pids_in_turn(gate)


def test_a_stop_through_the_other_server_is_done(pair: Pair, tmp_path: Path) -> None:
    """The answer of Describe, on either, is Stopping at once; the agent stops."""
    first, second = pair
    gate = tmp_path / "gate"
    first.transform("t", gated(first, "m", gate), "s3://shop/in/")
    wait_for_request(gate)
    second.client("sagemaker").stop_transform_job(TransformJobName="t")
    for server in pair:
        found = server.client("sagemaker").describe_transform_job(TransformJobName="t")
        assert found["TransformJobStatus"] in ("Stopping", "Stopped")
    assert second.ended_transform("t")["TransformJobStatus"] == "Stopped"


def test_an_endpoint_is_one_thing_to_both(pair: Pair) -> None:
    """Invoked, updated and deleted through either, with effect on both."""
    first, second = pair
    for who in ("old", "new"):
        config(first, who)
    first.client("sagemaker").create_endpoint(EndpointName="e", EndpointConfigName="old")
    in_service(second)
    assert [invoke(server) for server in pair] == ["old", "old"]
    second.client("sagemaker").update_endpoint(EndpointName="e", EndpointConfigName="new")
    status = second.client("sagemaker").describe_endpoint(EndpointName="e")["EndpointStatus"]
    assert status in ("Updating", "InService")
    wait_until("the update", lambda: in_service(first) == "new")
    wait_until("new answers", lambda: [invoke(server) for server in pair] == ["new", "new"])
    second.client("sagemaker").delete_endpoint(EndpointName="e")
    for server in pair:
        server.client("sagemaker").get_waiter("endpoint_deleted").wait(EndpointName="e", WaiterConfig={"Delay": 1})
        with pytest.raises(ClientError, match=r"not found|Could not find"):
            invoke(server)


def test_a_server_that_ends_leaves_its_endpoints_to_the_other(pair: Pair) -> None:
    """They serve on, through the same agent; only the last server stops them, and the next starts them again."""
    first, second = pair
    config(first, "old")
    first.client("sagemaker").create_endpoint(EndpointName="e", EndpointConfigName="old")
    in_service(first)
    agents = first.agents()
    assert first.stop() == 0
    assert invoke(second) == "old"
    assert second.agents() == agents
    assert second.stop() == 0
    assert not second.processes("serve")
    first.start()
    wait_until("an answer", lambda: answer(first) == "old")
    second.start()


def test_an_endpoint_outlives_a_killed_server(pair: Pair) -> None:
    """The survivor serves it, and starts its instance again when that dies."""
    first, second = pair
    config(first, "old")
    first.client("sagemaker").create_endpoint(EndpointName="e", EndpointConfigName="old")
    in_service(second)
    [agent] = second.agents()
    first.kill()
    assert invoke(second) == "old"
    second.kill_process(agent)
    wait_until("an answer of another agent", lambda: answer(second) == "old" and second.agents() != [agent])


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_jobs_outlive_a_restart_of_the_database(
    tmp_path_factory: pytest.TempPathFactory, fragile_postgresql: PostgresqlServer, mode: str
) -> None:
    """Stopped in order or crashed: servers and agents wait for it, no attempt is lost, nothing is done twice."""
    folder = tmp_path_factory.mktemp("pair")
    first, second = start_pair(folder, fragile_postgresql.create_database())
    gate = folder / "gate"
    first.transform("t", gated(first, "m", gate), "s3://shop/in/")
    container = wait_for_request(gate)
    fragile_postgresql.stop(mode)
    gate.touch()  # the agent has its answer, and nobody to tell
    fragile_postgresql.start()
    for server in (first, second):
        assert server.ended_transform("t")["TransformJobStatus"] == "Completed"
    assert second.get("s3://shop/t/a.csv.out") == OUTPUT
    assert wait_for_request(gate) == container
    second.transform("after", "m", "s3://shop/in/")
    assert first.ended_transform("after")["TransformJobStatus"] == "Completed"
    assert (first.stop(), second.stop()) == (0, 0)


def test_work_goes_on_whatever_is_killed(
    tmp_path_factory: pytest.TempPathFactory, fragile_postgresql: PostgresqlServer
) -> None:
    """Servers, agents and the database die one after the other under load; every job ends right, none runs twice."""
    folder = tmp_path_factory.mktemp("pair")
    pair = start_pair(folder, fragile_postgresql.create_database(), max_jobs=3, max_instance_attempts=20)
    first, second = pair
    config(first, "old")
    first.client("sagemaker").create_endpoint(EndpointName="e", EndpointConfigName="old")
    in_service(first)
    gates = [folder / f"t{number}" for number in range(6)]
    for number, gate in enumerate(gates):
        pair[number % 2].transform(gate.name, gated(first, gate.name, gate), "s3://shop/in/")
        pair[number % 2].train(f"train{number}", HyperParameters={"do": "look"})

    def restart_database() -> None:
        fragile_postgresql.stop("immediate")
        fragile_postgresql.start()

    def kill_agents() -> None:
        for agent in wait_until("agents", second.agents):
            second.kill_process(agent)

    deaths = [first.kill, kill_agents, second.kill, restart_database, first.kill, kill_agents]
    for gate, die in zip(gates, deaths, strict=True):
        wait_for_request(gate)
        die()
        for server in pair:
            if server.process is not None and server.process.poll() is not None:
                server.start()
        gate.touch()
    for gate in gates:
        assert second.ended_transform(gate.name)["TransformJobStatus"] == "Completed"
        assert first.get(f"s3://shop/{gate.name}/a.csv.out") == OUTPUT
        assert pids_in_turn(gate)
    for number in range(len(gates)):
        assert first.ended_training(f"train{number}")["TrainingJobStatus"] == "Completed"
    wait_until("an answer", lambda: [answer(server) for server in pair] == ["old", "old"])
    assert (first.stop(), second.stop()) == (0, 0)


def pids_in_turn(gate: Path) -> bool:
    """Whether no container was asked any more after a later one was."""
    turns = [pid for pid, _ in groupby(Path(f"{gate}.journal").read_text().split())]
    return len(turns) == len(set(turns))


def config(server: Platform, who: str) -> None:
    """Make an endpoint configuration whose model answers with a name."""
    variant = {"VariantName": "v", "ModelName": server.model(who, MODE="who", WHO=who), "InitialInstanceCount": 1}
    server.client("sagemaker").create_endpoint_config(
        EndpointConfigName=who, ProductionVariants=[{**variant, "InstanceType": "ml.m5.large"}]
    )


def in_service(server: Platform) -> str:
    """Wait until the endpoint is in service and return its configuration."""
    server.client("sagemaker").get_waiter("endpoint_in_service").wait(EndpointName="e", WaiterConfig={"Delay": 1})
    found: str = server.client("sagemaker").describe_endpoint(EndpointName="e")["EndpointConfigName"]
    return found


def invoke(server: Platform) -> str:
    body: bytes = (
        server.client("sagemaker-runtime").invoke_endpoint(EndpointName="e", Body=b"1", ContentType="text/csv")["Body"]
    ).read()
    return body.decode()


def answer(server: Platform) -> str | None:
    """Return what the endpoint answers, None while it can't."""
    try:
        return invoke(server)
    except ClientError:
        return None
