"""Tell which agents are gone: by their process, or by their silence.

Silence is measured by our own steady clock, from when we asked the store and first saw an agent's latest heartbeat: a
machine that slept, whose clock was set, or whose store was away must not lose all of its agents at once.
"""

from datetime import datetime

from millrace.ports.engine import Engine
from millrace.ports.jobs import AgentRecord, InstanceRef

__all__ = ["AgentWatch"]


class AgentWatch:
    """Remembers when each agent was last heard of."""

    def __init__(self, engine: Engine, *, lease_seconds: float) -> None:
        self._engine = engine
        self._lease = lease_seconds
        self._beats: dict[InstanceRef, tuple[datetime, float]] = {}

    def find_loss(self, agent: AgentRecord, *, asked_at: float) -> str | None:
        """Return why an agent counts as lost, or None. One that is silent is killed: another attempt is to begin.

        Args:
            agent: As the store tells of it.
            asked_at: When the store was asked, on the steady clock. What we did since then is no silence of the agent.
        """
        ref = agent.ref
        known = self._beats.get(ref)
        if known is None or known[0] != agent.heartbeat_at:
            self._beats[ref] = known = (agent.heartbeat_at, asked_at)
        if self._engine.is_alive(agent) is False:
            return f"agent process {agent.process_id} ended"
        silence = asked_at - known[1]
        if silence > self._lease:
            self._engine.kill(agent)
            return f"no heartbeat for {silence:.0f} s"
        return None

    def forget(self, job_id: int, index: int | None) -> None:
        """Forget the agents of an instance, or of a whole job."""
        for ref in [ref for ref in self._beats if ref.job_id == job_id and index in (None, ref.index)]:
            del self._beats[ref]

    def start_anew(self) -> None:
        """Give all agents a whole lease from when they are next seen: nobody could be heard."""
        self._beats.clear()
