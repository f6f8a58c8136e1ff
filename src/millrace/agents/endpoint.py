"""One instance of an endpoint: a model server that is kept up until it is wanted to stop."""

import asyncio
from hashlib import sha256
from pathlib import Path

from millrace.agents.backends import AgentBackends
from millrace.agents.log_stream import LogStream
from millrace.agents.serving import ServedModel, exit_failure, last_words, serve_model, serving_environment
from millrace.dataplane.container import wait_until_healthy
from millrace.errors import FAILURE_REASON_LIMIT, AlgorithmFailure, JobFailure
from millrace.jobs.job import EndpointJob, Instance, InstanceReady, InstanceStarted

__all__ = ["EndpointAgent", "instance_id"]

LOG_GROUP_PREFIX = "/aws/sagemaker/Endpoints/"


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
        name = f"{instance.variant}/{instance_id(str(job.arn), instance.index)}"
        self._stream = LogStream(backends.logs, LOG_GROUP_PREFIX + job.name, name)

    async def run(self) -> str | None:
        """Serve until wanted to stop; return why the instance failed, or None after a stop."""
        session = self._session
        ref = session.ref
        await session.post(InstanceStarted(at=session.clock.now(), index=ref.index, attempt=ref.attempt))
        model = self._instance.containers[0]
        try:
            environment = await serving_environment(
                model, region=self._job.region, name=self._job.name, backends=self._backends
            )
            async with serve_model(
                model,
                self._folder,
                name=f"{self._job.name}-{ref.index}",
                environment=environment,
                stream=self._stream,
                backends=self._backends,
                grace_seconds=self._grace,
                download_timeout_seconds=self._instance.download_timeout_seconds,
            ) as served:
                await self._serve(served)
        except JobFailure as failure:
            return self._reason(failure)
        return None

    async def _serve(self, served: ServedModel) -> None:
        """Wait for health, report it, then wait for a stop or for the container's end (which is a failure)."""
        ended = asyncio.create_task(served.container.wait())
        stop = asyncio.create_task(self._session.stop.wait())
        healthy = asyncio.create_task(
            wait_until_healthy(
                served.address, window_seconds=self._instance.startup_timeout_seconds, clock=self._session.clock
            )
        )
        try:
            await asyncio.wait({ended, stop, healthy}, return_when=asyncio.FIRST_COMPLETED)
            if stop.done():
                return
            if ended.done():
                raise await exit_failure(served, "before it answered /ping")
            if (failure := healthy.exception()) is not None:
                raise AlgorithmFailure(f"{failure}{last_words(served)}") from failure
            ref = self._session.ref
            await self._session.post(
                InstanceReady(
                    at=self._session.clock.now(), index=ref.index, attempt=ref.attempt, address=str(served.address)
                )
            )
            await asyncio.wait({ended, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not stop.done():
                failure = await exit_failure(served, "while it was in service")
                self._stream.write_now(f"[millrace] {failure}; another container is started in its place.")
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
            f"The primary container for production variant {self._instance.variant} did not pass the ping health "
            f"check. Please check CloudWatch logs for this endpoint. Cause: {failure}"
        )
        return text[:FAILURE_REASON_LIMIT]
