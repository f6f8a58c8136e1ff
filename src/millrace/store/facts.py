"""Keep what is known about a stored file beside its bytes.

The facts of an object (ETag, headers, user metadata, tags, checksums, owner, origin) are compact JSON in the extended
attribute `user.millrace` of its file; of most outputs of jobs they are shorter still (short_facts). The attribute is
set on the temporary file before the rename that makes the object visible, so bytes and facts change together. Where a
file system has no such attributes, or they do not fit (ext4 has one block of 4 kB for all of a file's), the same bytes
are in a *sidecar* file instead, named by the inode, size and time of the file it describes: it too is complete before
the rename, and can never be taken for the facts of another file.

Facts name the size and time of the bytes that they were made for. A file that somebody edited in place keeps its
headers, user metadata and tags, but loses its ETag, its checksums and its origin.

A file without facts of its own has an ETag made of its inode, size and time. Reading all of it for an MD5 would make
the first listing of a data folder put there by hand as slow as reading it. The form `<32 hex>-1` is that of a multipart
upload, which clients never compare with an MD5.
"""

import errno
import hashlib
import os
import secrets
import stat as stat_bits
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import time_ns
from typing import Any

import orjson

from millrace.ports.objects import ObjectMeta
from millrace.store.short_facts import pack, packed_headers, unpack

__all__ = ["ATTRIBUTE", "Facts", "FactsStore", "GroupFacts", "identity_etag"]

ATTRIBUTE = "user.millrace"

_NO_ROOM_OR_NO_SUPPORT = frozenset({errno.ENOTSUP, errno.ENOSPC, errno.E2BIG, errno.ERANGE, errno.EPERM, errno.EACCES})
_TICK_NS = 50_000_000
"""Longer than the coarsest tick of a file system's clock in use (10 ms), several times over."""
_NO_META = ObjectMeta()
"""That of files without facts, one for all: a listing of them takes 4 us less for each."""
_ABSENT = frozenset({errno.ENODATA, errno.ENOTSUP, errno.EACCES, errno.EPERM})


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What is known about one version of an object beyond its bytes."""

    etag: str
    meta: ObjectMeta = field(default_factory=ObjectMeta)
    part_sizes: Sequence[int] = ()
    """Sizes of the parts of a multipart upload, in order; empty for an object that was put at once."""
    part_checksums: Sequence[str] = ()
    """Their checksums, if the upload was to have some."""
    upload_id: str = ""
    """The multipart upload that made the object, so that its completion can be asked for twice."""

    def encode(self, stat: os.stat_result) -> bytes:
        """Return the facts as bytes, bound to the file's present size and time."""
        short = self._pack(stat)
        if short is not None:
            return short
        document: dict[str, Any] = {"s": stat.st_size, "m": stat.st_mtime_ns, "e": self.etag, **_members(self.meta)}
        if self.part_sizes:
            document["p"] = list(self.part_sizes)
        if self.part_checksums:
            document["k"] = list(self.part_checksums)
        if self.upload_id:
            document["i"] = self.upload_id
        return orjson.dumps(document)

    def _pack(self, stat: os.stat_result) -> bytes | None:
        """Return short facts, None if there is more to tell."""
        meta = self.meta
        if self.part_sizes or self.part_checksums or self.upload_id:
            return None
        headers = packed_headers(meta.headers)
        if headers is None or meta != ObjectMeta(headers=meta.headers, origin=meta.origin):
            return None
        return pack(stat.st_size, stat.st_mtime_ns, self.etag, headers, meta.origin)

    @classmethod
    def decode(cls, text: bytes, stat: os.stat_result) -> "Facts":
        """Read facts for a file; those about its bytes only hold if size and time are still the same.

        Raises:
            ValueError: The text is not what encode() writes.
        """
        if (short := unpack(text)) is not None:
            size, time_ns, etag, headers, origin = short
            if size != stat.st_size or time_ns != stat.st_mtime_ns:
                return cls(etag=identity_etag(stat), meta=ObjectMeta(headers=headers))
            return cls(etag=etag, meta=ObjectMeta(headers=headers, origin=origin))
        document = orjson.loads(text)
        try:
            headers, user = document.get("h") or {}, document.get("u") or {}
            tags = document.get("t") or {}
            owner, acl = document.get("o", ""), document.get("a", "")
            if document["s"] != stat.st_size or document["m"] != stat.st_mtime_ns:
                meta = ObjectMeta(headers=headers, user=user, tags=tags, owner=owner, acl=acl)
                return cls(etag=identity_etag(stat), meta=meta)
            meta = ObjectMeta(
                headers=headers,
                user=user,
                tags=tags,
                checksums=document.get("c") or {},
                checksum_type=document.get("y", "FULL_OBJECT"),
                owner=owner,
                acl=acl,
                origin=document.get("w", ""),
            )
            return cls(
                etag=document["e"],
                meta=meta,
                part_sizes=document.get("p", ()),
                part_checksums=document.get("k", ()),
                upload_id=document.get("i", ""),
            )
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"expected facts about an object, got {text[:80]!r}") from error


class GroupFacts:
    """Facts of objects that were each put at once, and have one meta but for their origins."""

    def __init__(self, meta: ObjectMeta) -> None:
        self._members = _members(meta)
        self._headers = packed_headers(meta.headers) if meta == ObjectMeta(headers=meta.headers) else None

    def encode(self, stat: os.stat_result, etag: str, origin: str) -> bytes:
        """Return the facts of one of them as bytes, bound to the file's present size and time; see Facts."""
        if self._headers is not None:
            short = pack(stat.st_size, stat.st_mtime_ns, etag, self._headers, origin)
            if short is not None:
                return short
        document = {"s": stat.st_size, "m": stat.st_mtime_ns, "e": etag, **self._members}
        if origin:
            document["w"] = origin
        return orjson.dumps(document)


def _members(meta: ObjectMeta) -> dict[str, Any]:
    """Return what facts tell of a meta: nothing of what it has not."""
    members: dict[str, Any] = {}
    for letter, value in (("h", meta.headers), ("u", meta.user), ("t", meta.tags), ("c", meta.checksums)):
        if value:
            members[letter] = dict(value)
    if meta.checksum_type != "FULL_OBJECT":
        members["y"] = meta.checksum_type
    if meta.owner:
        members["o"] = meta.owner
    if meta.acl:
        members["a"] = meta.acl
    if meta.origin:
        members["w"] = meta.origin
    return members


def identity_etag(stat: os.stat_result) -> str:
    """Return an ETag for a file that nobody hashed: it changes when the file does."""
    identity = f"{stat.st_ino}:{stat.st_size}:{stat.st_mtime_ns}".encode()
    return f"{hashlib.md5(identity, usedforsecurity=False).hexdigest()}-1"


class FactsStore:
    """Facts of the files of one bucket: in attributes where they fit, else in sidecar files below `sidecars`."""

    def __init__(self, sidecars: Path, *, use_attributes: bool = True) -> None:
        self._sidecars = str(sidecars)
        self._use_attributes = use_attributes

    def beside_since(self) -> int:
        """Return a time in ns: of files whose inodes have not changed since then none has a sidecar.

        A sidecar is there before its file's inode changes for the last time. So where there is none now, only those
        have one that change from now on.
        """
        now = time_ns()
        try:
            with os.scandir(self._sidecars) as entries:
                return 0 if next(entries, None) is not None else now - _TICK_NS
        except FileNotFoundError:
            return now - _TICK_NS
        except OSError:
            return 0

    def read(self, target: int | bytes, stat: os.stat_result, *, look_beside: bool = True) -> Facts:
        """Return the facts of a file given by descriptor or path (a symlink is not followed), and its stat.

        Args:
            target: The file.
            stat: What it is.
            look_beside: Look for a sidecar if it has no attribute; see `beside_since`.
        """
        text = self._attribute(target)
        if text is None and look_beside:
            text = self._sidecar(stat)
        if text is not None:
            with suppress(ValueError):  # damaged, or another program's: the file counts as put there by hand
                return Facts.decode(text, stat)
        return Facts(etag=identity_etag(stat), meta=_NO_META)

    def write(self, descriptor: int, facts: Facts) -> None:
        """Attach facts to an open file whose bytes are complete, replacing older ones."""
        stat = os.fstat(descriptor)
        text = facts.encode(stat)
        if self._set_attribute(descriptor, text):
            self.forget(stat)
        else:
            self._write_sidecar(descriptor, stat, text)

    def write_first(self, descriptor: int, facts: Facts) -> os.stat_result:
        """Attach facts to a file that is no object yet; return the stat that they are bound to.

        What has just been written has a size and time that no older sidecar can name.
        """
        stat = os.fstat(descriptor)
        self.write_encoded(descriptor, stat, facts.encode(stat))
        return stat

    def write_encoded(self, descriptor: int, stat: os.stat_result, text: bytes) -> None:
        """Attach facts to a file that is no object yet, encoded for its present stat."""
        if not self._set_attribute(descriptor, text):
            self._write_sidecar(descriptor, stat, text)

    def _set_attribute(self, descriptor: int, text: bytes) -> bool:
        """Tell whether the facts are in the attribute now; else an older one may still be there."""
        if not self._use_attributes:
            return False
        try:
            os.setxattr(descriptor, ATTRIBUTE, text)
        except OSError as error:
            if error.errno not in _NO_ROOM_OR_NO_SUPPORT:
                raise
            return False
        return True

    def _write_sidecar(self, descriptor: int, stat: os.stat_result, text: bytes) -> None:
        place = Path(self._place(stat))
        temporary = place.with_name(f"{place.name}.{secrets.token_hex(4)}.new")
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(text)
        temporary.replace(place)
        # Who remembers facts until the inode changes (listed_facts) has to see this change, too.
        os.fchmod(descriptor, stat_bits.S_IMODE(stat.st_mode))
        if self._use_attributes:  # the sidecar holds from here on: the attribute would be read first
            with suppress(OSError):
                os.removexattr(descriptor, ATTRIBUTE)

    def forget(self, stat: os.stat_result) -> None:
        """Remove the sidecar of a file that is gone, if it had one."""
        with suppress(OSError):
            os.unlink(self._place(stat))  # noqa: PTH108  # on the way of every write: no Path for nothing

    def _attribute(self, target: int | bytes) -> bytes | None:
        if not self._use_attributes:
            return None
        try:
            if isinstance(target, int):
                return os.getxattr(target, ATTRIBUTE)
            return os.getxattr(target, ATTRIBUTE, follow_symlinks=False)
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise

    def _sidecar(self, stat: os.stat_result) -> bytes | None:
        try:
            descriptor = os.open(self._place(stat), os.O_RDONLY)  # not there for most: no Path for nothing
        except OSError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            return file.read()

    def _place(self, stat: os.stat_result) -> str:
        return f"{self._sidecars}/{stat.st_ino:x}-{stat.st_size:x}-{stat.st_mtime_ns:x}.json"
