"""Model servers that the starter forks behave as if they had been executed."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from millrace.clock import SystemClock
from millrace.dataplane.client import Client
from millrace.dataplane.container import wait_until_healthy
from millrace.engines.container_starter import ContainerStarter
from millrace.ports.runtime import Container, ContainerSpec
from millrace.runtimes.images import HostImages
from millrace.runtimes.process import ProcessRuntime
from millrace.runtimes.started import STARTER_VARIABLE
from millrace_algorithms.pca.decomposition import Components
from millrace_algorithms.pca.model import save

IMAGE = HostImages(Path("none"), find_built_in=lambda uri: "pca").resolve("pca:1")


async def until(condition: Callable[[], bool]) -> None:
    """Return once a condition holds; pytest's time limit ends what never does."""
    while not condition():
        await asyncio.sleep(0.005)


def runs(process_id: int) -> bool:
    """Whether a process lives, and is no zombie."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def parent_of(process_id: int) -> int:
    return int(Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.fixture
async def starter(tmp_path: Path) -> AsyncIterator[ContainerStarter]:
    made = ContainerStarter(tmp_path / "starter.sock", tmp_path / "starter.log")
    await made.open(dict(os.environ))
    await until(made.socket_path.exists)
    yield made
    made.close()
    assert made._process is not None
    await made._process.wait()


def opt_ml_with_model(folder: Path) -> Path:
    """Return a folder that stands for /opt/ml, with a model that projects two features on the first."""
    opt_ml = folder / "opt" / "ml"
    (opt_ml / "model").mkdir(parents=True)
    components = Components(
        singular_values=np.array([1.0]), directions=np.array([[1.0], [0.0]]), mean=np.array([0.0, 0.0])
    )
    save(opt_ml / "model", components, {})
    return opt_ml


async def launch(
    starter: ContainerStarter,
    opt_ml: Path,
    lines: list[str],
    *,
    command: str = "serve",
    environment: Mapping[str, str] | None = None,
) -> Container:
    runtime = ProcessRuntime({**os.environ, STARTER_VARIABLE: str(starter.socket_path)})
    return await runtime.launch(
        ContainerSpec(
            name="c",
            image=IMAGE,
            command=(*IMAGE.command, command),
            environment=environment or {},
            opt_ml=opt_ml,
            serves=True,
            on_line=lambda at, line: lines.append(line),
        )
    )


async def invoke(container: Container) -> bytes:
    assert container.address is not None
    await wait_until_healthy(container.address, window_seconds=30, clock=SystemClock())
    client = Client(container.address)
    try:
        headers = (("content-type", "text/csv"),)
        answer = await client.invoke("POST", "/invocations", headers, b"7,8\n", timeout_seconds=30)
        return bytes(answer.body)
    finally:
        client.close()


async def test_a_server_is_forked_and_answers(starter: ContainerStarter, tmp_path: Path) -> None:
    """It is the starter's child, in a session and a folder of its own, and ends with 0 at SIGTERM."""
    lines: list[str] = []
    container = await launch(starter, opt_ml_with_model(tmp_path), lines)
    assert b"7" in await invoke(container)
    assert starter._process is not None
    assert parent_of(container.process_id) == starter._process.pid
    assert os.getsid(container.process_id) == container.process_id
    assert Path(f"/proc/{container.process_id}/cwd").resolve() == tmp_path.resolve()
    assert (await container.stop(30)).code == 0
    assert lines[0] == "Docker entrypoint called with argument(s): serve"
    assert not list(tmp_path.glob("opt/ml/.process-group"))


async def test_it_says_and_ends_as_an_executed_one(starter: ContainerStarter, tmp_path: Path) -> None:
    """Without a model both print the same lines and end with the same code."""
    found = []
    for number, variables in enumerate(({}, {"OMP_NUM_THREADS": "1"})):
        lines: list[str] = []
        opt_ml = tmp_path / str(number) / "opt" / "ml"
        (opt_ml / "model").mkdir(parents=True)
        container = await launch(starter, opt_ml, lines, environment=variables)
        status = await container.wait()
        found.append((status.code, [line.replace(str(opt_ml), "") for line in lines]))
    assert found[0] == found[1]
    assert found[0][0] == 1


@pytest.mark.parametrize("variables", [{"OMP_NUM_THREADS": "2"}, {"MALLOC_ARENA_MAX": "1"}])
async def test_what_is_read_at_the_start_is_executed(
    starter: ContainerStarter, tmp_path: Path, variables: Mapping[str, str]
) -> None:
    """A variable that only a fresh interpreter or library honours gets one."""
    container = await launch(starter, opt_ml_with_model(tmp_path), [], environment=variables)
    assert parent_of(container.process_id) == os.getpid()
    await container.stop(30)


async def test_the_environment_is_the_container_s_own(starter: ContainerStarter, tmp_path: Path) -> None:
    """Nothing of the starter's, and nothing of another container's, is in it; no descriptor is inherited."""
    first, second = (opt_ml_with_model(tmp_path / name) for name in ("1", "2"))
    one = await launch(starter, first, [], environment={"ONLY_ONE": "1"})
    two = await launch(starter, second, [], environment={"SAGEMAKER_MODEL_SERVER_WORKERS": "1"})
    await invoke(two)
    assert one.address != two.address
    descriptors = [os.readlink(it) for it in Path(f"/proc/{two.process_id}/fd").iterdir() if it.is_symlink()]
    assert not any("starter" in text for text in descriptors)
    assert sum(text.startswith("pipe:") for text in descriptors) == 2
    for container in (one, two):
        await container.stop(30)


@pytest.mark.parametrize("forked", [True, False], ids=["forked", "executed"])
async def test_a_request_makes_it_load_nothing(starter: ContainerStarter, tmp_path: Path, forked: bool) -> None:
    """Variables that lead an interpreter to code in the job's folder are left out, and that is said."""
    code = tmp_path / "opt" / "ml" / "input" / "data" / "train"
    opt_ml_with_model(tmp_path)
    code.mkdir(parents=True)
    for folder in (code, tmp_path):
        (folder / "sitecustomize.py").write_text("print('loaded', flush=True)")
        (folder / "numpy.py").write_text("print('loaded', flush=True)")
    lines: list[str] = []
    variables = {"PYTHONPATH": "opt/ml/input/data/train", "LD_PRELOAD": "x.so", "KEPT": "1"}
    if not forked:
        variables["OMP_NUM_THREADS"] = "1"
    container = await launch(starter, tmp_path / "opt" / "ml", lines, environment=variables)
    assert b"7" in await invoke(container)
    told = Path(f"/proc/{container.process_id}/environ").read_bytes()
    assert (b"PYTHONPATH=opt" in told, b"LD_PRELOAD" in told) == (False, False)
    await container.stop(30)
    assert "loaded" not in lines
    assert lines[0].endswith("left out: LD_PRELOAD, PYTHONPATH")


async def test_it_ends_with_whoever_wanted_it(starter: ContainerStarter, tmp_path: Path) -> None:
    """An agent that is killed leaves no server, and no worker of it."""
    opt_ml_with_model(tmp_path)
    agent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _AGENT, str(starter.socket_path), str(tmp_path)), stdout=subprocess.PIPE
    )
    assert agent.stdout is not None
    server = int(await agent.stdout.readline())
    assert runs(server)
    agent.send_signal(signal.SIGKILL)
    await agent.wait()
    await until(lambda: not runs(server) and not _group_of(server))


async def test_it_ends_with_the_starter_and_another_is_executed(starter: ContainerStarter, tmp_path: Path) -> None:
    """A killed starter takes its servers with it, which is told as their end; the next one starts by itself."""
    container = await launch(starter, opt_ml_with_model(tmp_path / "1"), [])
    await invoke(container)
    assert starter._process is not None
    starter._process.kill()
    assert (await container.wait()).code == 137
    await until(lambda: not runs(container.process_id))
    following = await launch(starter, opt_ml_with_model(tmp_path / "2"), [])
    assert parent_of(following.process_id) == os.getpid()
    assert b"7" in await invoke(following)
    await following.stop(30)


async def test_the_starter_waits_for_its_last_child(starter: ContainerStarter, tmp_path: Path) -> None:
    """When its server ends, a model server goes on until it is told to stop."""
    container = await launch(starter, opt_ml_with_model(tmp_path), [])
    await invoke(container)
    starter.close()
    assert b"7" in await invoke(container)
    assert (await container.stop(30)).code == 0
    assert starter._process is not None
    assert await starter._process.wait() == 0


async def test_nonsense_harms_nobody(starter: ContainerStarter, tmp_path: Path) -> None:
    """A message that is none is refused, and the next wish is served."""
    for message in (b"", b"\0\0\0\2[]", b"\xff\xff\xff\xffrest"):
        reader, writer = await asyncio.open_unix_connection(starter.socket_path)
        writer.write(message)
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
    container = await launch(starter, opt_ml_with_model(tmp_path), [])
    assert b"7" in await invoke(container)
    await container.stop(30)


def _group_of(number: int) -> list[str]:
    """Return the processes of a group that live."""
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = place.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[2] == str(number) and fields[0] != "Z":
            found.append(place.parent.name)
    return found


_AGENT = """
import asyncio, os, sys
from pathlib import Path
sys.path[:0] = [os.getcwd()]
from tests.unit.runtimes.test_started import IMAGE, STARTER_VARIABLE, invoke
from millrace.ports.runtime import ContainerSpec
from millrace.runtimes.process import ProcessRuntime

async def main():
    runtime = ProcessRuntime({**os.environ, STARTER_VARIABLE: sys.argv[1]})
    container = await runtime.launch(ContainerSpec(
        name="c", image=IMAGE, command=(*IMAGE.command, "serve"), environment={"SAGEMAKER_MODEL_SERVER_WORKERS": "2"},
        opt_ml=Path(sys.argv[2], "opt", "ml"), serves=True, on_line=lambda at, line: None))
    await invoke(container)
    print(container.process_id, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
