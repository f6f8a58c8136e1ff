"""Run the instances of one transform beside each other in this process."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

import orjson

from millrace.agents.breaking_off import StopWanted
from millrace.agents.process_journal import ProcessJournals
from millrace.agents.session import DetachedSession
from millrace.agents.transform import TransformAgent
from millrace.dataplane.checkpoints import JOINT_KEY
from millrace.dataplane.draft_names import drafts_beside
from millrace.dataplane.outcomes import add_outcomes, add_progress
from millrace.jobs.transform import InstanceOutcome, Progress
from millrace.ports.objects import DraftHeld, NoSuchBucket, ObjectStore

__all__ = ["LocalInstances"]

AgentMaker = Callable[[DetachedSession, ProcessJournals], TransformAgent]


class LocalInstances:
    """The agents of one transform, each with a model of its own.

    Args:
        sessions: The standing of each instance.
        make: Returns the agent of one.
        objects: Where outputs are.
        bucket: Theirs.
        failures_kept: Failed objects that are told in full.
        told: Returns a message with places as the person who asked knows them.
    """

    def __init__(
        self,
        sessions: Sequence[DetachedSession],
        make: AgentMaker,
        *,
        objects: ObjectStore,
        bucket: str,
        failures_kept: int,
        told: Callable[[str], str],
    ) -> None:
        self._sessions = sessions
        self._objects = objects
        self._bucket = bucket
        self._failures_kept = failures_kept
        self._told = told
        self._journals = ProcessJournals()
        self._agents = [make(session, self._journals) for session in sessions]
        self.outcomes: Sequence[InstanceOutcome] = ()
        """How each of them ended, once `run` has returned."""

    @property
    def progress(self) -> Progress:
        """The live counters of all."""
        return add_progress([agent.progress for agent in self._agents])

    async def run(self) -> InstanceOutcome:
        """Run all of them to their end; if one fails as a whole, the others are stopped.

        Raises:
            JobFailure: The first one that an instance raised.
        """
        work = [asyncio.create_task(_run(agent)) for agent in self._agents]
        try:
            await asyncio.wait(work, return_when=asyncio.FIRST_EXCEPTION)
            for session in self._sessions if any(task.done() and task.exception() for task in work) else ():
                session.stop.set()
            outcomes = await asyncio.gather(*work, return_exceptions=True)
            await self._forget_drafts()
        finally:
            for task in work:
                task.cancel()
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        self.outcomes = [self._in_words(outcome) for outcome in outcomes if isinstance(outcome, InstanceOutcome)]
        return add_outcomes(self.outcomes, failures_kept=self._failures_kept)

    def _in_words(self, outcome: InstanceOutcome) -> InstanceOutcome:
        failures = tuple(replace(failure, message=self._told(failure.message)) for failure in outcome.failures)
        return replace(outcome, failures=failures)

    async def _forget_drafts(self) -> None:
        """Remove what is left of outputs that can't be put together: nobody resumes this transform."""
        for entries in self._journals.entries.values():
            for key, entry in entries.items():
                if not key.startswith(("s3://", JOINT_KEY)):
                    continue
                for draft in drafts_beside(orjson.loads(entry)["draft"]):
                    with suppress(DraftHeld, NoSuchBucket):
                        await self._objects.discard_draft(self._bucket, draft)


async def _run(agent: TransformAgent) -> InstanceOutcome:
    try:
        return await agent.run()
    except StopWanted:
        return agent.unfinished
