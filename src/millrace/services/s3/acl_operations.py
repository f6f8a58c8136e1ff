"""Tell and change the ACLs of buckets and objects."""

from collections.abc import Mapping
from dataclasses import replace

from millrace.names import ObjectRef, canonical_user_id
from millrace.ports.objects import ObjectStore
from millrace.protocol.message import Context, Handler, Params, Result
from millrace.services.s3.access import Access, object_acl, object_owner
from millrace.services.s3.acl import Acl, canned_acl, document_acl, encode_acl, grant_members, header_acl
from millrace.services.s3.bucket_rules import BucketRules
from millrace.services.s3.faults import fault
from millrace.services.s3.object_checks import check_version

__all__ = ["AclHandlers"]


class AclHandlers:
    """GetBucketAcl, PutBucketAcl, GetObjectAcl and PutObjectAcl."""

    def __init__(self, objects: ObjectStore, access: Access) -> None:
        self._objects = objects
        self._access = access

    def table(self) -> Mapping[str, Handler]:
        """Return the handlers by operation."""
        return {
            "GetBucketAcl": self.get_bucket_acl,
            "GetObjectAcl": self.get_object_acl,
            "PutBucketAcl": self.put_bucket_acl,
            "PutObjectAcl": self.put_object_acl,
        }

    async def get_bucket_acl(self, ctx: Context, params: Params) -> Result:
        """Tell who has which right on a bucket."""
        rules = await self._access.rules(params["Bucket"])
        acl = rules.acl
        if not rules.acls_count:
            acl = canned_acl("private", owner=rules.owner_id, bucket_owner=rules.owner_id)
        return await self._told(rules.owner, acl)

    async def get_object_acl(self, ctx: Context, params: Params) -> Result:
        """Tell who has which right on an object."""
        check_version(params)
        rules = await self._access.rules(params["Bucket"])
        info = await self._objects.get(_ref(params))
        return await self._told(object_owner(rules, info), object_acl(rules, info))

    async def put_bucket_acl(self, ctx: Context, params: Params) -> None:
        """Replace the ACL of a bucket."""
        rules = await self._access.rules(params["Bucket"])
        acl = await self._asked(rules, params, owner=rules.owner)
        if acl is not None:
            await self._objects.put_bucket_document(rules.name, "acl", encode_acl(acl))

    async def put_object_acl(self, ctx: Context, params: Params) -> None:
        """Replace the ACL of an object; its owner stays."""
        check_version(params)
        rules = await self._access.rules(params["Bucket"])
        info = await self._objects.get(_ref(params))
        acl = await self._asked(rules, params, owner=object_owner(rules, info))
        if acl is not None:
            text = encode_acl(acl)
            await self._objects.update_meta(_ref(params), lambda meta: replace(meta, acl=text))

    async def _asked(self, rules: BucketRules, params: Params, *, owner: str) -> Acl | None:
        """Return the new ACL, or None where ACLs are off and the one asked for says the same as none."""
        owner_id = canonical_user_id(owner)
        accounts = await self._access.accounts()
        document = params.get("AccessControlPolicy") or {}
        acl: Acl | None
        if params.get("ACL") is not None:
            acl = canned_acl(params["ACL"], owner=owner_id, bucket_owner=rules.owner_id)
        elif document.get("Grants") is not None or document.get("Owner") is not None:
            named = (document.get("Owner") or {}).get("ID")
            if not named:
                raise fault("MalformedACLError")
            if named != owner_id:
                raise fault("AccessDenied", "Access Denied: an ACL can't change the owner")
            acl = document_acl(document, accounts)
        else:
            acl = header_acl(params, accounts)
        if acl is None:
            raise fault("MissingSecurityHeader")
        if not rules.acls_count:
            self._access.refuse_acls(params)
            if any(grant.grantee != rules.owner_id for grant in acl):
                raise fault("AccessControlListNotSupported")
            return None
        self._access.check_public(rules, acl)
        return acl

    async def _told(self, owner: str, acl: Acl) -> Result:
        grants = grant_members(acl, await self._access.accounts())
        return {"Owner": await self._access.owner_members(owner), "Grants": grants}


def _ref(params: Params) -> ObjectRef:
    return ObjectRef(params["Bucket"], params["Key"])
