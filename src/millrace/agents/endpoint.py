"""One instance of an endpoint: a model server that is kept up until it is wanted to stop."""

import asyncio
from functools import partial
from hashlib import sha256
from pathlib import Path

from millrace.agents.backends import AgentBackends
from millrace.agents.breaking_off import StopWanted
from millrace.agents.chain import Chain, ChainLimits, plain_failure
from millrace.agents.serving import ServedModel, exit_failure, plan_containers, serve_model
from millrace.errors import FAILURE_REASON_LIMIT, JobFailure
from millrace.jobs.job import EndpointJob, Instance, InstanceReady, InstanceStarted
from millrace.ports.endpoints import INVOCATION_SECONDS, STREAM_SECONDS

__all__ = ["EndpointAgent", "instance_id"]

LOG_GROUP_PREFIX = "/aws/sagemaker/Endpoints/"

CHAIN_LIMITS = ChainLimits(
    answer_bytes=64 * 1024 * 1024,  # as much as an invocation may bring back; SageMaker's limit is 5 MB here
    held_bytes=64 * 1024 * 1024,
    seconds=INVOCATION_SECONDS,
    stream_seconds=STREAM_SECONDS,
)
"""What bounds the way of an invocation through several containers."""


def instance_id(arn: str, index: int) -> str:
    """Return the name of an instance in log streams: steady over attempts, shaped as EC2's."""
    return "i-" + sha256(f"{arn}/{index}".encode()).hexdigest()[:17]


class EndpointAgent:
    """Serves one instance of an endpoint."""

    def __init__(
        self,
        job: EndpointJob,
        instance: Instance,
        folder: Path,
        *,
        backends: AgentBackends,
        grace_seconds: float,
    ) -> None:
        self._job = job
        self._instance = instance
        self._folder = folder
        self._backends = backends
        self._session = backends.session
        self._grace = grace_seconds

    async def run(self) -> str | None:
        """Serve until wanted to stop; return why the instance failed, or None after a stop."""
        session = self._session
        ref = session.ref
        await session.post(InstanceStarted(at=session.clock.now(), index=ref.index, attempt=ref.attempt))
        try:
            plans = await plan_containers(
                self._instance.containers,
                region=self._job.region,
                name=self._job.name,
                group=LOG_GROUP_PREFIX + self._job.name,
                stream=f"{self._instance.variant}/{instance_id(str(self._job.arn), ref.index)}",
                backends=self._backends,
            )
            async with serve_model(
                plans,
                self._folder,
                name=f"{self._job.name}-{ref.index}",
                chain=partial(Chain, limits=CHAIN_LIMITS, failure_body=plain_failure),
                backends=self._backends,
                grace_seconds=self._grace,
                download_timeout_seconds=self._instance.download_timeout_seconds,
            ) as served:
                await self._serve(served)
        except StopWanted:
            return None
        except JobFailure as failure:
            return self._reason(failure)
        return None

    async def _serve(self, served: ServedModel) -> None:
        """Wait for health, report it, then wait for a stop or for a container's end (which is a failure)."""
        ended = asyncio.create_task(served.wait())
        stop = asyncio.create_task(self._session.stop.wait())
        healthy = asyncio.create_task(
            served.wait_until_healthy(window_seconds=self._instance.startup_timeout_seconds, clock=self._session.clock)
        )
        try:
            await asyncio.wait({ended, stop, healthy}, return_when=asyncio.FIRST_COMPLETED)
            if stop.done():
                return
            if ended.done():
                raise await exit_failure(ended.result(), "before it answered /ping")
            healthy.result()
            ref = self._session.ref
            await self._session.post(
                InstanceReady(
                    at=self._session.clock.now(), index=ref.index, attempt=ref.attempt, address=str(served.address)
                )
            )
            await asyncio.wait({ended, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not stop.done():
                failure = await exit_failure(ended.result(), "while it was in service")
                text = f"[millrace] {failure}; another instance of the model is started in its place."
                ended.result().stream.write_now(text)
                raise failure
        finally:
            for task in (ended, stop, healthy):
                task.cancel()

    def _reason(self, failure: JobFailure) -> str:
        """Word the endpoint's FailureReason as the service does, and add the cause.

        Source:
            containers.md 5.4; clients look for "ping health check".
        """
        text = (
            f"The {failure.container or 'primary'} container for production variant {self._instance.variant} did not "
            f"pass the ping health check. Please check CloudWatch logs for this endpoint. Cause: {failure}"
        )
        return text[:FAILURE_REASON_LIMIT]
