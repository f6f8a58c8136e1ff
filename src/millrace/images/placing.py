"""Carry out COPY, ADD and WORKDIR: what goes where, whose it is, and under which key the layer is kept."""

import stat
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from millrace.images.checks import is_folder_name
from millrace.images.copying import LayerWriter, Ownership, copy_entries
from millrace.images.instructions import Copy, SetWorkingDirectory
from millrace.images.making import LayerMaker, Place, key_of
from millrace.images.patterns import IgnoreRules
from millrace.images.problems import StepFailed
from millrace.images.sources import Contents, Entry, plan_copy, read_contents
from millrace.images.state import BuildState
from millrace.images.view import View, clean_path
from millrace.ports.images import ImageStep
from millrace.runtimes.accounts import find_account
from millrace.runtimes.skeleton import list_grafts

__all__ = ["BuildContext", "Placing"]

MAX_ACCOUNT = 2**32 - 2
"""The highest number of a user or group; the next one means "leave it" to the kernel."""


@dataclass(frozen=True, slots=True)
class BuildContext:
    """The folder that COPY and ADD take from, and what .dockerignore leaves out of it."""

    folder: Path
    rules: IgnoreRules


class Placing:
    """Puts files into the layers of one build."""

    def __init__(
        self,
        maker: LayerMaker,
        context: BuildContext,
        find_layers: Callable[[str, Place], Awaitable[Sequence[str]]],
    ) -> None:
        """Take the context, and what returns the layers of the stage, image or base that `--from` names."""
        self._maker = maker
        self._context = context
        self._find_layers = find_layers

    async def copy(self, state: BuildState, place: Place) -> None:
        """Carry out COPY or ADD.

        Raises:
            StepFailed: A source or the destination can't be.
        """
        copy = place.instruction
        assert isinstance(copy, Copy)
        sources = [state.expand(source) for source in copy.sources]
        destination = state.expand(copy.destination)
        names_folder = is_folder_name(destination)
        if len(sources) > 1 and not names_folder:
            raise StepFailed(f"several sources need a destination that ends in /, got {destination}")
        target = state.path(destination)
        into_folder = names_folder or self._maker.view(state.layers).is_folder(clean_path(target))
        owner = self._owner(state, copy)

        def plan(view: View, rules: IgnoreRules | None = None) -> list[Entry]:
            return plan_copy(view, sources, into_folder=into_folder, unpacks=copy.unpacks, rules=rules)

        contents: Contents | None = None
        if copy.stage is None:
            view = View([self._context.folder])
            entries = plan(view, self._context.rules)
            contents = read_contents(entries)
            facts: object = contents.digest
        else:
            # the layers say what is in them: nothing is read of them when the result is in the cache
            below = await self._find_layers(state.expand(copy.stage), place)
            facts = [list(below), sources]

        async def fill(draft: Path) -> None:
            found = entries if contents is not None else plan(self._maker.view(below))
            writer = self._writer(state, draft, owner)
            copy_entries(writer, found, clean_path(target), mode=owner.mode, contents=contents)

        key = key_of("copy", state.layers, facts, target, into_folder, owner.user, owner.group, owner.mode)
        await self._maker.make(state, place, key, fill)

    def _writer(self, state: BuildState, draft: Path, owner: Ownership) -> LayerWriter:
        return LayerWriter(
            draft / "upper",
            self._maker.folders(state.layers),
            skeleton=self._maker.skeleton(),
            grafts=list_grafts(),
            owner=owner,
        )

    def _owner(self, state: BuildState, copy: Copy) -> Ownership:
        mode = None
        if copy.mode is not None:
            text = state.expand(copy.mode)
            if not 0 < len(text) <= 4 or any(digit not in "01234567" for digit in text):
                raise StepFailed(f"--chmod must be an octal number such as 755, got {text!r}")
            mode = int(text, 8)
        if copy.owner is None:
            return Ownership(mode=mode)
        name = state.expand(copy.owner)
        roots = self._maker.folders(state.layers)[::-1]
        account = find_account(name, [*roots, self._maker.skeleton()])
        # "will use the same numeric UID as the GID", where no group is given
        group = account.group if ":" in name else account.user
        if max(account.user, group) > MAX_ACCOUNT:
            raise StepFailed(f"--chown: users and groups must be at most {MAX_ACCOUNT}, got {name}")
        return Ownership(user=account.user, group=group, mode=mode)

    async def set_working_directory(self, state: BuildState, place: Place) -> None:
        """Carry out WORKDIR, which makes the folder if it is not there. Raises StepFailed."""
        assert isinstance(place.instruction, SetWorkingDirectory)
        path = state.path(state.expand(place.instruction.path)).rstrip("/") or "/"
        state.config = replace(state.config, working_directory=path)
        view = self._maker.view(state.layers)
        status = view.lstat(view.resolve(clean_path(path)))
        if status is not None:
            if not stat.S_ISDIR(status.st_mode):
                raise StepFailed(f"{path} is no folder")
            self._maker.report(place)
            state.steps.append(ImageStep(text=place.instruction.text))
            return

        async def fill(draft: Path) -> None:
            writer = self._writer(state, draft, Ownership())
            writer.make_folder(clean_path(path))
            writer.finish()

        await self._maker.make(state, place, key_of("folder", state.layers, path), fill)
