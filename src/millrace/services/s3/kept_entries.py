"""Remember how entries of listings were printed, for as long as the store gives the same facts about their objects.

A store that finds an object unchanged gives the very ObjectInfo that it gave before, so that identity is enough.
"""

from collections.abc import Callable, Sequence

from millrace.ports.objects import ObjectInfo
from millrace.protocol.xml import Markup
from millrace.services.s3.listing_text import entry_texts

__all__ = ["MAX_KEPT_ENTRIES", "KeptEntries"]

MAX_KEPT_ENTRIES = 20_000
"""Entries that are kept, about 1 kB each with their facts; as many as a store keeps facts."""

EncodeAll = Callable[[Sequence[str]], Sequence[str]]


class KeptEntries:
    """Printed entries without owners, with keys in one encoding.

    Args:
        encode_all: Returns keys as entries tell them.
        max_entries: Entries that are kept; all are forgotten when there are more.
    """

    def __init__(self, encode_all: EncodeAll, max_entries: int = MAX_KEPT_ENTRIES) -> None:
        self._encode_all = encode_all
        self._max_entries = max_entries
        self._texts: dict[int, str] = {}
        self._infos: list[ObjectInfo] = []
        """Those of the texts: while they are held, nothing else has their ids."""

    def text(self, infos: Sequence[ObjectInfo]) -> Markup:
        """Return the Contents elements of objects."""
        found = list(map(self._texts.get, map(id, infos)))
        if None not in found:
            return Markup("".join(found))  # type: ignore[arg-type]  # there is no None
        missing = [info for info, text in zip(infos, found, strict=True) if text is None]
        printed = entry_texts(missing, self._encode_all([info.ref.key for info in missing]), None)
        self._keep(missing, printed)
        others = iter(printed)
        return Markup("".join([next(others) if text is None else text for text in found]))

    def _keep(self, infos: Sequence[ObjectInfo], texts: Sequence[str]) -> None:
        if len(self._texts) + len(texts) > self._max_entries:
            self._texts.clear()
            self._infos.clear()
        if len(texts) <= self._max_entries:
            self._texts.update(zip(map(id, infos), texts, strict=True))
            self._infos += infos
