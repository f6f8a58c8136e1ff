"""The process runtime, with real processes."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from millrace.errors import ImageUnavailable, RuntimeUnavailable
from millrace.ports.runtime import Container, ContainerSpec, Image
from millrace.runtimes.lines import MAX_LINE_BYTES
from millrace.runtimes.process import ProcessRuntime


@pytest.fixture
def lines() -> list[str]:
    return []


async def launch(
    tmp_path: Path,
    lines: list[str],
    script: str,
    *,
    serves: bool = False,
    environ: Mapping[str, str] = os.environ,
    drain_seconds: float = 30.0,
) -> Container:
    """Start a Python script as a container."""
    opt_ml = tmp_path / "opt" / "ml"
    opt_ml.mkdir(parents=True, exist_ok=True)
    image = Image(uri="u", name="n", command=(sys.executable, "-c", script), environment={"FROM_IMAGE": "1", "A": "1"})
    spec = ContainerSpec(
        name="c",
        image=image,
        command=image.command,
        environment={"A": "2"},
        opt_ml=opt_ml,
        serves=serves,
        on_line=lambda at, line: lines.append(line),
    )
    return await ProcessRuntime(environ, drain_seconds=drain_seconds).launch(spec)


async def test_lines_and_status_are_delivered(tmp_path: Path, lines: list[str]) -> None:
    """stdout and stderr are one stream; the last line needs no line end; all is there when wait returns."""
    script = "import sys; print('one'); sys.stdout.flush(); sys.stderr.write('two\\nthree'); sys.exit(3)"
    container = await launch(tmp_path, lines, script)
    assert (await container.wait()).code == 3
    assert lines == ["one", "two", "three"]


async def test_the_environment_is_the_container_s_own(tmp_path: Path, lines: list[str]) -> None:
    """The image's variables hold, the container's win, the platform's own secrets stay out."""
    script = "import os; [print(os.environ.get(n)) for n in ('FROM_IMAGE', 'A', 'SECRET', 'SAGEMAKER_BASE_DIR')]"
    container = await launch(tmp_path, lines, script, environ={**os.environ, "SECRET": "x"})
    await container.wait()
    assert lines == ["1", "2", "None", str(tmp_path)]


async def test_a_serving_container_gets_a_port_of_its_own(tmp_path: Path, lines: list[str]) -> None:
    """Two containers side by side don't collide."""
    script = "import os; print(os.environ['SAGEMAKER_BIND_TO_PORT'])"
    containers = [await launch(tmp_path / str(number), lines, script, serves=True) for number in range(2)]
    for container in containers:
        await container.wait()
    assert sorted(lines) == sorted(str(it.address.port) for it in containers if it.address)
    assert len(set(lines)) == 2


async def test_stop_asks_before_it_kills(tmp_path: Path, lines: list[str]) -> None:
    """A program that handles SIGTERM ends by itself."""
    script = (
        "import signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *a: (print('bye', flush=True), sys.exit(0)))\n"
        "print('ready', flush=True)\n"
        "while True: signal.pause()"
    )
    container = await launch(tmp_path, lines, script)
    await _line(lines, "ready")
    assert (await container.stop(30.0)).code == 0
    assert lines == ["ready", "bye"]


async def test_stop_kills_what_does_not_listen(tmp_path: Path, lines: list[str]) -> None:
    """After the grace comes SIGKILL, for children too."""
    script = (
        "import os, signal, subprocess, sys\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "deaf = 'import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()'\n"
        "child = subprocess.Popen([sys.executable, '-c', deaf])\n"
        "print(child.pid, flush=True)\n"
        "while True: signal.pause()"
    )
    container = await launch(tmp_path, lines, script)
    child = int(await _line(lines, ""))
    assert (await container.stop(0.1)).code == 137
    await _gone(child)


async def test_a_stop_that_nobody_waits_for_kills_at_once(tmp_path: Path, lines: list[str]) -> None:
    """Who cancels it does not want to wait for the grace."""
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); signal.pause()"
    container = await launch(tmp_path, lines, deaf)
    await _line(lines, "ready")
    stopping = asyncio.create_task(container.stop(3600))
    await asyncio.sleep(0)
    stopping.cancel()
    assert (await container.wait()).code == 137
    assert stopping.cancelled()


async def test_children_left_behind_end_with_the_container(tmp_path: Path, lines: list[str]) -> None:
    """A program that ends without its children does not keep ports or files busy."""
    script = (
        "import subprocess, sys\n"
        "quiet = {'stdout': subprocess.DEVNULL, 'stderr': subprocess.DEVNULL}\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'], **quiet)\n"
        "print(child.pid)"
    )
    container = await launch(tmp_path, lines, script)
    assert (await container.wait()).ok
    await _gone(int(lines[0]))


AGENT = """
import asyncio, os, sys
from pathlib import Path
from millrace.ports.runtime import ContainerSpec, Image
from millrace.runtimes.process import ProcessRuntime

async def main():
    folder = Path(sys.argv[1])
    (folder / "opt" / "ml").mkdir(parents=True)
    image = Image(uri="u", name="n", command=("/bin/sh", "-c", "sleep 1000 & echo $!; wait"))
    spec = ContainerSpec(
        name="c", image=image, command=image.command, environment={}, opt_ml=folder / "opt" / "ml",
        on_line=lambda at, line: print(line, flush=True),
    )
    await (await ProcessRuntime(os.environ).launch(spec)).wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("depth", ["", "algo-1", "0/algo-1"])
async def test_the_next_launcher_ends_what_a_killed_one_left(tmp_path: Path, depth: str) -> None:
    """Programs that the container had started too: the kernel ends only its first process."""
    agent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", AGENT, str(tmp_path / depth)), stdout=asyncio.subprocess.PIPE
    )
    assert agent.stdout is not None
    grandchild = int(await agent.stdout.readline())
    agent.kill()
    await agent.wait()
    assert Path(f"/proc/{grandchild}").exists()
    await ProcessRuntime(os.environ).end_left_over(tmp_path)
    await _gone(grandchild)
    await ProcessRuntime(os.environ).end_left_over(tmp_path)


async def test_a_container_that_hangs_on_is_ended_too(tmp_path: Path, lines: list[str]) -> None:
    """Its launcher, if it ever wakes, sees it killed, and leaves alone what was started in its place."""
    container = await launch(tmp_path, lines, "import signal; print('ready', flush=True); signal.pause()")
    await _line(lines, "ready")
    await ProcessRuntime(os.environ).end_left_over(tmp_path)
    following = await launch(tmp_path, [], "import signal; signal.pause()")
    assert (await container.wait()).code == 137
    assert os.getpgid(following.process_id) == following.process_id
    await ProcessRuntime(os.environ).end_left_over(tmp_path)
    assert (await following.wait()).code == 137


async def test_a_container_that_has_ended_is_not_ended_again(tmp_path: Path, lines: list[str]) -> None:
    """Its process id may be somebody else's by then; there is no note of it any more."""
    before = set(tmp_path.iterdir())
    container = await launch(tmp_path, lines, "print('done')")
    assert (await container.wait()).ok
    assert {path.name for path in set(tmp_path.iterdir()) - before} == {"opt"}


async def test_a_program_that_is_missing_is_told(tmp_path: Path) -> None:
    """The failure names image and program."""
    image = Image(uri="my/image:1", name="n", command=("/no/such/program",))
    (tmp_path / "opt" / "ml").mkdir(parents=True)
    spec = ContainerSpec(
        name="c",
        image=image,
        command=image.command,
        environment={},
        opt_ml=tmp_path / "opt" / "ml",
        on_line=lambda at, line: None,
    )
    with pytest.raises(ImageUnavailable, match=r"my/image:1.*'/no/such/program'"):
        await ProcessRuntime(os.environ).launch(spec)


async def test_an_image_that_needs_isolation_is_refused(tmp_path: Path) -> None:
    """This runtime does not pretend."""
    image = Image(uri="oci:1", name="n", command=("true",), honours_base_dir=False)
    spec = ContainerSpec(
        name="c", image=image, command=("true",), environment={}, opt_ml=tmp_path, on_line=lambda at, line: None
    )
    with pytest.raises(RuntimeUnavailable, match="oci:1"):
        await ProcessRuntime(os.environ).launch(spec)


async def test_a_line_without_end_is_cut(tmp_path: Path, lines: list[str]) -> None:
    """Memory holds no more of a line than a log event may have."""
    script = f"import sys; sys.stdout.write('x' * {MAX_LINE_BYTES * 2 + 5})"
    container = await launch(tmp_path, lines, script)
    await container.wait()
    assert [len(line) for line in lines] == [MAX_LINE_BYTES, MAX_LINE_BYTES, 5]


async def _line(lines: list[str], text: str) -> str:
    """Return the first line that has come, once it has."""
    async with asyncio.timeout(30):
        while not lines:
            await asyncio.sleep(0)
    assert text in lines[0]
    return lines[0]


async def _gone(pid: int) -> None:
    async with asyncio.timeout(30):
        while Path(f"/proc/{pid}").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text():
            await asyncio.sleep(0)


async def test_a_daemon_that_left_the_group_does_not_hold_the_end_back(tmp_path: Path, lines: list[str]) -> None:
    """The container ends with its program, even if something still has its output open."""
    script = (
        "import subprocess, sys\n"
        "daemon = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'], start_new_session=True)\n"
        "print(daemon.pid, flush=True)"
    )
    container = await launch(tmp_path, lines, script, drain_seconds=0.05)
    assert (await container.wait()).ok
    os.kill(int(lines[0]), signal.SIGKILL)
