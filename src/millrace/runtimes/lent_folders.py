"""Show folders of the machine's root to a container as the property of the image's user.

A mount with a map of ids of its own (Linux 5.12) does it: what is root's on disk is the user's in the container, and
what the user writes there is root's on disk. So nothing is given away, and nothing has to be taken back afterwards.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from millrace.runtimes.accounts import Account
from millrace.runtimes.syscalls import Namespace, clone_mount, map_ids_of_mount, place_mount, unshare

__all__ = ["LentFolder", "can_lend", "lend_folders"]

_SOMEBODY = Account(user=1000, group=1000, home="/")


@dataclass(frozen=True, slots=True)
class LentFolder:
    """A folder's mount that is not placed yet, to be closed when the container has it."""

    place: Path
    descriptor: int

    def mount(self) -> None:
        """Cover the folder with it, in a mount namespace of one's own; raises OSError."""
        place_mount(self.descriptor, str(self.place))

    def close(self) -> None:
        """Let go of it; where it was mounted it stays."""
        os.close(self.descriptor)


def can_lend(folder: Path) -> bool:
    """Return whether kernel and file system have such mounts."""
    try:
        lent = lend_folders([folder], _SOMEBODY)
    except OSError:
        return False
    for it in lent:
        it.close()
    return True


def lend_folders(places: Sequence[Path], account: Account) -> list[LentFolder]:
    """Return folders of root's as the account would have them; only for the machine's root.

    Raises:
        OSError: The kernel or the file system has no such mounts.
    """
    lent: list[LentFolder] = []
    ids = _user_namespace(f"0 {account.user} 1", f"0 {account.group} 1")
    try:
        for place in places:
            lent.append(LentFolder(place, clone_mount(str(place))))
            map_ids_of_mount(lent[-1].descriptor, ids)
    except BaseException:
        for it in lent:
            it.close()
        raise
    finally:
        os.close(ids)
    return lent


def _user_namespace(users: str, groups: str) -> int:
    """Return a descriptor of a user namespace with these maps; a child makes it, for who makes one is in it."""
    made, tells_made = os.pipe()
    may_end, lets_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(lets_end)  # so that it ends with its parent
            unshare(Namespace.USER)
            os.write(tells_made, b"1")
            os.read(may_end, 1)
        finally:
            os._exit(0)
    try:
        os.close(tells_made)
        if os.read(made, 1):
            for name, text in (("uid_map", users), ("gid_map", groups)):
                Path(f"/proc/{child}/{name}").write_text(text, "ascii")
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        for descriptor in (made, may_end, lets_end):
            os.close(descriptor)
        os.waitpid(child, 0)
