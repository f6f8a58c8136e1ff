"""`millrace image` from end to end: real builds in real sandboxes, and a job that runs what was built."""

import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.integration.platform import Platform, wait_until
from tests.sandbox_rig import needs_sandbox

pytestmark = needs_sandbox

SECONDS = 120


class Images:
    """The command on one data directory, and a build context."""

    def __init__(self, data_dir: Path, context: Path) -> None:
        self.data_dir = data_dir
        self.context = context

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "millrace", "image", *words, "--data-dir", str(self.data_dir)]

    def run(self, *words: str, code: int = 0, typed: str = "", **variables: str) -> list[str]:
        """Run the command, and return the lines that it printed."""
        environment = {**os.environ, **variables}
        done = subprocess.run(
            self.command(*words), input=typed, capture_output=True, text=True, timeout=SECONDS, env=environment
        )
        assert done.returncode == code, (done.stdout, done.stderr)
        return [*done.stdout.splitlines(), *done.stderr.splitlines()]

    def file(self, name: str, text: str) -> None:
        place = self.context / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def build(self, dockerfile: str, tag: str, *words: str, code: int = 0, **variables: str) -> list[str]:
        self.file("Dockerfile", dockerfile)
        return self.run("build", *words, "--tag", tag, str(self.context), code=code, **variables)

    def show(self, name: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads("\n".join(self.run("show", name)))
        return document


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all tests: so the layer with Python is made once."""
    return tmp_path_factory.mktemp("images")


@pytest.fixture
def images(data_dir: Path, tmp_path: Path) -> Images:
    return Images(data_dir, tmp_path)


def _cached(lines: list[str]) -> list[bool]:
    """Whether each RUN and COPY came from the cache."""
    return [it.endswith("(cached)") for it in lines if it.startswith("[") and (" RUN " in it or " COPY " in it)]


def test_a_second_build_runs_nothing_and_a_changed_file_what_follows_it(images: Images) -> None:
    """Touching a file changes nothing; the same build is the same image."""
    dockerfile = "FROM debian\nRUN echo one > /one\nCOPY f /f\nRUN cat /one /f\n"
    images.file("f", "two\n")
    first = images.build(dockerfile, "shop/cache:1")
    assert _cached(first) == [False, False, False]
    assert [it.strip() for it in first if it.startswith("    ")] == ["one", "two"]
    digest = images.show("shop/cache:1")["digest"]
    os.utime(images.context / "f", (1, 1))
    assert _cached(images.build(dockerfile, "shop/cache:1")) == [True, True, True]
    images.file("f", "three\n")
    assert _cached(images.build(dockerfile, "shop/cache:2")) == [True, False, False]
    assert _cached(images.build(dockerfile, "shop/cache:2", "--no-cache")) == [False, False, False]
    assert images.show("shop/cache:1")["digest"] == digest != images.show("shop/cache:2")["digest"]


def test_a_failing_command_is_named_by_its_line(images: Images) -> None:
    """With what it printed; nothing is tagged, and earlier layers stay cached."""
    dockerfile = "FROM debian\n\nRUN true\nRUN echo out && \\\n  exit 3\n"
    lines = images.build(dockerfile, "shop/fails", code=1)
    assert "    out" in lines
    assert lines[-1] == "millrace image build: Dockerfile:4: RUN echo out &&   exit 3: the command ended with status 3"
    assert images.build(dockerfile, "shop/fails", "--quiet", code=1)[0] == "    out"
    assert images.run("show", "shop/fails", code=2)[-1].startswith("millrace image: there is no image shop/fails")


def test_a_dockerfile_can_come_from_standard_input(images: Images) -> None:
    """Beside the files of a context; messages call it Dockerfile."""
    images.file("f", "typed\n")
    words = ("build", "-f", "-", "--tag", "shop/typed", str(images.context))
    assert "    typed" in images.run(*words, typed="FROM debian\nCOPY f /f\nRUN cat /f\n")
    assert "Dockerfile:2: unknown instruction RUNN" in images.run(*words, typed="FROM debian\nRUNN", code=2)[-1]


def test_what_cannot_be_built_is_told_before_anything_runs(images: Images) -> None:
    """All of it, by line; tags that are none too."""
    lines = images.build("FROM debian\nRUN --mount=type=ssh true\nONBUILD RUN x", "shop/x", code=2)
    assert [line.partition(": ")[0] for line in lines[-2:]][-1] == "Dockerfile:3"
    assert any("Dockerfile:2: RUN --mount" in line for line in lines)
    for tag in ("Shop/X", f"x@sha256:{'0' * 64}", "x:"):
        images.build("FROM debian", tag, code=2)
    lines = images.build(
        "FROM debian\nRUN true\nCOPY --from=nothing a b\nFROM python:2\nFROM pytorch/pytorch:2", "x", code=2
    )
    assert "there is no image pytorch/pytorch" in lines[-1] and not any(it.startswith("[") for it in lines)
    stages = "FROM debian AS a\nCOPY --from=nothing a b\nFROM python:2 AS b\nFROM debian\n"
    stages += "COPY --from=a x y\nCOPY --from=b x y"
    told = images.build(stages, "shop/x", code=2)
    assert any("Dockerfile:2: COPY --from=nothing a b: --from=nothing is neither" in it for it in told)
    assert any("Dockerfile:3: FROM python:2 AS b: python:2 is asked for" in it for it in told)


def test_packages_are_installed_into_the_images_own_python(images: Images) -> None:
    """From a wheel of the context, without any network; an image can stand on another."""
    with zipfile.ZipFile(images.context / "shoplib-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("shoplib.py", "NAME = 'shop'\n")
        wheel.writestr("shoplib-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: shoplib\nVersion: 1.0\n")
        wheel.writestr("shoplib-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("shoplib-1.0.dist-info/RECORD", "")
    images.build(
        "FROM python:3\nCOPY *.whl /tmp/\nRUN pip install --no-index --no-deps /tmp/*.whl && rm /tmp/*.whl",
        "1.dkr.ecr.us-east-1.amazonaws.com/shop/packages:1",
    )
    lines = images.build(
        "FROM shop/packages:1\nRUN python -c 'import shoplib, sys; print(shoplib.NAME, sys.prefix)'", "shop/above"
    )
    assert "    shop /usr/local" in lines
    assert images.show("shop/above")["layers"][:-1] == images.show("shop/packages:1")["layers"]


STAGES = """ARG WORD=default
FROM debian AS base
ARG WORD
RUN useradd --uid 4321 --user-group shopper; echo $WORD > /word
FROM base AS unused
RUN exit 1
FROM base AS made
WORKDIR /made/here
RUN pwd; echo $WORD; echo made > result; chmod 700 result
FROM debian
COPY --from=made /made /word /from/
COPY --from=base /etc/passwd /etc/group /etc/
COPY --chown=shopper:shopper --chmod=640 f /own
USER shopper
RUN id -u; cat /from/word; stat -c '%u %g %a' /own /from/here/result
"""


def test_stages_arguments_and_users_mean_what_docker_means(images: Images) -> None:
    """Only needed stages are built; ARGs go from a stage to those on it; owners and modes are as told."""
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    images.file("f", "")
    lines = images.build(STAGES, "shop/stages", "--build-arg", "WORD", "--build-arg", "OTHER=x", WORD="given")
    assert [it.strip() for it in lines if it.startswith("    ")] == [
        *("/made/here", "given"),
        *("4321", "given", "4321 4321 640", "0 0 700"),
    ]
    assert "warning: --build-arg OTHER: no ARG of Dockerfile takes it" in lines
    assert images.show("shop/stages")["config"]["user"] == "shopper"
    images.build(STAGES, "shop/base", "--target", "BASE")
    assert images.show("shop/base")["config"]["user"] is None


def test_caches_of_commands_are_empty_folders_outside_of_the_image(images: Images) -> None:
    """Links in the image are followed inside of it; nothing of the folders is kept, whatever is beside them is."""
    dockerfile = "FROM debian\nRUN ln -s /oldroot/cache /link\nRUN --mount=type=cache,target=/c/d "
    dockerfile += "--mount=type=tmpfs,dst=/link/e touch /c/d/x /link/e/y /kept && ls /c/d /oldroot/cache/e\n"
    lines = images.build(f"{dockerfile}RUN ls -d /kept /c /oldroot || true", "shop/caches")
    told = [it.strip() for it in lines if it.startswith("    ")]
    assert {"x", "y", "/kept"} <= set(told) and "/c" not in told and "/oldroot" not in told


def test_files_are_copied_from_bases_as_from_images(images: Images) -> None:
    """--from takes what FROM takes: the machine's root, with a Python of its own or without."""
    dockerfile = "FROM debian\nCOPY --from=debian:12 /etc/passwd /p\nCOPY --from=python:3 /usr/local /python\n"
    lines = images.build(f"{dockerfile}RUN cat /p; ls /python/bin", "shop/copies")
    told = {it.strip() for it in lines}
    assert {"pip", "python3"} <= told and any(it.startswith("root:x:0:0:") for it in told)
    assert "--from=nothing is neither" in images.build("FROM debian\nCOPY --from=nothing a b", "shop/x", code=2)[-1]


def test_a_folder_that_was_removed_and_copied_again_is_new(images: Images) -> None:
    """Nothing of the old one shines through, neither when it is copied from nor when it is listed."""
    images.file("d/new", "")
    dockerfile = "FROM debian\nRUN mkdir /d && touch /d/old\nRUN rm -r /d\nCOPY d /d\nRUN ls /d\n"
    dockerfile += "FROM debian\nCOPY --from=0 /d /e\nRUN ls /e"
    lines = images.build(dockerfile, "shop/again")
    assert [it.strip() for it in lines if it.startswith("    ")] == ["new", "new"]


def test_an_image_has_as_many_layers_as_dockers(images: Images) -> None:
    """127 run; one more is refused."""
    images.file("f", "")
    copies = "".join(f"COPY f /n/{number}\n" for number in range(126))
    assert "    126" in images.build(f"FROM debian\n{copies}RUN ls /n | wc -l", "shop/layers")
    failed = images.build(f"FROM debian\n{copies}COPY f /a\nCOPY f /b", "shop/layers", code=1)
    assert failed[-1].endswith("an image has at most 127 layers: join instructions")


def test_a_killed_build_leaves_nothing_but_what_the_next_one_sweeps(images: Images) -> None:
    """Its command ends with it, and its finished layers are kept."""
    images.file("Dockerfile", "FROM debian\nRUN echo whole > /whole\nRUN echo begun; exec sleep 1234\n")
    with subprocess.Popen(
        images.command("build", "--tag", "shop/killed", str(images.context)), stdout=subprocess.PIPE, text=True
    ) as build:
        assert build.stdout is not None
        assert any(line == "    begun\n" for line in build.stdout)
        build.send_signal(signal.SIGKILL)
    drafts = images.data_dir / "images" / "drafts"
    assert len(list(drafts.iterdir())) == 2
    wait_until("the end of the command", lambda: not _runs("sleep\x001234"))
    lines = images.build("FROM debian\nRUN echo whole > /whole\nRUN cat /whole", "shop/killed")
    assert _cached(lines) == [True, False]
    assert list(drafts.iterdir()) == []


def _runs(words: str) -> bool:
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if words in file.read_text():
                return True
        except OSError:
            continue
    return False


TRAIN = """import json, os, sys
with open("/opt/ml/model/seen.json", "w") as file:
    json.dump({"words": sys.argv[1:], "folder": os.getcwd(), "level": os.environ["LEVEL"]}, file)
"""


def test_jobs_run_what_was_built(platform: Platform, tmp_path: Path) -> None:
    """ENTRYPOINT with `train` instead of CMD, ENV and WORKDIR; the image can be removed afterwards only."""
    images = Images(platform.settings.data_dir, tmp_path)
    images.file("program.py", TRAIN)
    dockerfile = (
        "FROM debian\nENV LEVEL=3\nWORKDIR /srv/shop\nCOPY program.py .\n"
        'ENTRYPOINT ["/usr/bin/python3", "program.py", "--quiet"]\nCMD ["never"]'
    )
    name = f"000000000000.dkr.ecr.us-east-1.amazonaws.com/shop/trainer:{tmp_path.name}".lower()
    images.build(dockerfile, name)
    platform.train("runs-what-was-built", name)
    described = platform.ended_training("runs-what-was-built")
    assert described["TrainingJobStatus"] == "Completed", described.get("FailureReason")
    archive = platform.untar(described["ModelArtifacts"]["S3ModelArtifacts"])
    assert json.loads(archive["seen.json"]) == {"words": ["--quiet", "train"], "folder": "/srv/shop", "level": "3"}
    assert images.run("rm", name)[0].startswith("untagged shop/trainer")
    with pytest.raises(platform.client("sagemaker").exceptions.ClientError, match="no image"):
        platform.train("runs-no-more", name)


def test_an_image_in_use_stays_whole_whatever_is_removed(own_platform: Platform, tmp_path: Path) -> None:
    """Its tag goes by force only; the layers are those of the endpoint until that is deleted."""
    images = Images(own_platform.settings.data_dir, tmp_path)
    images.file("program.py", "import http.server as h\nclass S(h.BaseHTTPRequestHandler):\n    def do_GET(self):\n")
    with (tmp_path / "program.py").open("a") as file:
        file.write("        self.send_response(200); self.send_header('Content-Length', '0'); self.end_headers()\n")
        file.write("h.ThreadingHTTPServer(('0.0.0.0', 8080), S).serve_forever()\n")
    build = 'FROM debian\nCOPY program.py /\nENTRYPOINT ["/usr/bin/python3", "/program.py"]'
    images.build(build, "shop/served:1")
    sagemaker = own_platform.client("sagemaker")
    own_platform.model("served", "shop/served:1")
    variant = {"VariantName": "v", "ModelName": "served", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName="served", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName="served", EndpointConfigName="served")

    def status() -> bool:
        return bool(sagemaker.describe_endpoint(EndpointName="served")["EndpointStatus"] == "InService")

    wait_until("the endpoint", status)
    [layer] = images.show("shop/served:1")["layers"]
    folder = own_platform.settings.images_dir / "layers" / layer
    assert "is used by a job or an endpoint" in images.run("rm", "shop/served:1", code=2)[-1]
    assert images.run("rm", "--force", "shop/served:1") == ["untagged shop/served:1"]
    assert folder.is_dir()
    sagemaker.delete_endpoint(EndpointName="served")
    images.build("FROM debian", "shop/other")

    def removed() -> bool:
        images.run("rm", "--force", "shop/other")
        images.build("FROM debian", "shop/other")
        return not folder.exists()

    wait_until("the removal", removed)
