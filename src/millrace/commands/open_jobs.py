"""The jobs of a data directory, opened for the time of one command."""

import contextlib

from millrace.clock import SystemClock
from millrace.jobs.job import Job, JobKind
from millrace.ports.jobs import NoSuchJob
from millrace.settings import Settings
from millrace.store.opening import has_state, open_database
from millrace.store.sql_jobs import SqlJobStore

__all__ = ["OpenJobs"]


class OpenJobs:
    """A job store, and names as people write them."""

    def __init__(self, settings: Settings) -> None:
        if not has_state(settings):
            raise SystemExit(f"millrace jobs: there is no state in {settings.data_dir} (MILLRACE_DATA_DIR, --data-dir)")
        self.clock = SystemClock()
        self._database = open_database(settings)
        self.store = SqlJobStore(self._database, clock=self.clock)

    def __enter__(self) -> "OpenJobs":
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    async def find(self, name: str, region: str) -> tuple[JobKind, Job]:
        """Return the job of that name; `training-job/NAME` and its like tell kinds apart that share a name."""
        prefix, _, rest = name.partition("/")
        kinds, name = ([JobKind(prefix)], rest) if rest and prefix in list(JobKind) else (list(JobKind), name)
        found = []
        for kind in kinds:
            with contextlib.suppress(NoSuchJob):
                found.append((kind, await self.store.get(kind, region, name)))
        if not found:
            raise SystemExit(f"millrace jobs: there is no job {name!r} in region {region}")
        if len(found) > 1:
            choices = " or ".join(f"{kind.value}/{name}" for kind, _ in found)
            raise SystemExit(f"millrace jobs: {name!r} is the name of several jobs; say {choices}")
        return found[0]
