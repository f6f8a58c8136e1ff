"""The agent: one process per job instance. This composition root puts it together and runs it to its end.

    python -m millrace.agent JOB_ID INSTANCE ATTEMPT

Settings come from the environment, everything else from the state store, so that a local process and an actor on
another machine run the same code. The exit code is 0 if the agent reported how its work ended, 3 if it lost its lease,
1 if it ended without a word (the scheduler then starts another attempt).
"""

import asyncio
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial

import uvloop

from millrace import settings as settings_module
from millrace.agents.backends import AgentBackends
from millrace.agents.breaking_off import StopWanted
from millrace.agents.endpoint import EndpointAgent
from millrace.agents.job_start import find_job_start
from millrace.agents.processing import ProcessingAgent
from millrace.agents.session import AgentSession, Session
from millrace.agents.training import TrainingAgent
from millrace.agents.transform import TransformAgent
from millrace.clock import SystemClock
from millrace.containers import all_images, container_runtime
from millrace.dataplane.limits import Limits
from millrace.engines.local import ENDPOINT_VARIABLE, instance_folder, process_start
from millrace.errors import NO_ROOM, InternalFailure, JobFailure, LeaseLost, StoreUnavailable
from millrace.jobs.job import EndpointJob, InstanceFinished, Job, JobKind, ProcessingJob, TrainingJob, TransformJob
from millrace.jobs.processing import ProcessingOutcome
from millrace.jobs.training import TrainingOutcome
from millrace.jobs.transform import InstanceOutcome
from millrace.log_format import set_up_logging
from millrace.open_files import allow_many_files
from millrace.ports.jobs import InstanceRef, NoSuchJob
from millrace.ports.journal import Journal
from millrace.settings import Settings
from millrace.store.filesystem import FilesystemObjects
from millrace.store.log_files import LogFiles
from millrace.store.opening import load_driver, open_agent_database
from millrace.store.sql_jobs import SqlJobStore
from millrace.store.sql_journal import SqlJournal
from millrace.store.sql_keys import SqlKeyStore
from millrace_algorithms.serving.memory import keep_freed_memory

__all__ = ["limits", "main", "warm_up"]

log = logging.getLogger("millrace.agent")

CREDENTIAL_SECONDS = 36 * 3600

EXIT_WITHOUT_A_WORD = 1
EXIT_LEASE_LOST = 3


def limits(settings: Settings) -> Limits:
    """Return the data plane's bounds out of the settings."""
    return Limits(
        chunk_bytes=settings.max_read_chunk_bytes,
        inflight_bytes=settings.max_inflight_bytes,
        answer_bytes=settings.max_answer_bytes,
    )


class Agent:
    """All parts of one agent."""

    def __init__(self, settings: Settings, ref: InstanceRef, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._ref = ref
        self._clock = SystemClock()
        self._database = open_agent_database(settings)
        self._jobs = SqlJobStore(self._database, clock=self._clock)
        self._keys = SqlKeyStore(self._database, clock=self._clock, account=settings.account)
        self._objects = FilesystemObjects(settings.objects_dir, clock=self._clock)
        self._logs = LogFiles(settings.logs_dir)
        self._images = all_images(settings, holds=True)
        self._endpoint_url = environ.get(ENDPOINT_VARIABLE)
        self._runtime = container_runtime(settings, environ, platform_url=self._endpoint_url)
        self._folder = instance_folder(settings.work_dir, ref.job_id, ref.index)

    async def run(self) -> None:
        """Register, work, report."""
        opening = AgentSession.open(
            self._ref,
            jobs=self._jobs,
            clock=self._clock,
            heartbeat_seconds=self._settings.heartbeat_seconds,
            process_start=process_start(os.getpid()) or 0,
            busy_seconds=self._settings.lease_seconds / 3,
            beat_alone=self._beat_alone,
        )
        async with opening as session:
            job = await self._jobs.get_by_id(self._ref.job_id)
            finished = await self.work(job, session)
            if session.suspended:
                return
            await session.report_progress()
            await session.post(finished)

    def _beat_alone(self, ref: InstanceRef, agent_id: str) -> None:
        """Send a heartbeat over a connection, and from a loop, of its own."""
        with closing(open_agent_database(self._settings)) as database:
            asyncio.run(SqlJobStore(database, clock=self._clock).heartbeat(ref, agent_id, None))

    async def work(self, job: Job, session: Session) -> InstanceFinished:
        """Do the instance's work and say how it ended.

        Raises:
            LeaseLost: Another attempt has the work.
            StoreUnavailable: The state store does not answer now. That is no fault of the job, so nothing is said of
                it: the next attempt goes on where this one stood.
        """
        training = processing = outcome = reason = None
        try:
            match job:
                case TrainingJob():
                    training = await self._training(job, session)
                case ProcessingJob():
                    processing = await self._processing(job, session)
                case TransformJob():
                    outcome, reason = await self._transform(job, session)
                case EndpointJob():
                    reason = await self._endpoint(job, session)
        except (LeaseLost, StoreUnavailable):
            raise
        except JobFailure as failure:
            reason = failure.reason
        except Exception as exc:
            log.exception("agent failed")
            full = isinstance(exc, OSError) and exc.errno in NO_ROOM
            cause = "the disk of the data directory is full; " if full else ""
            reason = InternalFailure(
                f"We encountered an internal error.  Please try again. ({cause}{type(exc).__name__}: {exc})"
            ).reason
        return InstanceFinished(
            at=self._clock.now(),
            index=self._ref.index,
            attempt=self._ref.attempt,
            outcome=outcome,
            training=training,
            processing=processing,
            failure_reason=reason,
        )

    async def _training(self, job: TrainingJob, session: Session) -> TrainingOutcome:
        agent = TrainingAgent(
            job,
            self._folder,
            backends=self._backends(session),
            stop_grace_seconds=self._settings.stop_grace_seconds,
        )
        return await agent.run()

    async def _processing(self, job: ProcessingJob, session: Session) -> ProcessingOutcome:
        _, request = await self._jobs.get_with_request(JobKind.PROCESSING, job.region, job.name)
        agent = ProcessingAgent(
            job,
            request,
            self._folder,
            backends=self._backends(session),
            stop_grace_seconds=self._settings.stop_grace_seconds,
        )
        return await agent.run()

    async def _transform(self, job: TransformJob, session: Session) -> tuple[InstanceOutcome, str | None]:
        """Return what was done, and why the instance failed as a whole, if it did."""
        agent = TransformAgent(
            job.spec,
            job.containers,
            job.arn,
            job.created_at,
            self._folder,
            backends=self._backends(session),
            grace_seconds=self._settings.serve_stop_grace_seconds,
            ping_window_seconds=self._settings.ping_window_seconds,
            limits=limits(self._settings),
            find_start=partial(find_job_start, self._jobs, job.id),
            resumed=job.resumes,
        )
        try:
            return await agent.run(), None
        except StopWanted:
            return agent.unfinished, None
        except JobFailure as failure:
            return agent.unfinished, failure.reason

    async def _endpoint(self, job: EndpointJob, session: Session) -> str | None:
        instance = job.instance(self._ref.index)
        if instance is None:
            raise LeaseLost(f"endpoint {job.name} has no instance {self._ref.index} any more")
        agent = EndpointAgent(
            job,
            instance,
            self._folder,
            backends=self._backends(session),
            grace_seconds=self._settings.serve_stop_grace_seconds,
        )
        return await agent.run()

    def _backends(self, session: Session) -> AgentBackends:
        return AgentBackends(
            session=session,
            objects=self._objects,
            logs=self._logs,
            images=self._images,
            runtime=self._runtime,
            endpoint_url=self._endpoint_url,
            mint_credentials=self._mint_credentials,
            journal=self._journal(session),
        )

    def _journal(self, session: Session) -> Journal | None:
        if not isinstance(session, AgentSession):
            return None
        return SqlJournal(self._database, self._ref, agent_id=session.agent_id, clock=self._clock)

    async def _mint_credentials(self, session_name: str) -> dict[str, str]:
        """Return temporary keys of the execution role, as the variables that AWS clients read."""
        key = await self._keys.create_session_key(
            role=self._settings.role_name, session_name=session_name[:64], duration_seconds=CREDENTIAL_SECONDS
        )
        return {
            "AWS_ACCESS_KEY_ID": key.id,
            "AWS_SECRET_ACCESS_KEY": key.secret,
            "AWS_SESSION_TOKEN": key.session_token or "",
        }

    def close(self) -> None:
        """Close the state file, and what the object store has open."""
        self._database.close()
        self._objects.close()


def warm_up() -> None:
    """Import what `main` will need with these settings: agents that are forked from this process share it."""
    load_driver(settings_module.load())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the agent that the arguments name and return its exit code."""
    job_id, index, attempt = (int(word) for word in (sys.argv[1:] if arguments is None else arguments))
    settings = settings_module.load()
    about = {"job_id": job_id, "instance": index, "attempt": attempt}
    set_up_logging(settings.log_level, settings.log_format, about=about)
    allow_many_files()
    try:
        with closing(Agent(settings, InstanceRef(job_id=job_id, index=index, attempt=attempt), os.environ)) as agent:
            keep_freed_memory()  # payloads come and go: a tenth of the data plane's time went into page faults
            uvloop.run(agent.run())
    except LeaseLost as exc:
        log.error("lease lost: %s", exc)
        return EXIT_LEASE_LOST
    except NoSuchJob:
        log.error("the job is gone")
        return EXIT_LEASE_LOST
    except StoreUnavailable as exc:
        log.error("state store unavailable: %s", exc)
        return EXIT_WITHOUT_A_WORD
    return 0


if __name__ == "__main__":
    sys.exit(main())
