"""Drafts of the object store in memory, and the writers that outlive themselves in them."""

from collections.abc import Callable

from millrace.names import ObjectRef
from millrace.ports.objects import DraftHeld, DraftLost, ObjectInfo, check_draft

__all__ = ["MemoryDrafts", "MemoryResumableWriter"]


class MemoryDrafts:
    """Bytes by bucket and draft: those that were checkpointed. `open_writers` counts the writers that hold one."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], bytes] = {}
        self._held: dict[tuple[str, str], MemoryResumableWriter] = {}

    @property
    def open_writers(self) -> int:
        return len(self._held)

    def open(
        self, ref: ObjectRef, draft: str, at: int, install: Callable[[bytes, str], ObjectInfo]
    ) -> "MemoryResumableWriter":
        """Open a draft at a byte; nothing is waited for, as who holds it is of the same process."""
        check_draft(draft, at)
        place = (ref.bucket, draft)
        self._check_free(place)
        kept = self.kept.get(place, b"")
        if at > len(kept):
            raise DraftLost(draft, f"{ref}: {at} bytes are to be kept, and it has {len(kept)}")
        self.kept[place] = kept[:at]
        self._held[place] = MemoryResumableWriter(self, place, ref, install)
        return self._held[place]

    def discard(self, bucket: str, draft: str) -> None:
        """Remove a draft, if it is there and free."""
        check_draft(draft, 0)
        self._check_free((bucket, draft))
        self.kept.pop((bucket, draft), None)

    def read(self, bucket: str, draft: str, length: int) -> bytes:
        """Return the first bytes of a draft; raises DraftLost."""
        check_draft(draft, length)
        kept = self.kept.get((bucket, draft))
        if kept is None or len(kept) < length:
            raise DraftLost(draft, "it is not there" if kept is None else f"{length} bytes are wanted of {len(kept)}")
        return kept[:length]

    def kill_writers(self) -> None:
        """Take every draft from its writer, as the end of its process does."""
        self._held.clear()

    def holds(self, place: tuple[str, str], writer: "MemoryResumableWriter") -> bool:
        """Tell whether it is this writer that has the draft."""
        return self._held.get(place) is writer

    def free(self, place: tuple[str, str], *, keep: bool) -> None:
        """Take a draft from its writer, and remove it unless it is to be kept."""
        del self._held[place]
        if not keep:
            del self.kept[place]

    def _check_free(self, place: tuple[str, str]) -> None:
        if place in self._held:
            raise DraftHeld(place[1], "another writer is open")


class MemoryResumableWriter:
    """A ResumableWriter: what a checkpoint has not kept is lost with it."""

    def __init__(
        self, drafts: MemoryDrafts, place: tuple[str, str], ref: ObjectRef, install: Callable[[bytes, str], ObjectInfo]
    ) -> None:
        self._drafts = drafts
        self._place = place
        self._ref = ref
        self._install = install
        self._written = bytearray(drafts.kept[place])

    async def write(self, chunk: bytes | memoryview) -> None:
        self._check_open()
        self._written += chunk

    async def checkpoint(self) -> int:
        self._check_open()
        self._drafts.kept[self._place] = bytes(self._written)
        return len(self._written)

    async def flush(self) -> int:
        return await self.checkpoint()

    async def commit(self, *, origin: str = "") -> ObjectInfo:
        self._check_open()
        self._drafts.free(self._place, keep=False)
        return self._install(bytes(self._written), origin)

    async def suspend(self) -> None:
        if self._drafts.holds(self._place, self):
            self._drafts.free(self._place, keep=True)

    async def abort(self) -> None:
        if self._drafts.holds(self._place, self):
            self._drafts.free(self._place, keep=False)

    def _check_open(self) -> None:
        if not self._drafts.holds(self._place, self):
            raise RuntimeError(f"the writer of {self._ref} is closed")
