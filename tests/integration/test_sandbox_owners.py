"""Files of an image's users, under the machine's root: who owns them in a container, and who what it writes."""

import os
from pathlib import Path

import pyarrow  # noqa: F401  # it watches forks, and ends a child that has lost its descriptors
import pytest

from millrace.ports.runtime import Image, RootFilesystem
from millrace.runtimes.sandbox_build import BuildStep, run_build_step
from millrace.runtimes.sandbox_network import Egress
from tests.sandbox_rig import Rig, needs_sandbox

pytestmark = [
    needs_sandbox,
    pytest.mark.skipif(os.geteuid() != 0, reason="only the machine's root maps other users"),
]

DOCKERFILE = """
useradd -m -u 1000 app
mkdir -m 700 /app; echo mine > /app/model; chown -R app:app /app
echo theirs > /srv/closed; chmod 600 /srv/closed
"""


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, egress=Egress.NONE)


async def build(rig: Rig, user: str | None) -> Image:
    """Return an image as its usual Dockerfile makes it."""
    layer = rig.folder / "built"
    layer.mkdir()
    lines: list[str] = []
    step = BuildStep(
        layers=(),
        upper=layer,
        scratch=rig.folder / "scratch",
        cache=rig.folder / "cache",
        command=("/bin/sh", "-ec", DOCKERFILE),
        environment={},
    )
    assert (await run_build_step(step, lambda _, line: lines.append(line))).ok, lines
    return rig.image(user=user, root=RootFilesystem(layers=[layer]))


async def test_a_user_of_the_image_has_its_own_files_and_no_others(rig: Rig) -> None:
    """Those that the build gave it, and its home; root's stay closed, and it has no capabilities."""
    script = "cat /app/model; touch /app/new; mkdir ~/.cache; stat -c %U ~/.cache /app; cat /srv/closed 2>/dev/null"
    image = await build(rig, "app")
    lines = await rig.run(
        f"{script} || echo closed; id -G; grep -c '^Cap[IPEA].*0000000000000000' /proc/self/status", image=image
    )
    assert lines == ["mine", "app", "app", "closed", "1000", "4"]  # inherited, permitted, effective, ambient


async def test_a_user_of_the_image_has_opt_ml_and_what_it_writes_is_the_service_user_s(rig: Rig) -> None:
    """Whatever is closed to others there, as it comes from root; and nothing has to be given back."""
    secret = rig.opt_ml("c") / "input" / "config" / "hyperparameters.json"
    secret.write_text("{}")
    secret.chmod(0o600)
    kept = rig.folder / "kept"
    kept.mkdir(mode=0o700)
    script = "cat /opt/ml/input/config/hyperparameters.json; mkdir -m 700 /opt/ml/model/a; echo m > /opt/ml/model/a/m"
    image = await build(rig, "app")
    lines = await rig.run(
        f"{script}; echo k > /kept/k; stat -c %U /opt/ml/model/a", image=image, mounts={"/kept": kept}
    )
    assert lines == ["{}app"]
    written = [rig.opt_ml("c") / "model" / "a" / "m", rig.opt_ml("c") / "model" / "a", kept / "k"]
    assert [(it.stat().st_uid, it.stat().st_gid) for it in written] == [(0, 0)] * 3


async def test_a_program_that_is_not_there_is_named_for_every_user(rig: Rig) -> None:
    """Also where another program changes to that user first."""
    container = await rig.launch("train", image=await build(rig, "app"))
    assert (await container.wait()).code == 127
    assert rig.lines == ["the image has no program 'train' that could be started: No such file or directory"]


async def test_root_of_an_image_may_give_files_away_and_change_users(rig: Rig) -> None:
    """As start scripts do before they give up their rights."""
    script = (
        "mkdir /data; chown app:app /data; setpriv --reuid=app --regid=app --clear-groups sh -c 'touch /data/x; id -u'"
    )
    assert await rig.run(script, image=await build(rig, None)) == ["1000"]
