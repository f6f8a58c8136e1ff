"""Commands of an image's build, in real sandboxes."""

import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from millrace.errors import ImageUnavailable
from millrace.ports.runtime import ExitStatus
from millrace.runtimes.sandbox_build import BuildStep, run_build_step
from tests.sandbox_rig import needs_sandbox

pytestmark = needs_sandbox


class Build:
    """Steps one after the other; each layer is below the next."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.layers: list[Path] = []
        self.lines: list[str] = []

    async def run(self, script: str, **members: Any) -> ExitStatus:
        """Run a step and keep its layer if it went well."""
        upper = self.folder / f"layer{len(self.layers)}"
        upper.mkdir()
        self.lines = []
        step = BuildStep(
            layers=tuple(self.layers),
            upper=upper,
            scratch=self.folder / "scratch",
            cache=self.folder / "cache",
            command=("/bin/sh", "-c", script),
            environment={},
            **members,
        )
        status = await run_build_step(step, lambda at, line: self.lines.append(line))
        self.layers.append(upper)
        return status


@pytest.fixture
def build(tmp_path: Path) -> Build:
    return Build(tmp_path)


async def test_what_a_step_changes_is_its_layer_and_no_more(build: Build) -> None:
    """Folders that only mounts needed leave no trace; neither do hosts and resolv.conf."""
    assert (await build.run("mkdir -p /srv/a; echo 1 > /srv/a/x; echo t > /tmp/t; cat /etc/resolv.conf > /dev/null")).ok
    found = sorted(str(path.relative_to(build.layers[0])) for path in build.layers[0].rglob("*"))
    assert found == ["srv", "srv/a", "srv/a/x", "tmp", "tmp/t"]
    assert sorted(it.name for it in build.folder.iterdir()) == ["cache", "layer0"]


async def test_steps_see_what_earlier_ones_did(build: Build) -> None:
    """Also what they removed; temporary files stay, as in a Dockerfile."""
    await build.run("mkdir /srv/a; touch /srv/a/x /srv/a/y; echo t > /tmp/t")
    await build.run("rm /srv/a/x")
    await build.run("rm -r /srv/a; mkdir /srv/a; touch /srv/a/z; cat /tmp/t")
    assert build.lines == ["t"]
    assert stat.S_ISCHR((build.layers[1] / "srv" / "a" / "x").lstat().st_mode)
    await build.run("ls /srv/a")
    assert build.lines == ["z"]


async def test_the_status_and_all_lines_come_back(build: Build) -> None:
    """stderr too; what it leaves running is killed."""
    status = await build.run("echo out; echo err >&2; setsid sleep 1000 & exit 7")
    assert (status.code, build.lines) == (7, ["out", "err"])


async def test_user_directory_and_variables_are_as_told(build: Build) -> None:
    """Nothing of the builder's own environment is there."""
    await build.run("echo shop:x:1234:99::/home/shop:/bin/sh >> /etc/passwd; mkdir -p /srv/w")
    await build.run(
        "id -u; id -g; pwd; env | cut -d= -f1 | sort | tr '\\n' ' '", user="shop", working_directory="/srv/w"
    )
    assert build.lines == ["1234", "99", "/srv/w", "HOME PATH PWD "]
    with pytest.raises(ImageUnavailable, match="no user 'nobody-knows'"):
        await build.run("true", user="nobody-knows")


async def test_folders_of_the_machine_can_be_lent_for_reading(build: Build, tmp_path: Path) -> None:
    """Such as those that pip's configuration names; they leave no trace."""
    lent = tmp_path / "lent"
    lent.mkdir()
    (lent / "wheel").write_text("w\n")
    await build.run(f"cat {lent}/wheel; touch {lent}/x 2>/dev/null || echo refused", read_only=[lent])
    assert build.lines == ["w", "refused"]
    assert list(build.layers[0].iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
async def test_root_may_give_files_to_other_users(build: Build) -> None:
    """As packages do when they are installed."""
    assert (await build.run("touch /srv/x; chown 1234:99 /srv/x")).ok
    status = (build.layers[0] / "srv" / "x").stat()
    assert (status.st_uid, status.st_gid) == (1234, 99)


@pytest.mark.skipif(os.geteuid() != 0, reason="for others that folder holds a mount")
async def test_tidying_follows_no_link_of_the_layer(build: Build, tmp_path: Path) -> None:
    """A command may leave links where mounts were; what they lead to is the machine's."""
    file = tmp_path / "victim" / "apt.conf.d" / "99-one-user"
    file.parent.mkdir(parents=True)
    file.touch()
    assert (await build.run(f"rm -rf /etc/apt; ln -s {tmp_path / 'victim'} /etc/apt")).ok
    assert file.exists()
    assert (build.layers[0] / "etc" / "apt").is_symlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="nobody else could anyway")
async def test_a_step_makes_no_devices(build: Build) -> None:
    """In a layer on disk they would be open to whoever reaches it; pipes are fine."""
    assert (await build.run("mkfifo /srv/pipe; mknod /srv/disk b 8 0 2>/dev/null || echo refused")).ok
    assert build.lines == ["refused"]


async def test_settings_of_the_machine_can_only_be_read(build: Build) -> None:
    """Also by the machine's own root, without a user namespace."""
    script = "import os; print(os.access('/proc/sys/kernel/core_pattern', os.W_OK), os.listdir('/proc/self/fd'))"
    assert (await build.run(f'/usr/bin/python3 -c "{script}"')).ok
    assert build.lines == ["False ['0', '1', '2', '3']"]


async def test_users_of_an_image_reach_the_interpreter(build: Build) -> None:
    """Wherever it lies; what else is below /root stays closed."""
    await build.run("true")
    interpreter = Path(sys.base_prefix).resolve() / "bin" / "python3"
    assert (await build.run(f"{interpreter} -c 'print(1)'; ls /root 2>/dev/null || echo closed", user="4321")).ok
    assert build.lines[0] == "1"
    if os.geteuid() == 0:
        assert build.lines[1:] == ["closed"]


async def test_a_working_directory_that_a_step_removed_is_named(build: Build) -> None:
    """In words of the image, not of the program that isolates it."""
    status = await build.run("true", working_directory="/srv/gone")
    assert status.code == 127
    assert build.lines == ["the image has no working directory '/srv/gone': No such file or directory"]
