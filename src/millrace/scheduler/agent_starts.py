"""Decide when an agent is started, and after how many that never came its instance is given up."""

from collections import defaultdict
from enum import Enum, auto

from millrace.jobs.job import Instance, InstanceState
from millrace.ports.jobs import InstanceRef

__all__ = ["MAX_UNREGISTERED_STARTS", "AgentStarts", "StartVerdict"]

MAX_UNREGISTERED_STARTS = 3
"""How often an agent may end before it registers until its instance counts as lost."""

FIRST_RESTART_DELAY_SECONDS = 0.5
MAX_RESTART_DELAY_SECONDS = 30.0
"""The pause before an endpoint's instance is started again doubles with each failure since it was last ready."""


class StartVerdict(Enum):
    """What to do about an attempt that has no agent."""

    START = auto()
    WAIT = auto()
    GIVE_UP = auto()


class AgentStarts:
    """Remembers how often agents were started for an attempt, and until when a restart has to wait."""

    def __init__(self) -> None:
        self._starts: dict[InstanceRef, int] = defaultdict(int)
        self._not_before: dict[InstanceRef, float] = {}

    def judge(self, ref: InstanceRef, instance: Instance, *, now: float) -> StartVerdict:
        """Tell what to do about an attempt without an agent; `now` is of the steady clock."""
        if self._starts[ref] >= MAX_UNREGISTERED_STARTS or instance.state is InstanceState.STOPPING:
            return StartVerdict.GIVE_UP
        if instance.failures:
            pause = min(MAX_RESTART_DELAY_SECONDS, FIRST_RESTART_DELAY_SECONDS * 2 ** (instance.failures - 1))
            if now < self._not_before.setdefault(ref, now + pause):
                return StartVerdict.WAIT
        return StartVerdict.START

    def note(self, ref: InstanceRef) -> None:
        """Count a start."""
        self._starts[ref] += 1

    def forget(self, job_id: int, index: int | None) -> None:
        """Forget the attempts of an instance, or of a whole job."""
        for memory in (self._starts, self._not_before):
            for ref in [ref for ref in memory if ref.job_id == job_id and index in (None, ref.index)]:
                del memory[ref]
