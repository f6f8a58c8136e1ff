"""Layers by their keys: find in the cache what an instruction made before, or let it be made, once."""

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from millrace.images.instructions import Instruction
from millrace.images.problems import StepFailed
from millrace.images.state import BuildState
from millrace.images.view import View
from millrace.ports.images import ImageStep
from millrace.runtimes.skeleton import list_grafts, open_skeleton
from millrace.store.image_files import ImageFiles

__all__ = ["LayerMaker", "Place", "Reporter", "key_of"]

MAX_LAYERS = 127
"""Layers of one image, as Docker has it: all of them are overlays of one mount."""


class Reporter(Protocol):
    """Is told how a build goes."""

    def step(self, number: int, total: int, text: str, *, cached: bool) -> None:
        """An instruction begins, or was found in the cache."""
        ...

    def line(self, text: str) -> None:
        """A command printed a line."""
        ...

    def warn(self, text: str) -> None:
        """Something is not quite as asked for."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """One instruction and where the build stands with it."""

    instruction: Instruction
    number: int
    total: int


def key_of(*facts: object) -> str:
    """Return the key of a layer that is made of these facts."""
    return sha256(json.dumps(facts, sort_keys=True, default=list).encode()).hexdigest()


class LayerMaker:
    """What instructions that change files share: the store, the machine below all layers, and the cache's rule."""

    def __init__(self, store: ImageFiles, *, cache: Path, reporter: Reporter) -> None:
        """Take the store and the folder of the sandbox's skeleton."""
        self.store = store
        self.cache = cache
        self.reporter = reporter

    def report(self, place: Place, *, cached: bool = True) -> None:
        """Tell of an instruction."""
        self.reporter.step(place.number, place.total, place.instruction.text, cached=cached)

    def skeleton(self) -> Path:
        """Return the lowest layer of all images."""
        return open_skeleton(self.cache).folder

    def folders(self, layers: Sequence[str]) -> list[Path]:
        """Return the folders of layers, in their order."""
        return [self.store.layer_folder(layer) for layer in layers]

    def view(self, layers: Sequence[str]) -> View:
        """Return what containers of these layers see."""
        return View(self.folders(layers), skeleton=self.skeleton(), grafts=list_grafts())

    async def make(
        self,
        state: BuildState,
        place: Place,
        key: str,
        fill: Callable[[Path], Awaitable[None]],
        *,
        use_cache: bool = True,
    ) -> None:
        """Add an instruction's layer to an image.

        Args:
            fill: Writes the layer into the folder `upper` of the folder that it is given, which is all its own.

        Raises:
            StepFailed: The image has as many layers as it can have.
        """
        if len(state.layers) >= MAX_LAYERS:
            raise StepFailed(f"an image has at most {MAX_LAYERS} layers: join instructions")
        with self.store.making(key, on_wait=lambda: self.reporter.warn("waiting for a build of the same layer")):
            known = self.store.find_step(key)
            self.report(place, cached=known is not None and use_cache)
            if known is None or not use_cache:
                with self.store.draft() as draft:
                    upper = draft / "upper"
                    upper.mkdir()
                    upper.chmod(0o755)
                    await fill(draft)
                    known = self.store.keep_layer(key, upper, again=known is not None)
        layer, size = known
        state.layers.append(layer)
        state.steps.append(ImageStep(text=place.instruction.text, layer=layer, size=size))
