"""Which runtime an image gets, and which images are refused."""

import os
from pathlib import Path

import pytest

from millrace.errors import ImageUnavailable, RuntimeUnavailable
from millrace.ports.runtime import ContainerSpec, Image, RootFilesystem
from millrace.runtimes.choice import ChosenRuntime, RunnableImages, RuntimeChoice
from millrace.runtimes.process import ProcessRuntime
from millrace.runtimes.sandbox import SandboxRuntime

BROUGHT = Image(uri="shop:1", name="shop", command=("serve",), root=RootFilesystem(layers=()))
HOST = Image(uri="mine:1", name="mine", command=("echo", "hello"))
BUILT_IN = Image(uri="pca:1", name="pca", command=("echo", "pca"), built_in="pca")


class OneImage:
    def __init__(self, image: Image) -> None:
        self._image = image

    def resolve(self, uri: str) -> Image:
        return self._image


def runtime(choice: RuntimeChoice, folder: Path) -> ChosenRuntime:
    return ChosenRuntime(choice, process=ProcessRuntime(os.environ), sandbox=SandboxRuntime(folder / "cache"))


def spec(image: Image, folder: Path, *command: str) -> ContainerSpec:
    opt_ml = folder / "opt" / "ml"
    opt_ml.mkdir(parents=True, exist_ok=True)
    return ContainerSpec(
        name="c",
        image=image,
        command=command or image.command,
        environment={},
        opt_ml=opt_ml,
        on_line=lambda at, line: None,
    )


@pytest.mark.parametrize("choice", [RuntimeChoice.AUTO, RuntimeChoice.PROCESS])
async def test_host_images_run_as_processes(tmp_path: Path, choice: RuntimeChoice) -> None:
    """They are programs that the operator trusts."""
    container = await runtime(choice, tmp_path).launch(spec(HOST, tmp_path))
    assert (await container.wait()).ok


async def test_without_the_sandbox_brought_images_are_refused(tmp_path: Path) -> None:
    """By a sentence that names image and setting; when they are named, and when they are launched."""
    with pytest.raises(RuntimeUnavailable, match=r"image shop:1 .*MILLRACE_RUNTIME=process"):
        await runtime(RuntimeChoice.PROCESS, tmp_path).launch(spec(BROUGHT, tmp_path))
    with pytest.raises(ImageUnavailable, match=r"image shop:1 .*MILLRACE_RUNTIME=process"):
        RunnableImages(OneImage(BROUGHT), RuntimeChoice.PROCESS, tmp_path).resolve("shop:1")


async def test_where_isolation_is_a_must_commands_of_the_machine_are_refused(tmp_path: Path) -> None:
    """Built-in programs run, but nothing runs in their place."""
    strict = runtime(RuntimeChoice.SANDBOX, tmp_path)
    with pytest.raises(RuntimeUnavailable, match=r"image mine:1 is a command of this machine"):
        await strict.launch(spec(HOST, tmp_path))
    with pytest.raises(RuntimeUnavailable, match=r"lets no other command run in its place; got 'sh'"):
        await strict.launch(spec(BUILT_IN, tmp_path, "sh", "-c", "true"))
    assert (await (await strict.launch(spec(BUILT_IN, tmp_path))).wait()).ok


@pytest.mark.spec("C §12 C-65")
def test_an_image_that_can_t_run_here_is_refused_with_what_would_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a job is created with it; others are not affected."""
    monkeypatch.setenv("PATH", str(tmp_path))  # a machine without bubblewrap
    with pytest.raises(ImageUnavailable, match=r"image shop:1 needs the sandbox.*apt-get install bubblewrap"):
        RunnableImages(OneImage(BROUGHT), RuntimeChoice.AUTO, tmp_path).resolve("shop:1")
    assert RunnableImages(OneImage(HOST), RuntimeChoice.AUTO, tmp_path).resolve("mine:1") is HOST
