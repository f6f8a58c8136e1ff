"""Decide whether a caller may do what it asks for, and what a new object's owner and ACL are.

A request is allowed if the bucket's policy denies nothing and either the policy allows it, or the caller owns what it
is about, or an ACL that counts gives the caller the right. Within an account everybody may do everything: roles'
policies are not evaluated.

Source:
    S3 user guide, "How Amazon S3 authorizes a request".
"""

from collections.abc import Mapping, Sequence

from millrace.clock import Clock
from millrace.names import ObjectRef, canonical_user_id
from millrace.ports.keys import Account, Accounts
from millrace.ports.objects import BucketState, NoSuchKey, ObjectInfo, ObjectStore
from millrace.protocol.message import Context, Params
from millrace.services.s3.acl import (
    Acl,
    asks_for_acl,
    canned_acl,
    decode_acl,
    encode_acl,
    header_acl,
    is_public,
    permits,
)
from millrace.services.s3.bucket_policy import Effect
from millrace.services.s3.bucket_rules import BucketRules, NewBuckets, Ownership, bucket_rules
from millrace.services.s3.faults import fault
from millrace.services.s3.permissions import NEEDS, READ_SOURCE, READ_SOURCE_TAGS, SET_ACL, SET_TAGS, Need
from millrace.services.s3.request_facts import request_facts, subject_of

__all__ = ["Access", "OneAccount"]

_NEVER_DENIED_TO_OWNERS = frozenset({"s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy"})
"""An account can always take back a policy that locks it out, as its root user can."""

_MAX_RULES = 1024


class OneAccount:
    """The accounts of a server that knows no more than its own."""

    def __init__(self, account: str) -> None:
        self._accounts = [Account(id=account, name="millrace")]

    async def list_accounts(self) -> Sequence[Account]:
        return self._accounts


class Access:
    """Who may do what, over buckets' rules and objects' ACLs."""

    def __init__(
        self, objects: ObjectStore, accounts: Accounts, *, clock: Clock, new_buckets: NewBuckets = NewBuckets.PRIVATE
    ) -> None:
        self.new_buckets = new_buckets
        self._objects = objects
        self._accounts = accounts
        self._clock = clock
        self._rules: dict[str, tuple[BucketState, BucketRules]] = {}

    async def rules(self, bucket: str) -> BucketRules:
        """Return a bucket's rules; raises NoSuchBucket."""
        state = await self._objects.get_bucket_state(bucket)
        kept = self._rules.get(bucket)
        if kept is not None and kept[0] is state:
            return kept[1]
        if len(self._rules) >= _MAX_RULES:
            self._rules.clear()
        rules = bucket_rules(state, self.new_buckets)
        self._rules[bucket] = (state, rules)
        return rules

    async def accounts(self) -> Sequence[Account]:
        """Return the accounts that grants may name."""
        return await self._accounts.list_accounts()

    async def owner_members(self, account: str) -> dict[str, str]:
        """Return an account as an Owner of an answer."""
        members = {"ID": canonical_user_id(account)}
        for known in await self._accounts.list_accounts():
            if known.id == account:
                members["DisplayName"] = known.name
        return members

    async def require(self, ctx: Context, operation: str, params: Params) -> None:
        """Raise AccessDenied unless the caller may do what it asks for."""
        if operation in ("CreateBucket", "ListBuckets"):
            if ctx.principal is None:
                raise fault("AccessDenied")
            return
        rules = await self.rules(params["Bucket"])
        if params.get("ExpectedBucketOwner") not in (None, rules.owner):
            raise fault("AccessDenied")
        if operation != "DeleteObjects":  # which asks for each of its keys
            await self.require_need(ctx, rules, NEEDS[operation], params.get("Key"), params)

    async def require_source(self, ctx: Context, source: ObjectRef, params: Params) -> None:
        """Raise AccessDenied unless the caller may read the source of a copy."""
        rules = await self.rules(source.bucket)
        if params.get("ExpectedSourceBucketOwner") not in (None, rules.owner):
            raise fault("AccessDenied")
        await self.require_need(ctx, rules, READ_SOURCE, source.key, {})

    async def require_source_tags(self, ctx: Context, source: ObjectRef) -> None:
        """Raise AccessDenied unless the caller may read the tags of the source of a copy."""
        await self.require_need(ctx, await self.rules(source.bucket), READ_SOURCE_TAGS, source.key, {})

    async def require_need(self, ctx: Context, rules: BucketRules, need: Need, key: str | None, params: Params) -> None:
        """Raise AccessDenied unless policy, ownership or ACL give what is needed."""
        caller = None if ctx.principal is None else ctx.principal.account
        owns_bucket = caller == rules.owner
        if owns_bucket and rules.policy is None and not (need.of_object and rules.acls_count):
            return
        info = await self._find(rules, key) if need.of_object and key else None
        effect = await self._policy_effect(ctx, rules, need, key, params, info)
        if effect is Effect.DENY:
            raise fault("AccessDenied")
        if effect is Effect.ALLOW:
            return
        caller_id = None if caller is None else canonical_user_id(caller)
        if not need.of_object:
            allowed = owns_bucket or _acl_permits(rules, rules.acl, caller_id, need)
        elif info is None:
            # Whoever may list the bucket may learn that an object is not there; the operation itself tells so.
            listing = NEEDS["ListObjectsV2"]
            allowed = (
                owns_bucket
                or _acl_permits(rules, rules.acl, caller_id, listing)
                or await self._policy_effect(ctx, rules, listing, None, {"Prefix": key}, None) is Effect.ALLOW
            )
        else:
            allowed = caller == object_owner(rules, info) or _acl_permits(
                rules, object_acl(rules, info), caller_id, need
            )
        if not allowed:
            raise fault("AccessDenied")

    async def _policy_effect(
        self, ctx: Context, rules: BucketRules, need: Need, key: str | None, params: Params, info: ObjectInfo | None
    ) -> Effect:
        policy = rules.policy
        if policy is None:
            return Effect.NOTHING
        principal = ctx.principal
        owns_bucket = principal is not None and principal.account == rules.owner
        subject = subject_of(ctx, None if principal is None else canonical_user_id(principal.account))
        resource = f"arn:aws:s3:::{rules.name}/{key}" if need.names_key else f"arn:aws:s3:::{rules.name}"
        if info is None and key and need.names_key:
            info = await self._find(rules, key)
        tags: Mapping[str, str] = {} if info is None else info.meta.tags
        facts = request_facts(ctx, params, need.action, now=self._clock.now(), existing_tags=tags)
        effect = policy.evaluate(subject, need.action, resource, facts)
        if effect is Effect.DENY and owns_bucket and need.action in _NEVER_DENIED_TO_OWNERS:
            return Effect.NOTHING
        if effect is Effect.ALLOW and rules.block.restrict and policy.is_public and not owns_bucket:
            return Effect.NOTHING
        return effect

    async def _find(self, rules: BucketRules, key: str) -> ObjectInfo | None:
        try:
            return await self._objects.get(ObjectRef(rules.name, key))
        except NoSuchKey:
            return None

    async def new_bucket_acl(self, ctx: Context, params: Params, ownership: Ownership) -> Acl | None:
        """Return the ACL that CreateBucket asks for, or None for the owner's."""
        assert ctx.principal is not None, "only a signed request makes a bucket"
        owner = canonical_user_id(ctx.principal.account)
        acl = await self._asked_acl(params, owner=owner, bucket_owner=owner)
        if acl is not None and ownership is Ownership.ENFORCED and len(acl) > 1:
            raise fault("InvalidBucketAclWithObjectOwnership")
        return acl

    async def new_object(self, ctx: Context, params: Params, tags: Mapping[str, str]) -> tuple[str, str]:
        """Return owner and ACL of an object that is about to be stored with these tags, as its meta keeps them.

        Raises:
            S3Error: The ACL that the request asks for can't be set here, or the caller may not set ACL or tags.
        """
        rules = await self.rules(params["Bucket"])
        if asks_for_acl(params):
            await self.require_need(ctx, rules, SET_ACL, params["Key"], params)
        if tags:
            await self.require_need(ctx, rules, SET_TAGS, params["Key"], params)
        if not rules.acls_count:
            self.refuse_acls(params)
            return "", ""
        owner = rules.owner if ctx.principal is None else ctx.principal.account
        if rules.ownership is Ownership.PREFERRED and params.get("ACL") == "bucket-owner-full-control":
            owner = rules.owner
        owner_id = canonical_user_id(owner)
        acl = await self._asked_acl(params, owner=owner_id, bucket_owner=rules.owner_id)
        self.check_public(rules, acl)
        private = canned_acl("private", owner=owner_id, bucket_owner=rules.owner_id)
        return "" if owner == rules.owner else owner, "" if acl in (None, private) else encode_acl(acl or ())

    async def _asked_acl(self, params: Params, *, owner: str, bucket_owner: str) -> Acl | None:
        granted = header_acl(params, await self.accounts())
        if params.get("ACL") is None:
            return granted
        if granted is not None:
            raise fault("InvalidRequest", "Specifying both Canned ACLs and Header Grants is not allowed")
        return canned_acl(params["ACL"], owner=owner, bucket_owner=bucket_owner)

    def refuse_acls(self, params: Params) -> None:
        """Raise AccessControlListNotSupported if a request sets an ACL where ACLs are off.

        Source:
            S3 user guide, "Disabling ACLs": only "PUT requests that don't specify an ACL or specify bucket owner full
            control ACLs" succeed.
        """
        asked = params.get("ACL") or "bucket-owner-full-control"
        if asked != "bucket-owner-full-control" or any(name.startswith("Grant") for name in params):
            raise fault("AccessControlListNotSupported")

    def check_public(self, rules: BucketRules, acl: Acl | None) -> None:
        """Raise AccessDenied for a public ACL where those are blocked."""
        if acl is not None and rules.block.refuse_acls and is_public(acl):
            raise fault("AccessDenied", "Access Denied: public ACLs are blocked by the bucket's public access block")


def object_owner(rules: BucketRules, info: ObjectInfo) -> str:
    """Return the account that owns an object."""
    return info.meta.owner or rules.owner if rules.acls_count else rules.owner


def object_acl(rules: BucketRules, info: ObjectInfo) -> Acl:
    """Return the ACL of an object that counts."""
    if info.meta.acl and rules.acls_count:
        return decode_acl(info.meta.acl)
    owner = canonical_user_id(object_owner(rules, info))
    return canned_acl("private", owner=owner, bucket_owner=rules.owner_id)


def _acl_permits(rules: BucketRules, acl: Acl, caller_id: str | None, need: Need) -> bool:
    if need.right is None or not rules.acls_count:
        return False
    return permits(acl, caller_id, need.right, ignore_public=rules.block.ignore_acls)
