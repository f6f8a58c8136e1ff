"""Write the manifests of what an instance of a transform job captured."""

import logging
from collections.abc import Awaitable, Callable, Sequence

from millrace.dataplane.capture import ManifestPlan, iter_manifest
from millrace.errors import InfrastructureError, LeaseLost
from millrace.ports.objects import ObjectMeta, ObjectStore, ObjectStoreError

__all__ = ["write_manifests"]

log = logging.getLogger(__name__)


async def write_manifests(
    plans: Sequence[ManifestPlan],
    meta: ObjectMeta,
    *,
    objects: ObjectStore,
    check_lease: Callable[[], Awaitable[None]],
    report: Callable[[str], None],
) -> None:
    """Write manifests; `report` is told what could not be written, for the outputs are there and the job did its work.

    Nothing is written once the lease is lost: the attempt that has it writes them.
    """
    for plan in plans:
        try:
            await _write(plan, meta, objects, check_lease)
        except LeaseLost:
            return
        except (ObjectStoreError, InfrastructureError, OSError) as exc:
            log.warning("manifest not written", extra={"manifest": str(plan.ref)}, exc_info=True)
            report(f"{plan.ref.bucket}/{plan.ref.key}: the data capture manifest could not be written: {exc}")


async def _write(
    plan: ManifestPlan, meta: ObjectMeta, objects: ObjectStore, check_lease: Callable[[], Awaitable[None]]
) -> None:
    writer = await objects.open_writer(plan.ref, meta)
    try:
        for piece in iter_manifest(plan.groups):
            await writer.write(piece)
        await check_lease()
        await writer.commit()
    finally:
        await writer.abort()  # harmless after the commit
