"""STS: who the caller is, and temporary keys."""

from collections.abc import Mapping
from typing import Any

from millrace.errors import AccessDenied, ValidationError
from millrace.names import Arn
from millrace.ports.keys import AccessKey, KeyStore
from millrace.protocol.message import Context, Handler, Params, Principal, Result
from millrace.services.iam.roles import unique_id

__all__ = ["handlers"]

DEFAULT_ROLE_SECONDS = 3600
DEFAULT_SESSION_SECONDS = 43_200


def handlers(*, keys: KeyStore) -> Mapping[str, Handler]:
    """Return STS's operations over a key store."""

    async def assume_role(ctx: Context, params: Params) -> Result:
        caller = _caller(ctx)
        role = _role_name(params["RoleArn"], caller, ctx.account)
        session = params["RoleSessionName"]
        key = await keys.create_session_key(
            role=role,
            session_name=session,
            duration_seconds=params.get("DurationSeconds", DEFAULT_ROLE_SECONDS),
            account=caller.account,
        )
        assumed = Principal(access_key=key.id, account=key.account, role=role, session=session)
        return {
            "Credentials": _credentials(key),
            "AssumedRoleUser": {"AssumedRoleId": f"{unique_id('AROA', role)}:{session}", "Arn": assumed.arn},
            "PackedPolicySize": 0,
            "SourceIdentity": params.get("SourceIdentity"),
        }

    async def get_session_token(ctx: Context, params: Params) -> Result:
        caller = _caller(ctx)
        key = await keys.create_session_key(
            role=caller.role,
            session_name=caller.session,
            duration_seconds=params.get("DurationSeconds", DEFAULT_SESSION_SECONDS),
            account=caller.account,
        )
        return {"Credentials": _credentials(key)}

    async def get_access_key_info(ctx: Context, params: Params) -> Result:
        """Answer the account that a key belongs to."""
        key = await keys.find_key(params["AccessKeyId"])
        if key is None:
            raise ValidationError(f"AccessKeyId: there is no access key {params['AccessKeyId']!r} here")
        return {"Account": key.account}

    return {
        "AssumeRole": assume_role,
        "GetAccessKeyInfo": get_access_key_info,
        "GetCallerIdentity": get_caller_identity,
        "GetSessionToken": get_session_token,
    }


async def get_caller_identity(ctx: Context, params: Params) -> Result:
    """Answer an assumed role: the SDK's get_execution_role() makes the role's name of it, and refuses a user."""
    caller = _caller(ctx)
    return {
        "UserId": f"{unique_id('AROA', caller.role)}:{caller.session}",
        "Account": caller.account,
        "Arn": caller.arn,
    }


def _caller(ctx: Context) -> Principal:
    if ctx.principal is None:
        raise AccessDenied("Only a signed request has a caller")
    return ctx.principal


def _role_name(text: str, caller: Principal, default_account: str) -> str:
    try:
        arn = Arn.parse(text)
    except ValueError as exc:
        raise ValidationError(f"RoleArn: {exc}") from None
    if arn.service != "iam" or not arn.resource.startswith("role/"):
        raise ValidationError(f"RoleArn: expected arn:aws:iam::<account>:role/<name>, got {text!r}")
    # Notebooks name roles of their account at AWS: the default account takes them for its own. Nobody else may become
    # a session of another account.
    if caller.account not in (arn.account, default_account):
        raise AccessDenied(f"User: {caller.arn} is not authorized to perform: sts:AssumeRole on resource: {text}")
    return arn.resource.rpartition("/")[2]


def _credentials(key: AccessKey) -> dict[str, Any]:
    return {
        "AccessKeyId": key.id,
        "SecretAccessKey": key.secret,
        "SessionToken": key.session_token,
        "Expiration": key.expires_at,
    }
