"""List objects, in all versions of that operation."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from millrace.ports.objects import ListPage, ObjectInfo, ObjectStore
from millrace.protocol.message import Context, Handler, Params, Result
from millrace.services.s3.access import Access, object_owner
from millrace.services.s3.bucket_rules import BucketRules
from millrace.services.s3.faults import fault
from millrace.services.s3.kept_entries import KeptEntries
from millrace.services.s3.listing_text import entries_text, entry_members

__all__ = ["MAX_KEYS", "ListingHandlers", "page_limit", "url_encoder"]

MAX_KEYS = 1000
"""Entries of one page at most, whatever the client asks for."""

_TOKEN_VERSION = b"1:"


class ListingHandlers:
    """ListObjects, ListObjectsV2 and ListObjectVersions."""

    def __init__(self, objects: ObjectStore, access: Access) -> None:
        self._objects = objects
        self._access = access
        self._kept = {active: KeptEntries(_UrlEncoder(active).encode_all) for active in (False, True)}

    def table(self) -> Mapping[str, Handler]:
        """Return the handlers by operation."""
        return {
            "ListObjectVersions": self.list_object_versions,
            "ListObjects": self.list_objects,
            "ListObjectsV2": self.list_objects_v2,
        }

    async def list_objects_v2(self, ctx: Context, params: Params) -> Result:
        """List with continuation tokens."""
        token = params.get("ContinuationToken")
        after = _decode_token(token) if token else params.get("StartAfter") or ""
        page, limit = await self._page(params, after)
        encode = url_encoder(params)
        entries = await self._entries(page, params, with_owner=bool(params.get("FetchOwner")))
        return {
            **entries,
            "KeyCount": len(page.objects) + len(page.common_prefixes),
            "MaxKeys": limit,
            "ContinuationToken": token,
            "NextContinuationToken": _encode_token(page.next_after) if page.next_after is not None else None,
            "StartAfter": encode(params.get("StartAfter")),
        }

    async def list_objects(self, ctx: Context, params: Params) -> Result:
        """List with markers, the older way."""
        page, limit = await self._page(params, params.get("Marker") or "")
        encode = url_encoder(params)
        # "This element is returned only if you have the delimiter request parameter specified": without one, clients
        # go on from the last key.
        next_marker = page.next_after if params.get("Delimiter") else None
        return {
            **await self._entries(page, params, with_owner=True),
            "MaxKeys": limit,
            "Marker": encode(params.get("Marker") or ""),
            "NextMarker": encode(next_marker),
        }

    async def list_object_versions(self, ctx: Context, params: Params) -> Result:
        """List the one version that each object has, whose id is "null"."""
        page, limit = await self._page(params, params.get("KeyMarker") or "")
        encode = url_encoder(params)
        owners = await self._owners(page, params["Bucket"])
        versions = [
            {**entry_members(info, encode(info.ref.key) or "", owners.of(info)), "VersionId": "null", "IsLatest": True}
            for info in page.objects
        ]
        return {
            **_page_members(page, params),
            "Versions": versions,
            "CommonPrefixes": _common_prefixes(page, params),
            "MaxKeys": limit,
            "KeyMarker": encode(params.get("KeyMarker") or ""),
            "VersionIdMarker": params.get("VersionIdMarker") or "",
            "NextKeyMarker": encode(page.next_after),
            "NextVersionIdMarker": "null" if page.next_after is not None else None,
        }

    async def _page(self, params: Params, after: str) -> tuple[ListPage, int]:
        limit = page_limit(params, "MaxKeys")
        page = await self._objects.list_objects(
            params["Bucket"],
            prefix=params.get("Prefix") or "",
            after=after,
            delimiter=params.get("Delimiter") or "",
            limit=limit,
        )
        return page, limit

    async def _entries(self, page: ListPage, params: Params, *, with_owner: bool) -> dict[str, Any]:
        encoder = url_encoder(params)
        if with_owner:
            owners = await self._owners(page, params["Bucket"])
            keys = encoder.encode_all([info.ref.key for info in page.objects])
            contents = entries_text(page.objects, keys, owners.of)
        else:
            contents = self._kept[encoder.active].text(page.objects)
        prefixes = _common_prefixes(page, params)
        return {**_page_members(page, params), "Contents": contents, "CommonPrefixes": prefixes}

    async def _owners(self, page: ListPage, bucket: str) -> "_Owners":
        rules = await self._access.rules(bucket)
        accounts = {object_owner(rules, info) for info in page.objects}
        members = {account: await self._access.owner_members(account) for account in accounts}
        return _Owners(rules, members)


@dataclass(frozen=True, slots=True)
class _Owners:
    """The owners of the objects of a page, as answers tell them."""

    rules: BucketRules
    members: Mapping[str, Mapping[str, str]]

    def of(self, info: ObjectInfo) -> Mapping[str, str]:
        return self.members[object_owner(self.rules, info)]


def _page_members(page: ListPage, params: Params) -> dict[str, Any]:
    encode = url_encoder(params)
    return {
        "Name": params["Bucket"],
        "Prefix": encode(params.get("Prefix") or ""),
        "Delimiter": encode(params.get("Delimiter") or None),
        "EncodingType": params.get("EncodingType"),
        "IsTruncated": page.next_after is not None,
    }


def _common_prefixes(page: ListPage, params: Params) -> list[dict[str, Any]]:
    encode = url_encoder(params)
    return [{"Prefix": encode(prefix)} for prefix in page.common_prefixes]


def page_limit(params: Mapping[str, Any], member: str) -> int:
    """Return how many entries a page may have; raises InvalidArgument for less than none."""
    asked = params.get(member)
    if asked is None:
        return MAX_KEYS
    if asked < 0:
        raise fault("InvalidArgument", f"{member} must be 0 or more, got {asked}", ArgumentName=member)
    return int(min(asked, MAX_KEYS))


_SAFE = "/-_.~*"


class _UrlEncoder:
    """Encodes keys in an answer where the client asks for it, since XML cannot hold every character."""

    def __init__(self, active: bool) -> None:
        self.active = active

    def __call__(self, text: str | None) -> str | None:
        # Clients decode "+" to a space or leave it; "%20" and "%2B" mean the same to both.
        return quote(text, safe=_SAFE) if self.active and text else text

    def encode_all(self, keys: Sequence[str]) -> Sequence[str]:
        """Return keys as `__call__` returns each of them."""
        return [quote(key, safe=_SAFE) for key in keys] if self.active else keys


def url_encoder(params: Mapping[str, Any]) -> _UrlEncoder:
    """Return the encoder of keys that the request asks for."""
    return _UrlEncoder(params.get("EncodingType") == "url")


def _encode_token(after: str) -> str:
    return base64.urlsafe_b64encode(_TOKEN_VERSION + after.encode()).decode()


def _decode_token(token: str) -> str:
    try:
        content = base64.urlsafe_b64decode(token.encode())
        if not content.startswith(_TOKEN_VERSION):
            raise ValueError(token)
        return content[len(_TOKEN_VERSION) :].decode()
    except (binascii.Error, ValueError):
        raise fault("InvalidArgument", "The continuation token provided is incorrect") from None
