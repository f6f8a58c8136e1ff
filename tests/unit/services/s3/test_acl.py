"""Access control lists: canned, from headers and documents, and what they permit."""

import pytest

from millrace.errors import S3Error
from millrace.ports.keys import Account
from millrace.services.s3.acl import (
    ALL_USERS,
    AUTHENTICATED_USERS,
    Grant,
    Permission,
    canned_acl,
    decode_acl,
    document_acl,
    encode_acl,
    grant_members,
    header_acl,
    is_public,
    permits,
)

ANN = Account(id="111122223333", name="ann@example.com")
BOB = Account(id="444455556666", name="bob")
ACCOUNTS = [ANN, BOB]


@pytest.mark.parametrize(
    ("name", "stranger", "known", "bucket_owner"),
    [
        ("private", False, False, False),
        ("public-read", True, True, True),
        ("authenticated-read", False, True, True),
        ("bucket-owner-read", False, False, True),
        ("bucket-owner-full-control", False, False, True),
    ],
)
def test_a_canned_acl_lets_read(name: str, stranger: bool, known: bool, bucket_owner: bool) -> None:
    """Its owner always may; who else depends on its name."""
    acl = canned_acl(name, owner=ANN.canonical_id, bucket_owner=BOB.canonical_id)
    assert permits(acl, ANN.canonical_id, Permission.WRITE_ACP)
    assert permits(acl, None, Permission.READ) is stranger
    assert permits(acl, "somebody", Permission.READ) is known
    assert permits(acl, BOB.canonical_id, Permission.READ) is bucket_owner
    assert not permits(acl, None, Permission.READ, ignore_public=True)
    assert is_public(acl) is (stranger or known)
    assert decode_acl(encode_acl(acl)) == acl


def test_headers_name_grantees_in_three_ways() -> None:
    """By canonical id, by a group's address, and by a name that is an e-mail address."""
    params = {
        "GrantRead": f'uri="{ALL_USERS}", emailAddress="{ANN.name}"',
        "GrantFullControl": f"id={BOB.canonical_id}",
    }
    assert set(header_acl(params, ACCOUNTS) or ()) == {
        Grant(ALL_USERS, Permission.READ),
        Grant(ANN.canonical_id, Permission.READ),
        Grant(BOB.canonical_id, Permission.FULL_CONTROL),
    }
    assert header_acl({}, ACCOUNTS) is None


@pytest.mark.parametrize(
    ("grantee", "code"),
    [
        ({"ID": "nobody"}, "InvalidArgument"),
        ({"EmailAddress": "no@example.com"}, "UnresolvableGrantByEmailAddress"),
        ({"URI": "http://example.com/group"}, "InvalidArgument"),
        ({}, "MalformedACLError"),
    ],
)
def test_a_grantee_must_exist(grantee: dict[str, str], code: str) -> None:
    """What nobody is called is refused, not kept."""
    with pytest.raises(S3Error) as caught:
        document_acl({"Grants": [{"Grantee": grantee, "Permission": "READ"}]}, ACCOUNTS)
    assert caught.value.wire_code == code


def test_an_acl_may_have_a_hundred_grants() -> None:
    """One more is refused."""
    accounts = [Account(id=f"{number:012}", name=str(number)) for number in range(101)]
    grants = [{"Grantee": {"ID": account.canonical_id}, "Permission": "READ"} for account in accounts]
    assert len(document_acl({"Grants": grants[:100]}, accounts)) == 100
    with pytest.raises(S3Error, match="at most 100 grants, got 101"):
        document_acl({"Grants": grants}, accounts)


def test_grants_are_told_with_names() -> None:
    """Groups come first, then accounts with their display names."""
    acl = (Grant(ANN.canonical_id, Permission.FULL_CONTROL), Grant(AUTHENTICATED_USERS, Permission.READ))
    assert grant_members(acl, ACCOUNTS) == [
        {"Grantee": {"URI": AUTHENTICATED_USERS, "Type": "Group"}, "Permission": "READ"},
        {
            "Grantee": {"ID": ANN.canonical_id, "Type": "CanonicalUser", "DisplayName": ANN.name},
            "Permission": "FULL_CONTROL",
        },
    ]
