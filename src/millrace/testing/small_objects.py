"""A quick way for many small objects of a store in memory."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from millrace.names import ObjectRef
from millrace.ports.objects import NoSuchKey, ObjectMeta, SmallObjects, SmallOutput
from millrace.testing.objects import MemoryObjects

__all__ = ["QuickObjects"]


def _nothing(_: ObjectRef) -> bool:
    return False


class QuickObjects(MemoryObjects):
    """A store with a quick way, which leaves objects out for which `leaves` is true. `groups` are those written."""

    def __init__(self, *, leaves: Callable[[ObjectRef], bool] = _nothing) -> None:
        super().__init__()
        self._leaves = leaves
        self.groups: list[list[str]] = []

    def small_objects(self) -> SmallObjects | None:
        return _QuickWay(self, self._leaves, self.groups)


class _QuickWay:
    """The quick way of a store."""

    def __init__(self, objects: QuickObjects, leaves: Callable[[ObjectRef], bool], groups: list[list[str]]) -> None:
        self._objects = objects
        self._leaves = leaves
        self._groups = groups

    def read(self, refs: Sequence[ObjectRef], *, at_most: int) -> list[bytes | None]:
        found: list[bytes | None] = []
        for ref in refs:
            try:
                body = b"" if self._leaves(ref) else self._objects.data(str(ref))
            except NoSuchKey:
                body = b""
            found.append(body if 0 < len(body) <= at_most else None)
        return found

    async def write(self, outputs: Sequence[SmallOutput], meta: ObjectMeta) -> Sequence[int]:
        left, written = [], []
        for index, (ref, body, origin) in enumerate(outputs):
            if self._leaves(ref):
                left.append(index)
                continue
            writer = await self._objects.open_writer(ref, replace(meta, origin=origin))
            await writer.write(body)
            await writer.commit(origin=origin)
            written.append(ref.key)
        self._groups.append(written)
        return left
