"""Amazon S3: buckets and objects over an ObjectStore."""

from collections.abc import Mapping

from millrace.clock import Clock
from millrace.ports.objects import ObjectStore
from millrace.protocol.message import Context, Handler, Params, Reply, Result
from millrace.services.s3.bucket_settings import BucketSettingHandlers
from millrace.services.s3.buckets import BucketHandlers
from millrace.services.s3.copies import CopyHandlers
from millrace.services.s3.faults import fault, store_errors
from millrace.services.s3.listings import ListingHandlers
from millrace.services.s3.multipart import MultipartHandlers
from millrace.services.s3.objects import ObjectHandlers

__all__ = ["handlers"]


def handlers(objects: ObjectStore, *, account: str, clock: Clock | None = None) -> Mapping[str, Handler]:
    """Return S3's handlers by operation.

    Args:
        objects: Where buckets and objects are.
        account: The account that owns all buckets.
        clock: Unused: the store gives objects their times. Here so that all services are put together alike.
    """
    table = {
        **BucketHandlers(objects, account=account).table(),
        **BucketSettingHandlers(objects, account=account).table(),
        **CopyHandlers(objects, account=account).table(),
        **ListingHandlers(objects, account=account).table(),
        **MultipartHandlers(objects, account=account).table(),
        **ObjectHandlers(objects).table(),
    }
    return {operation: _checked(handler, objects, account) for operation, handler in table.items()}


def _checked(handler: Handler, objects: ObjectStore, account: str) -> Handler:
    """Answer for the expected owner before the handler, and in S3's words for the store's errors."""

    async def answer(ctx: Context, params: Params) -> Result | Reply | None:
        with store_errors():
            expected = params.get("ExpectedBucketOwner")
            if expected is not None and expected != account:
                await objects.get_bucket(params["Bucket"])
                raise fault("AccessDenied")
            return await handler(ctx, params)

    return answer
