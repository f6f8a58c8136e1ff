"""Read a manifest of input objects. Pure.

Source:
    batch-transform.md 2.2: `[{"prefix": "s3://bucket/some/prefix/"}, "rel/one.csv", ...]`; each key is prefix and
    entry, concatenated without a separator. A later prefix object holds for the entries after it.
"""

import codecs
from dataclasses import dataclass

import orjson

from millrace.errors import ClientFailure
from millrace.names import ObjectPrefix, ObjectRef

__all__ = ["ManifestEntry", "parse_manifest"]


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """One entry: the object and its name relative to the manifest's prefix, "" if it has none but the prefix."""

    ref: ObjectRef
    relative: str


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
    prefix = ObjectPrefix("", "")
    entries: dict[ObjectRef, ManifestEntry] = {}
    for number, element in enumerate(elements):
        if isinstance(element, dict):
            prefix = _prefix(element, name, number)
        elif isinstance(element, str) and prefix.prefix + element:
            ref = ObjectRef(prefix.bucket, prefix.prefix + element)
            entries.setdefault(ref, ManifestEntry(ref, element.lstrip("/")))
        else:
            raise ClientFailure(f"manifest {name}: element {number} must be the key of an object, got {element!r}")
    return list(entries.values())


def _prefix(element: dict[str, object], name: str, number: int) -> ObjectPrefix:
    uri = element.get("prefix")
    try:
        return ObjectPrefix.parse(uri if isinstance(uri, str) else "")
    except ValueError:
        raise ClientFailure(
            f'manifest {name}: element {number} must hold "prefix", an s3://bucket/prefix, got {uri!r}'
        ) from None
