"""IAM's operations over a document store."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from millrace.errors import ValidationError
from millrace.ports.documents import Document, DocumentExists, DocumentStore, NoSuchDocument
from millrace.protocol.message import Context, Handler, Params, Result
from millrace.services.iam.faults import DeleteConflict, EntityAlreadyExists, NoSuchEntity
from millrace.services.iam.roles import (
    SAGEMAKER_TRUST,
    Role,
    checked_policy,
    encoded_policy,
    role_description,
    unique_id,
)

__all__ = ["KIND", "handlers"]

KIND = "iam-role"
REGION = ""  # IAM has none
DEFAULT_PAGE = 100
# The default role of an account is older than anything in it.
DEFAULT_ROLE_CREATED = datetime(2026, 1, 1, tzinfo=UTC)


def handlers(*, documents: DocumentStore, role_name: str) -> Mapping[str, Handler]:
    """Return IAM's operations.

    Args:
        documents: Where roles are kept.
        role_name: The execution role that exists from the start, trusted by sagemaker.amazonaws.com.
    """
    operations = _Roles(documents, role_name)
    return {
        "AttachRolePolicy": operations.attach_policy,
        "CreateRole": operations.create,
        "DeleteRole": operations.delete,
        "DeleteRolePolicy": operations.delete_policy,
        "DetachRolePolicy": operations.detach_policy,
        "GetRole": operations.get,
        "GetRolePolicy": operations.get_policy,
        "GetUser": get_user,
        "ListAttachedRolePolicies": operations.list_attached,
        "ListRolePolicies": operations.list_policies,
        "ListRoleTags": operations.list_tags,
        "ListRoles": operations.list,
        "PutRolePolicy": operations.put_policy,
        "SimulatePrincipalPolicy": simulate_principal_policy,
        "TagRole": operations.tag,
        "UntagRole": operations.untag,
        "UpdateAssumeRolePolicy": operations.update_trust,
        "UpdateRole": operations.update,
    }


class _Roles:
    """The operations on roles. The default role is stored only once it has been changed."""

    def __init__(self, documents: DocumentStore, default_name: str) -> None:
        self._documents = documents
        # A change reads, then writes: two at a time would lose one.
        self._changing = asyncio.Lock()
        self._default = Document(
            kind=KIND,
            region=REGION,
            name=default_name,
            content=Role(name=default_name, trust=SAGEMAKER_TRUST).content,
            created_at=DEFAULT_ROLE_CREATED,
            modified_at=DEFAULT_ROLE_CREATED,
        )

    async def _find(self, name: str) -> Document:
        document = await self._documents.find(KIND, REGION, name)
        if document is not None:
            return document
        if name == self._default.name:
            return self._default
        raise NoSuchEntity(f"The role with name {name} cannot be found.")

    async def _role(self, params: Params) -> Role:
        return Role.from_content((await self._find(params["RoleName"])).content)

    async def _change(self, params: Params, change: Callable[[Role], Role]) -> None:
        async with self._changing:
            changed = change(await self._role(params))
            await self._documents.put(KIND, REGION, changed.name, changed.content)

    async def create(self, ctx: Context, params: Params) -> Result:
        role = Role(
            name=params["RoleName"],
            trust=checked_policy(params["AssumeRolePolicyDocument"], "AssumeRolePolicyDocument"),
            path=params.get("Path", "/"),
            description=params.get("Description"),
            max_session_seconds=params.get("MaxSessionDuration", 3600),
            tags={tag["Key"]: tag["Value"] for tag in params.get("Tags", ())},
        )
        taken = EntityAlreadyExists(f"Role with name {role.name} already exists.")
        if role.name == self._default.name:
            raise taken
        try:
            document = await self._documents.put(KIND, REGION, role.name, role.content, create=True)
        except DocumentExists:
            raise taken from None
        return {"Role": role_description(role, ctx.account, document.created_at)}

    async def get(self, ctx: Context, params: Params) -> Result:
        document = await self._find(params["RoleName"])
        return {"Role": role_description(Role.from_content(document.content), ctx.account, document.created_at)}

    async def list(self, ctx: Context, params: Params) -> Result:
        prefix = params.get("PathPrefix", "/")
        stored = {document.name: document for document in await self._documents.list(KIND, REGION)}
        known = {self._default.name: self._default, **stored}
        roles = [
            role_description(role, ctx.account, known[name].created_at)
            for name in sorted(known)
            if (role := Role.from_content(known[name].content)).path.startswith(prefix)
        ]
        return _page(params, "Roles", roles, lambda role: role["RoleName"])

    async def delete(self, ctx: Context, params: Params) -> None:
        role = await self._role(params)
        if role.attached:
            raise DeleteConflict("Cannot delete entity, must detach all policies first.")
        if role.inline:
            raise DeleteConflict("Cannot delete entity, must delete policies first.")
        try:
            await self._documents.delete(KIND, REGION, role.name)
        except NoSuchDocument:
            raise DeleteConflict(f"The role {role.name} is the server's own execution role and stays.") from None

    async def update(self, ctx: Context, params: Params) -> Result:
        def change(role: Role) -> Role:
            return replace(
                role,
                description=params.get("Description", role.description),
                max_session_seconds=params.get("MaxSessionDuration", role.max_session_seconds),
            )

        await self._change(params, change)
        return {}

    async def update_trust(self, ctx: Context, params: Params) -> None:
        trust = checked_policy(params["PolicyDocument"], "PolicyDocument")
        await self._change(params, lambda role: replace(role, trust=trust))

    async def put_policy(self, ctx: Context, params: Params) -> None:
        document = checked_policy(params["PolicyDocument"], "PolicyDocument")
        await self._change(params, lambda role: replace(role, inline={**role.inline, params["PolicyName"]: document}))

    async def get_policy(self, ctx: Context, params: Params) -> Result:
        role = await self._role(params)
        name = params["PolicyName"]
        if name not in role.inline:
            raise _no_policy(name)
        return {"RoleName": role.name, "PolicyName": name, "PolicyDocument": encoded_policy(role.inline[name])}

    async def delete_policy(self, ctx: Context, params: Params) -> None:
        def change(role: Role) -> Role:
            if params["PolicyName"] not in role.inline:
                raise _no_policy(params["PolicyName"])
            return replace(role, inline=_without(role.inline, [params["PolicyName"]]))

        await self._change(params, change)

    async def list_policies(self, ctx: Context, params: Params) -> Result:
        return _page(params, "PolicyNames", sorted((await self._role(params)).inline), lambda name: name)

    async def attach_policy(self, ctx: Context, params: Params) -> None:
        arn = params["PolicyArn"]
        if ":policy/" not in arn:
            raise ValidationError(f"PolicyArn: expected arn:aws:iam::<account>:policy/<name>, got {arn!r}")
        name = arn.rpartition("/")[2]
        await self._change(params, lambda role: replace(role, attached={**role.attached, arn: name}))

    async def detach_policy(self, ctx: Context, params: Params) -> None:
        def change(role: Role) -> Role:
            if params["PolicyArn"] not in role.attached:
                raise NoSuchEntity(f"Policy {params['PolicyArn']} was not found.")
            return replace(role, attached=_without(role.attached, [params["PolicyArn"]]))

        await self._change(params, change)

    async def list_attached(self, ctx: Context, params: Params) -> Result:
        attached = sorted((await self._role(params)).attached.items())
        policies = [{"PolicyArn": arn, "PolicyName": name} for arn, name in attached]
        return _page(params, "AttachedPolicies", policies, lambda policy: policy["PolicyArn"])

    async def tag(self, ctx: Context, params: Params) -> None:
        added = {tag["Key"]: tag["Value"] for tag in params["Tags"]}
        await self._change(params, lambda role: replace(role, tags={**role.tags, **added}))

    async def untag(self, ctx: Context, params: Params) -> None:
        await self._change(params, lambda role: replace(role, tags=_without(role.tags, params["TagKeys"])))

    async def list_tags(self, ctx: Context, params: Params) -> Result:
        tags = [{"Key": key, "Value": value} for key, value in sorted((await self._role(params)).tags.items())]
        return _page(params, "Tags", tags, lambda tag: tag["Key"])


async def simulate_principal_policy(ctx: Context, params: Params) -> Result:
    """Allow everything: that is what the server does, and what SDK v3 asks before it trains."""
    resources = params.get("ResourceArns") or ["*"]
    return {
        "EvaluationResults": [
            {"EvalActionName": action, "EvalResourceName": resource, "EvalDecision": "allowed"}
            for action in params["ActionNames"]
            for resource in resources
        ],
        "IsTruncated": False,
    }


async def get_user(ctx: Context, params: Params) -> Result:
    """Answer the account's root: there are no users here."""
    name = params.get("UserName")
    if name is not None:
        raise NoSuchEntity(f"The user with name {name} cannot be found.")
    return {
        "User": {
            "Path": "/",
            "UserName": "root",
            "UserId": unique_id("AIDA", ctx.account),
            "Arn": f"arn:aws:iam::{ctx.account}:root",
            "CreateDate": DEFAULT_ROLE_CREATED,
        }
    }


def _no_policy(name: str) -> NoSuchEntity:
    return NoSuchEntity(f"The role policy with name {name} cannot be found.")


def _without(entries: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    return {key: value for key, value in entries.items() if key not in names}


def _page(params: Params, member: str, entries: Sequence[Any], name: Callable[[Any], str]) -> dict[str, Any]:
    """Return the entries after the marker, which is the name of the last one told."""
    marker = params.get("Marker", "")
    limit = params.get("MaxItems", DEFAULT_PAGE)
    rest = [entry for entry in entries if name(entry) > marker]
    if len(rest) <= limit:
        return {member: rest, "IsTruncated": False}
    return {member: rest[:limit], "IsTruncated": True, "Marker": name(rest[limit - 1])}
