"""Read a manifest of input objects. Pure.

Source:
    batch-transform.md 2.2: `[{"prefix": "s3://bucket/some/prefix/"}, "rel/one.csv", ...]`; each key is prefix and
    entry, concatenated without a separator. A later prefix object holds for the entries after it.
"""

import codecs
from dataclasses import dataclass
from typing import NamedTuple

import orjson

from millrace.errors import ClientFailure
from millrace.names import ObjectPrefix, ObjectRef

__all__ = ["ManifestEntry", "parse_manifest"]


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """One entry: the object and its name relative to the manifest's prefix, "" if it has none but the prefix."""

    ref: ObjectRef
    relative: str


class _Prefix(NamedTuple):
    """What stands before the entries that follow; `ends_bucket` where it is a bucket's name without a slash behind."""

    place: ObjectPrefix
    ends_bucket: bool

    def key(self, entry: str) -> str:
        """Return the key that prefix and entry name, concatenated."""
        return entry.removeprefix("/") if self.ends_bucket else self.place.prefix + entry


def parse_manifest(text: bytes, name: str) -> list[ManifestEntry]:
    """Return the entries in the order of the manifest, each once.

    Args:
        text: The manifest object's bytes.
        name: What to call it in messages.

    Raises:
        ClientFailure: The manifest is malformed; the message names the element.
    """
    try:
        elements = orjson.loads(text.removeprefix(codecs.BOM_UTF8))  # editors of Windows write it
    except ValueError as exc:
        raise ClientFailure(f"manifest {name} is no JSON: {exc}") from exc
    if not isinstance(elements, list) or not elements or not isinstance(elements[0], dict):
        raise ClientFailure(f'manifest {name} must be a JSON array whose first element is an object with "prefix"')
    prefix = _Prefix(ObjectPrefix("", ""), ends_bucket=False)
    entries: dict[ObjectRef, ManifestEntry] = {}
    for number, element in enumerate(elements):
        if isinstance(element, dict):
            prefix = _prefix(element, name, number)
        elif isinstance(element, str) and (key := prefix.key(element)):
            ref = ObjectRef(prefix.place.bucket, key)
            entries.setdefault(ref, ManifestEntry(ref, element.lstrip("/")))
        else:
            raise ClientFailure(f"manifest {name}: element {number} must be the key of an object, got {element!r}")
    return list(entries.values())


def _prefix(element: dict[str, object], name: str, number: int) -> _Prefix:
    uri = element.get("prefix")
    text = uri if isinstance(uri, str) else ""
    try:
        place = ObjectPrefix.parse(text)
        return _Prefix(place, ends_bucket=not place.prefix and not text.endswith("/"))
    except ValueError:
        raise ClientFailure(
            f'manifest {name}: element {number} must hold "prefix", an s3://bucket/prefix, got {uri!r}'
        ) from None
