"""Give objects file names below a folder: none points out of it, no two are the same file."""

import posixpath
from pathlib import Path

from millrace.errors import ClientFailure
from millrace.names import ObjectRef

__all__ = ["Placement"]


class Placement:
    """The names that are taken below one folder. Memory holds a reference for each object and each subfolder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._inside = folder.resolve()
        self._files: dict[str, ObjectRef] = {}
        self._subfolders: dict[str, ObjectRef] = {}

    def place(self, ref: ObjectRef, relative: str) -> Path:
        """Return where an object goes.

        Raises:
            ClientFailure: The name is absolute, empty, has a ".." or NUL, or leads out of the folder; or another
                object has it, or has it as a folder.
        """
        name = posixpath.normpath(relative)  # a key may have empty parts, a file name not
        if relative.startswith("/") or name == "." or ".." in relative.split("/") or "\0" in relative:
            raise ClientFailure(f"{ref}: {relative!r} can't be a file name below a folder of the container")
        target = self._folder / name
        if not target.resolve().is_relative_to(self._inside):
            raise ClientFailure(f"{ref}: {relative!r} leads out of the container's folder")
        parts = name.split("/")
        parents = ["/".join(parts[:count]) for count in range(1, len(parts))]
        for taken in (self._files.get(name), self._subfolders.get(name), *map(self._files.get, parents)):
            if taken is not None:
                raise ClientFailure(f"{taken} and {ref} can't be in one folder: both would be the file {name!r}")
        self._files[name] = ref
        for parent in parents:
            self._subfolders.setdefault(parent, ref)
        return target
