"""Find out which objects an instance of a transform job takes.

Theory. An instance that is alone needs no object before it takes it: it lists ahead of its work. Shares, and ranges,
follow from the whole listing; so do answers to the question what other jobs have begun of a share. Whatever is listed
whole is kept in files, and never in memory: of a million objects that is 400 MB.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path

from millrace.agents.session import Session
from millrace.dataplane.dealing import deal_out
from millrace.dataplane.formats.job import JobFormats
from millrace.dataplane.input_file import InputFile
from millrace.dataplane.inputs import Inputs, KeptInputs
from millrace.dataplane.listing import list_ahead, list_whole
from millrace.dataplane.range_rules import cut_inputs, tell_whole
from millrace.dataplane.shares import JobShares
from millrace.errors import LeaseLost, StoreUnavailable
from millrace.jobs.job import ResumedJob, work_name
from millrace.jobs.transform import TransformSpec
from millrace.jobs.transform_options import job_options
from millrace.names import Arn
from millrace.ports.journal import Journal
from millrace.ports.objects import ObjectStore

__all__ = ["InstanceInputs"]


class InstanceInputs:
    """What one instance of a job takes of the job's input.

    Args:
        spec: What the client asked for.
        arn: The job's name.
        created_at: When it was made.
        folder: For what is listed long before it is taken.
        objects: Where the input is.
        journal: Where work that can be taken up is told of, if anywhere.
        session: The standing of this instance.
        resumed: The jobs whose work this one goes on with, the latest first.
        report: Called with what the data log is to tell.
    """

    def __init__(
        self,
        spec: TransformSpec,
        arn: Arn,
        created_at: datetime,
        folder: Path,
        *,
        objects: ObjectStore,
        journal: Journal | None,
        session: Session,
        resumed: Sequence[ResumedJob],
        report: Callable[[str], None],
    ) -> None:
        self._spec = spec
        self._options = job_options(spec.environment)
        self._folder = folder
        self._objects = objects
        self._session = session
        self._resumed = resumed
        self._report = report
        # Without a journal nobody could tell when all ranges of an object are done.
        self._range_bytes = None if journal is None else self._options.range_bytes
        self._shares: JobShares | None = None
        if journal is not None and (spec.instance_count > 1 or resumed):
            self._shares = JobShares(
                session.ref,
                decide=self._decide,
                work=work_name(arn, created_at),
                bucket=spec.output.bucket,
                folder=folder,
                objects=objects,
                journal=journal,
                clock=session.clock,
                is_over=session.stop.is_set,
            )

    async def plan(self) -> Inputs:
        """Return the objects of this instance, and its ranges of objects that are cut.

        Raises:
            ClientFailure: The input is not there, or not what it should be.
            LeaseLost: The work is another's.
        """
        if self._shares is not None and self._session.ref.index == 0:
            for resumed in self._resumed:
                await self._shares.forget_begun(resumed.id)
        if self._is_alone and self._range_bytes is None:
            return await list_ahead(self._objects, self._spec, self._folder)
        return KeptInputs(await self._take_share())

    @property
    def _is_alone(self) -> bool:
        return self._spec.instance_count == 1

    async def _take_share(self) -> InputFile:
        if self._shares is not None and not self._is_alone:
            return await self._shares.take()
        shares = await self._decide()
        mine = shares[self._session.ref.index]
        for share in shares:
            if share is not mine:
                share.close()
        return mine

    async def _decide(self) -> Sequence[InputFile]:
        """List the input, and return what each instance takes."""
        spec, formats = self._spec, JobFormats(self._spec)
        cut = partial(cut_inputs, formats=formats, range_bytes=self._range_bytes)
        whole = await list_whole(self._objects, spec, self._folder, cut=cut)
        try:
            for line in await asyncio.to_thread(list, tell_whole(whole, formats, self._range_bytes)):
                self._report(line)
            return await deal_out(whole, spec.instance_count, self._options.scheduling)
        except BaseException:
            whole.close()
            raise

    async def forget(self) -> None:
        """Remove what told this instance its share, unless a later attempt will want it."""
        if self._shares is not None and not self._is_alone:
            with suppress(LeaseLost, StoreUnavailable):
                await self._session.check_lease()
                await self._shares.forget()
