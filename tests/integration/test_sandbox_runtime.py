"""The sandbox runtime, with real containers."""

import asyncio
import contextlib
import os
import signal
import sys
import textwrap
from pathlib import Path

import pyarrow
import pytest

from millrace.errors import ImageUnavailable, RuntimeUnavailable
from millrace.ports.runtime import Address, RootFilesystem
from millrace.process_groups import end_left_over
from millrace.runtimes.sandbox_limits import SandboxLimits
from millrace.runtimes.sandbox_network import Egress
from tests.sandbox_rig import PYTHON, Rig, needs_sandbox

pytestmark = needs_sandbox


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, egress=Egress.NONE)


# -- launch and the program's surroundings


@pytest.mark.spec("C §12 C-01")
async def test_a_program_gets_its_arguments_and_nothing_else(rig: Rig) -> None:
    """No path of the host leaks into the command line: images look for words such as train in it."""
    rig.file("/opt/ml/program.py", "import sys; print(sys.argv, open('/proc/self/cmdline').read().count('/opt/ml'))")
    container = await rig.launch(PYTHON, "/opt/ml/program.py", "train")
    assert (await container.wait()).ok
    assert rig.lines == ["['/opt/ml/program.py', 'train'] 1"]


async def test_lines_and_status_are_delivered(rig: Rig) -> None:
    """stdout and stderr are one stream; all of it is there when wait returns."""
    container = await rig.launch("/bin/sh", "-c", "echo one; echo two >&2; exit 3")
    assert (await container.wait()).code == 3
    assert rig.lines == ["one", "two"]


async def test_a_program_that_is_not_there_is_named(rig: Rig) -> None:
    """Docker's status, and a line that says what is missing."""
    container = await rig.launch("train")
    assert (await container.wait()).code == 127
    assert rig.lines == ["the image has no program 'train' that could be started: No such file or directory"]


async def test_a_program_is_found_on_the_image_s_path(rig: Rig) -> None:
    """An image without an entry point has its `train` there."""
    rig.file("/srv/bin/train", "#!/bin/sh\necho training\n", mode=0o755)
    image = rig.image(environment={"PATH": "/srv/bin:/usr/bin:/bin"})
    container = await rig.launch("train", image=image)
    assert (await container.wait()).ok
    assert rig.lines == ["training"]


async def test_the_environment_is_the_image_s_then_the_job_s_and_no_more(rig: Rig) -> None:
    """Nothing of the platform's own environment is handed on."""
    image = rig.image(environment={"A": "image", "B": "image"}, working_directory="/opt")
    lines = await rig.run("env | sort; pwd", image=image, environment={"B": "job"}, host_name="algo-1")
    assert lines == [
        *("A=image", "B=job", "HOME=/root", "HOSTNAME=algo-1"),
        *("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "PWD=/opt", "/opt"),
    ]


async def test_a_variable_acts_on_the_program_only(rig: Rig, tmp_path: Path) -> None:
    """A library that a job's variables preload is never looked for on the host."""
    trap = tmp_path / "trap.so"
    trap.write_text("no library")
    lines = await rig.run("echo in", environment={"LD_PRELOAD": str(trap)})
    assert lines[-1] == "in"
    assert all("bwrap" not in line for line in lines)


async def test_keys_are_not_on_the_command_line_of_any_process(rig: Rig) -> None:
    """Command lines can be read by everybody on the machine."""
    container = await rig.launch("/bin/sh", "-c", "echo up; read x </dev/zero", environment={"KEY": "s3cr3t-of-a-test"})
    await rig.said("up")
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert b"s3cr3t-of-a-test" not in process.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
    await container.stop(0)


async def test_processes_are_alone_and_have_ids_of_their_own(rig: Rig) -> None:
    """Model servers refuse to start beside another; and programs of two containers differ in their ids.

    Arrow is loaded, as in a notebook: it ends what is forked without its descriptors.
    """
    assert pyarrow.default_memory_pool().bytes_allocated() >= 0
    script = "ls -d /proc/[0-9]* | wc -l; echo $$"
    (count, first), (_, second) = await rig.run(script), await rig.run(script)
    assert int(count) <= 4  # the first process, the shell, ls, wc
    assert first != second


async def test_it_is_root_of_nothing_outside(rig: Rig) -> None:
    """Root in the container has no right over the machine, and makes no namespace in which it would have more."""
    script = "id -u; mount -t tmpfs x /mnt 2>/dev/null || echo refused; unshare -U true 2>/dev/null || echo refused"
    *said, namespace = await rig.run(f"{script}; readlink /proc/self/ns/user")
    assert said == ["0", "refused", "refused"]
    assert namespace != str(Path("/proc/self/ns/user").readlink())


async def test_user_of_the_image_is_honoured(rig: Rig) -> None:
    """By name or number; it may write where it should, and has no capabilities."""
    rig.file("/etc/passwd", "root:x:0:0::/root:/bin/sh\nshop:x:1234:99::/home/shop:/bin/sh\n")
    script = "id -u; id -g; echo $HOME; touch /opt/ml/model/x && echo written; grep CapEff /proc/self/status"
    lines = await rig.run(script, image=rig.image(user="shop"))
    assert lines == ["1234", "99", "/home/shop", "written", "CapEff:\t0000000000000000"]
    assert (await rig.run("id -u", image=rig.image(user="77")))[0] == "77"
    with pytest.raises(ImageUnavailable, match="has no user 'nobody-knows'"):
        await rig.run("true", image=rig.image(user="nobody-knows"))


# -- files


@pytest.mark.spec("C §12 C-62")
async def test_an_image_s_own_files_in_opt_ml_stay_visible(rig: Rig) -> None:
    """Only the job's folders are mounted, each by itself; an empty code folder hides nothing."""
    rig.file("/opt/ml/mine.R", "own")
    rig.file("/opt/ml/code/train.py", "own code")
    assert await rig.run("cat /opt/ml/mine.R; echo; cat /opt/ml/code/train.py") == ["own", "own code"]


@pytest.mark.spec("C §12 C-63")
async def test_what_a_job_writes_is_the_service_user_s(rig: Rig) -> None:
    """Root in the container is that user outside."""
    await rig.run("umask 0; echo m > /opt/ml/model/m; mkdir -m 0 /opt/ml/output/data/closed")
    model = rig.folder / "c" / "opt" / "ml" / "model" / "m"
    assert (model.read_text(), model.stat().st_uid) == ("m\n", os.geteuid())


async def test_the_whole_root_can_be_written_and_is_gone_afterwards(rig: Rig) -> None:
    """No layer changes, and nothing of it is left on disk."""
    rig.file("/etc/shop.conf", "old")
    await rig.run("echo new > /etc/shop.conf; rm -rf /usr/share/doc; touch /usr/bin/mine /tmp/t /var/lib/v /run/r")
    assert (rig.layer / "etc" / "shop.conf").read_text() == "old"
    assert sorted(it.name for it in (rig.folder / "c").iterdir()) == ["opt"]


async def test_layers_hide_what_lies_below(rig: Rig) -> None:
    """A whiteout removes a file of the machine, an opaque folder all below it."""
    rig.file("/usr/share/shop/a", "low")
    upper = rig.folder / "upper"
    (upper / "usr" / "share" / "shop").mkdir(parents=True)
    (upper / "usr" / "share" / "shop" / "b").write_text("high")
    os.setxattr(upper / "usr" / "share" / "shop", "user.overlay.opaque", b"y")
    os.mknod(upper / "usr" / "share" / "common-licenses", 0o000 | 0o020000, os.makedev(0, 0))
    image = rig.image(root=RootFilesystem(layers=[rig.layer, upper]))
    assert await rig.run("ls /usr/share/shop; ls -d /usr/share/common-licenses || true", image=image) == [
        "b",
        "ls: cannot access '/usr/share/common-licenses': No such file or directory",
    ]


async def test_nothing_of_the_host_s_users_can_be_seen(rig: Rig, tmp_path: Path) -> None:
    """Neither homes nor temporary files, neither passwords nor the data directory."""
    script = f"ls /home /tmp | grep -v : ; cat /etc/shadow | cut -d: -f2 | sort -u; ls {tmp_path} 2>&1"
    lines = [line for line in await rig.run(f"{script} || true") if line]
    assert lines == ["*", f"ls: cannot access '{tmp_path}': No such file or directory"]


@pytest.mark.spec("C §12 C-19")
async def test_a_read_only_channel_can_only_be_read(rig: Rig) -> None:
    """As FastFile channels are."""
    channel = rig.opt_ml("c") / "input" / "data" / "train"
    channel.mkdir(parents=True)
    (channel / "x.csv").write_text("1\n")
    script = "cat /opt/ml/input/data/train/x.csv; touch /opt/ml/input/data/train/y 2>&1 || touch /opt/ml/input/data/z"
    assert await rig.run(script, read_only=["input/data/train"]) == [
        "1",
        "touch: cannot touch '/opt/ml/input/data/train/y': Read-only file system",
    ]
    assert (channel.parent / "z").exists()


async def test_shared_memory_is_not_small(rig: Rig) -> None:
    """Data loaders share batches there; Docker's 64 MB break them."""
    size = (await rig.run("df --output=size -k /dev/shm | tail -1"))[0]
    assert int(size) > 64 * 1024


async def test_folders_elsewhere_can_be_mounted(rig: Rig) -> None:
    """Such as checkpoints outside of /opt/ml."""
    kept = rig.folder / "kept"
    kept.mkdir()
    await rig.run("echo 1 > /checkpoints/here/x", mounts={"/checkpoints/here": kept})
    assert (kept / "x").read_text() == "1\n"


# -- ending


@pytest.mark.spec("C §12 C-25")
async def test_sigterm_reaches_the_program(rig: Rig) -> None:
    """Its handler has the grace to save the model."""
    rig.file(
        "/srv/p.py",
        "import signal, sys\n"
        "def save(*_):\n    open('/opt/ml/model/saved', 'w').close(); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, save)\nprint('ready', flush=True)\nsignal.pause()",
    )
    container = await rig.launch(PYTHON, "/srv/p.py")
    await rig.said("ready")
    assert (await container.stop(60)).code == 0
    assert (rig.folder / "c" / "opt" / "ml" / "model" / "saved").exists()


async def test_sigterm_ends_a_program_without_a_handler(rig: Rig) -> None:
    """It is not process 1 of its namespace, which would ignore it; the status is 128 + 15."""
    container = await rig.launch("/bin/sh", "-c", "echo ready; read x </dev/zero")
    await rig.said("ready")
    assert (await container.stop(60)).code == 143


@pytest.mark.spec("C §12 C-26")
async def test_who_ignores_sigterm_is_killed_with_all_children(rig: Rig) -> None:
    """Also those that left its session."""
    container = await rig.launch(
        "/bin/sh", "-c", "trap '' TERM; setsid sleep 1000 & echo ready; wait; read x </dev/zero"
    )
    await rig.said("ready")
    inside = members(container.process_id)
    assert len(inside) >= 3
    assert (await container.stop(0.05)).code == 137
    assert not any(is_alive(process) for process in inside)


async def test_what_a_program_leaves_running_ends_with_it(rig: Rig) -> None:
    """The namespace ends with its program."""
    container = await rig.launch("/bin/sh", "-c", "setsid sleep 1000 & echo ready")
    inside = members(container.process_id)
    assert (await container.wait()).ok
    assert not any(is_alive(process) for process in inside)


async def test_a_stop_right_after_the_start_ends_it(rig: Rig) -> None:
    """Before the program, or as its first moment."""
    container = await rig.launch("/bin/sh", "-c", "read x </dev/zero")
    assert (await container.stop(60)).code in (137, 143)


@pytest.mark.spec("C §12 C-66")
async def test_the_death_of_the_launcher_ends_everything(rig: Rig, tmp_path: Path) -> None:
    """The kernel sees to it, helper processes included; nothing is left to find."""
    script = f"""
        import asyncio
        from pathlib import Path
        from tests.sandbox_rig import Rig
        async def main():
            rig = Rig(Path({str(tmp_path)!r}))
            container = await rig.launch("/bin/sh", "-c", "setsid sleep 1000 & echo up; wait", serves=True)
            await rig.said("up")
            print(container.process_id, flush=True)
            await container.wait()
        asyncio.run(main())
    """
    launcher = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", textwrap.dedent(script)), stdout=asyncio.subprocess.PIPE
    )
    assert launcher.stdout is not None
    inside = members(int(await launcher.stdout.readline()))
    assert len(inside) >= 3
    family = [*inside, *descendants(launcher.pid)]
    handles = [os.pidfd_open(process) for process in family]
    launcher.send_signal(signal.SIGKILL)
    await launcher.communicate()
    for handle in handles:
        await ended(handle)
        os.close(handle)


async def test_what_a_hung_launcher_runs_is_ended_by_its_notes(rig: Rig) -> None:
    """Whoever uses the folder next does not share it with an earlier attempt's programs."""
    container = await rig.launch("/bin/sh", "-c", "trap '' TERM; echo up; read x </dev/zero")
    await rig.said("up")
    inside = members(container.process_id)
    end_left_over(rig.folder / "c")  # the loop waits: this launcher is as one that hangs
    assert not any(is_alive(process) for process in inside)
    assert (await container.wait()).code == 137


# -- limits


async def test_a_container_over_its_memory_limit_is_killed_with_the_reason(tmp_path: Path) -> None:
    """All of its processes count together."""
    rig = Rig(tmp_path, egress=Egress.NONE, limits=SandboxLimits(memory_bytes=96 << 20))
    hungry = "import os\nif not os.fork(): pass\nx = bytearray(80 << 20)\nx[::4096] = b'1' * len(x[::4096])\ninput()"
    rig.file("/srv/p.py", hungry.replace("input()", "import signal; signal.pause()"))
    container = await rig.launch(PYTHON, "/srv/p.py")
    status = await container.wait()
    assert status.code == 137
    assert status.limit is not None
    assert status.limit.endswith(f"bytes of memory used, the limit is {96 << 20}")


async def test_a_container_can_t_fork_without_end(tmp_path: Path) -> None:
    """It is refused further processes, or killed with the reason where the kernel lets root have them."""
    rig = Rig(tmp_path, egress=Egress.NONE, limits=SandboxLimits(processes=20))
    container = await rig.launch("/bin/sh", "-c", "for i in $(seq 60); do sleep 1000 & done; wait")
    status = await container.wait()
    assert not status.ok
    assert status.limit is None or status.limit.endswith("processes and threads, the limit is 20")


# -- refusals


@pytest.mark.parametrize("place", ["opt", "opt/ml", "etc", "sys"])
async def test_a_link_of_the_image_leads_no_mount_out(rig: Rig, tmp_path: Path, place: str) -> None:
    """Where the platform mounts, an image may have no link: bubblewrap would make folders on the machine through it."""
    outside = tmp_path / "outside"
    (rig.layer / place).parent.mkdir(parents=True, exist_ok=True)
    (rig.layer / place).symlink_to(f"/oldroot{outside}")
    with pytest.raises(ImageUnavailable, match=f"/{place} is a link"):
        await rig.launch("/bin/true")
    assert not outside.exists()


async def test_a_layer_that_is_gone_is_told(rig: Rig) -> None:
    """Before anything runs, with the folder's mount in the text."""
    image = rig.image(root=RootFilesystem(layers=[rig.folder / "gone"]))
    with pytest.raises(RuntimeUnavailable, match="the kernel refuses a sandbox: mount overlay on root/"):
        await rig.run("true", image=image)


async def test_a_host_image_is_refused(rig: Rig) -> None:
    """It has no root to start from."""
    with pytest.raises(ImageUnavailable, match="has no root file system"):
        await rig.run("true", image=rig.image(root=None))


async def test_a_working_directory_that_is_not_there_is_told(rig: Rig) -> None:
    """As a program that is not there."""
    container = await rig.launch("true", image=rig.image(working_directory="/not/there"))
    assert (await container.wait()).code == 127
    assert rig.lines == ["the image has no working directory '/not/there': No such file or directory"]


async def test_the_address_is_the_container_s_door(rig: Rig) -> None:
    """Only for containers that serve."""
    container = await rig.launch("true", serves=True)
    assert container.address == Address(handed=str(rig.folder / "c" / "serve.sock"))
    assert Address.parse(str(container.address)) == container.address
    await container.wait()
    silent = await rig.launch("true", name="d")
    assert silent.address is None
    await silent.wait()


def members(init: int) -> list[int]:
    """Return the processes of the namespace whose first process is given, that one included."""
    namespace = os.readlink(f"/proc/{init}/ns/pid")
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(entry / "ns" / "pid") == namespace:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def descendants(process: int) -> list[int]:
    found = []
    for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
        found += [int(child), *descendants(int(child))]
    return found


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


async def ended(handle: int) -> None:
    """Return once the process behind a handle has ended."""
    event = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(handle, event.set)
    try:
        async with asyncio.timeout(30):
            await event.wait()
    finally:
        loop.remove_reader(handle)


async def test_a_launch_that_is_given_up_leaves_nothing(rig: Rig) -> None:
    """Cancelled at any step on the way, it leaves no process, no descriptor and no network."""
    await (await rig.launch("/bin/true", name="first")).wait()  # what is opened once stays open
    open_before, running_before = len(list(Path("/proc/self/fd").iterdir())), _children()
    for steps in (*range(1, 12), 20, 40, 80):
        launching = asyncio.create_task(rig.launch("/bin/sleep", "600", name=f"given-up-{steps}"))
        for _ in range(steps):
            await asyncio.wait({launching}, timeout=0.002)
        launching.cancel()
        outcome = (await asyncio.gather(launching, return_exceptions=True))[0]
        if not isinstance(outcome, BaseException):
            await outcome.stop(0)
    while left := _children() - running_before:
        for number in left:
            with contextlib.suppress(ProcessLookupError):
                handle = os.pidfd_open(int(number))
                try:
                    await ended(handle)
                finally:
                    os.close(handle)
    assert rig.runtime._networks == {}
    assert len(list(Path("/proc/self/fd").iterdir())) <= open_before


def _children() -> set[str]:
    """Return our children that have not ended: sandboxes and their networks, and servers of other tests."""
    found = set()
    for process in Path("/proc/self/task").glob("*/children"):
        for number in process.read_text().split():
            with contextlib.suppress(OSError):
                state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
                if state != "Z":
                    found.add(number)
    return found
