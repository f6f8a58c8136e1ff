"""Amazon S3: buckets and objects over an ObjectStore."""

from collections.abc import Mapping

from millrace.clock import Clock, SystemClock
from millrace.ports.keys import Accounts
from millrace.ports.objects import ObjectStore
from millrace.protocol.message import Context, Handler, Params, Reply, Result
from millrace.services.s3.access import Access, OneAccount
from millrace.services.s3.acl_operations import AclHandlers
from millrace.services.s3.browsers import Browsers
from millrace.services.s3.bucket_rules import NewBuckets
from millrace.services.s3.bucket_settings import BucketSettingHandlers
from millrace.services.s3.buckets import BucketHandlers
from millrace.services.s3.copies import CopyHandlers
from millrace.services.s3.faults import store_errors
from millrace.services.s3.listings import ListingHandlers
from millrace.services.s3.multipart import MultipartHandlers
from millrace.services.s3.objects import ObjectHandlers

__all__ = ["Browsers", "NewBuckets", "handlers"]


def handlers(
    objects: ObjectStore,
    *,
    account: str,
    accounts: Accounts | None = None,
    new_buckets: NewBuckets = NewBuckets.PRIVATE,
    clock: Clock | None = None,
) -> Mapping[str, Handler]:
    """Return S3's handlers by operation.

    Args:
        objects: Where buckets and objects are.
        account: The default account.
        accounts: All accounts; by default there is only that one.
        new_buckets: What a bucket allows whose owner has ruled nothing.
        clock: Tells policies the time.
    """
    access = Access(objects, accounts or OneAccount(account), clock=clock or SystemClock(), new_buckets=new_buckets)
    table = {
        **AclHandlers(objects, access).table(),
        **BucketHandlers(objects, access).table(),
        **BucketSettingHandlers(objects, access).table(),
        **CopyHandlers(objects, access).table(),
        **ListingHandlers(objects, access).table(),
        **MultipartHandlers(objects, access).table(),
        **ObjectHandlers(objects, access).table(),
    }
    return {operation: _checked(operation, handler, access) for operation, handler in table.items()}


def _checked(operation: str, handler: Handler, access: Access) -> Handler:
    """Ask whether the caller may before the handler does anything; answer in S3's words for the store's errors."""

    async def answer(ctx: Context, params: Params) -> Result | Reply | None:
        with store_errors():
            await access.require(ctx, operation, params)
            return await handler(ctx, params)

    return answer
