"""Who an image's USER is: numbers and home out of the image's own /etc/passwd and /etc/group."""

import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from millrace.errors import ImageUnavailable

__all__ = ["Account", "find_account"]

MAX_FILE_BYTES = 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """A user as programs of a container see it."""

    user: int
    group: int
    home: str


def find_account(user: str | None, roots: Sequence[Path]) -> Account:
    """Return the account that a USER instruction names.

    Args:
        user: `name`, `number`, `name:group` or `number:group`; None or empty is root.
        roots: Folders in which etc/passwd and etc/group are looked for, the first that has the file counts.

    Raises:
        ImageUnavailable: There is no user or group of that name. A number needs no entry.
    """
    name, _, group = (user or "0").partition(":")
    entry = next((it for it in _entries(roots, "passwd", 7) if name in (it[0], it[2])), None)
    if entry is None and not name.isdecimal():
        raise ImageUnavailable(f"USER {user}: the image's /etc/passwd has no user {name!r}")
    number = int(name if entry is None else entry[2])
    home = (entry[5] if entry is not None else "") or "/"
    if not group:
        return Account(user=number, group=0 if entry is None else int(entry[3]), home=home)
    if group.isdecimal():
        return Account(user=number, group=int(group), home=home)
    found = next((it for it in _entries(roots, "group", 3) if it[0] == group), None)
    if found is None:
        raise ImageUnavailable(f"USER {user}: the image's /etc/group has no group {group!r}")
    return Account(user=number, group=int(found[2]), home=home)


def _entries(roots: Sequence[Path], name: str, least_fields: int) -> Iterator[list[str]]:
    for root in roots:
        file = root / "etc" / name
        try:
            status = file.lstat()
            if not stat.S_ISREG(status.st_mode) or (root / "etc").is_symlink() or status.st_size > MAX_FILE_BYTES:
                continue  # a link may lead out of the image
            text = file.read_text("utf-8", "replace")
        except OSError:
            continue
        for line in text.splitlines():
            fields = line.split(":")
            if len(fields) >= least_fields and fields[2].isdecimal() and (least_fields < 4 or fields[3].isdecimal()):
                yield fields
        return
