"""Access control lists: who has which right on a bucket or an object.

An ACL is a tuple of grants. A grantee is an account, by its canonical user id, or one of S3's groups, by its address.
Stored, an ACL is a compact JSON text.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from millrace.ports.keys import Account
from millrace.services.s3.faults import fault

__all__ = [
    "ALL_USERS",
    "AUTHENTICATED_USERS",
    "Acl",
    "Grant",
    "Permission",
    "asks_for_acl",
    "canned_acl",
    "decode_acl",
    "document_acl",
    "encode_acl",
    "grant_members",
    "header_acl",
    "is_public",
    "permits",
]

_GROUPS = "http://acs.amazonaws.com/groups/"
ALL_USERS = f"{_GROUPS}global/AllUsers"
AUTHENTICATED_USERS = f"{_GROUPS}global/AuthenticatedUsers"
LOG_DELIVERY = f"{_GROUPS}s3/LogDelivery"

MAX_GRANTS = 100
"""S3's own limit of one ACL."""


class Permission(StrEnum):
    """A right on a bucket or an object."""

    READ = "READ"
    WRITE = "WRITE"
    READ_ACP = "READ_ACP"
    WRITE_ACP = "WRITE_ACP"
    FULL_CONTROL = "FULL_CONTROL"


@dataclass(frozen=True, slots=True)
class Grant:
    """One right of one grantee."""

    grantee: str
    permission: Permission


Acl = tuple[Grant, ...]

_GROUP_GRANTS: Mapping[str, tuple[tuple[str, Permission], ...]] = {
    "private": (),
    "public-read": ((ALL_USERS, Permission.READ),),
    "public-read-write": ((ALL_USERS, Permission.READ), (ALL_USERS, Permission.WRITE)),
    "authenticated-read": ((AUTHENTICATED_USERS, Permission.READ),),
    "log-delivery-write": ((LOG_DELIVERY, Permission.WRITE), (LOG_DELIVERY, Permission.READ_ACP)),
    "bucket-owner-read": (),
    "bucket-owner-full-control": (),
}
_BUCKET_OWNER_GRANTS = {
    "bucket-owner-read": Permission.READ,
    "bucket-owner-full-control": Permission.FULL_CONTROL,
}
_GRANT_MEMBERS = {
    "GrantFullControl": Permission.FULL_CONTROL,
    "GrantRead": Permission.READ,
    "GrantReadACP": Permission.READ_ACP,
    "GrantWrite": Permission.WRITE,
    "GrantWriteACP": Permission.WRITE_ACP,
}
_GRANTEE = re.compile(r'\s*(id|uri|emailAddress)\s*=\s*"?([^",]*)"?\s*')


def canned_acl(name: str, *, owner: str, bucket_owner: str) -> Acl:
    """Return the ACL that a canned name stands for; both owners are canonical ids.

    Source:
        S3 user guide, "Canned ACL".
    """
    if name == "aws-exec-read":  # for images of EC2
        raise fault("NotImplemented", "The canned ACL 'aws-exec-read' is not implemented.", Header="x-amz-acl")
    if name not in _GROUP_GRANTS:
        raise fault("InvalidArgument", f"x-amz-acl must be the name of a canned ACL, got {name[:50]!r}")
    grants = [Grant(grantee, permission) for grantee, permission in _GROUP_GRANTS[name]]
    grants.append(Grant(owner, Permission.FULL_CONTROL))
    if name in _BUCKET_OWNER_GRANTS and bucket_owner != owner:
        grants.append(Grant(bucket_owner, _BUCKET_OWNER_GRANTS[name]))
    return tuple(grants)


def asks_for_acl(params: Mapping[str, Any]) -> bool:
    """Tell whether a request says what the ACL of what it makes shall be."""
    return any(params.get(member) is not None for member in ("ACL", *_GRANT_MEMBERS))


def header_acl(params: Mapping[str, Any], accounts: Sequence[Account]) -> Acl | None:
    """Return the ACL of x-amz-grant-* headers, or None if there are none."""
    grants: list[Grant] = []
    for member, permission in _GRANT_MEMBERS.items():
        for part in (params.get(member) or "").split(","):
            if not part.strip():
                continue
            match = _GRANTEE.fullmatch(part)
            if match is None:
                raise fault(
                    "InvalidArgument",
                    f"{member}: expected id=, uri= or emailAddress= with a value, got {part.strip()[:100]!r}",
                    ArgumentName=member,
                )
            kind, value = match.groups()
            grants.append(
                Grant(_resolve({"id": "ID", "uri": "URI"}.get(kind, "EmailAddress"), value, accounts), permission)
            )
    return _limited(grants) if grants else None


def document_acl(policy: Mapping[str, Any], accounts: Sequence[Account]) -> Acl:
    """Return the ACL of an AccessControlPolicy."""
    grants: list[Grant] = []
    for entry in policy.get("Grants") or ():
        grantee = entry.get("Grantee") or {}
        member = next((name for name in ("ID", "URI", "EmailAddress") if grantee.get(name)), None)
        if member is None or entry.get("Permission") not in set(Permission):
            raise fault("MalformedACLError")
        grants.append(Grant(_resolve(member, grantee[member], accounts), Permission(entry["Permission"])))
    return _limited(grants)


def _resolve(member: str, value: str, accounts: Sequence[Account]) -> str:
    """Return the grantee that a member of a Grantee names; accounts have no address but may have one for a name."""
    if member == "URI":
        if value not in (ALL_USERS, AUTHENTICATED_USERS, LOG_DELIVERY):
            raise fault(
                "InvalidArgument", f"Invalid group uri: {value[:200]!r}", ArgumentName="uri", ArgumentValue=value
            )
        return value
    if member == "EmailAddress":
        named = next((account.canonical_id for account in accounts if account.name == value), None)
        if named is None:
            raise fault("UnresolvableGrantByEmailAddress", EmailAddress=value)
        return named
    if all(account.canonical_id != value for account in accounts):
        raise fault(
            "InvalidArgument", f"Invalid id: {value[:100]!r}", ArgumentName="CanonicalUser/ID", ArgumentValue=value
        )
    return value


def _limited(grants: list[Grant]) -> Acl:
    if len(grants) > MAX_GRANTS:
        raise fault("MalformedACLError", f"An ACL may have at most {MAX_GRANTS} grants, got {len(grants)}")
    return tuple(dict.fromkeys(grants))


def permits(acl: Acl, caller: str | None, wanted: Permission, *, ignore_public: bool = False) -> bool:
    """Tell whether an ACL gives a caller (a canonical id, None for an anonymous one) a right."""
    holders = {caller}
    if not ignore_public:
        holders.add(ALL_USERS)
        if caller is not None:
            holders.add(AUTHENTICATED_USERS)
    return any(grant.grantee in holders and grant.permission in (wanted, Permission.FULL_CONTROL) for grant in acl)


def is_public(acl: Acl) -> bool:
    """Tell whether an ACL gives strangers any right.

    Source:
        S3 user guide, "The meaning of 'public'": AllUsers and AuthenticatedUsers both are.
    """
    return any(grant.grantee in (ALL_USERS, AUTHENTICATED_USERS) for grant in acl)


def encode_acl(acl: Acl) -> str:
    """Return an ACL as text."""
    return orjson.dumps([[grant.grantee, grant.permission] for grant in acl]).decode()


def decode_acl(text: str) -> Acl:
    """Return the ACL of a text that encode_acl() made."""
    return tuple(Grant(grantee, Permission(permission)) for grantee, permission in orjson.loads(text))


def grant_members(acl: Acl, accounts: Sequence[Account]) -> list[dict[str, Any]]:
    """Return an ACL as the Grants of an answer."""
    names = {account.canonical_id: account.name for account in accounts}
    members = []
    # Groups first: clients of all ages take any order, and some of them sort by what groups have not.
    for grant in sorted(acl, key=lambda grant: not grant.grantee.startswith(_GROUPS)):
        if grant.grantee.startswith(_GROUPS):
            grantee = {"URI": grant.grantee, "Type": "Group"}
        else:
            grantee = {"ID": grant.grantee, "Type": "CanonicalUser"}
            if grant.grantee in names:
                grantee["DisplayName"] = names[grant.grantee]
        members.append({"Grantee": grantee, "Permission": grant.permission.value})
    return members
