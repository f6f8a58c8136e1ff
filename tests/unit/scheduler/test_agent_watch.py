"""Which agents count as gone."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from millrace.ports.jobs import AgentRecord, InstanceRef
from millrace.scheduler.agent_watch import AgentWatch
from millrace.testing.engine import FakeEngine

LEASE = 10.0
BEAT = datetime(2026, 1, 1, tzinfo=UTC)
REF = InstanceRef(job_id=1, index=0, attempt=1)
AGENT = AgentRecord(
    ref=REF,
    agent_id="a",
    process_id=7,
    process_start=1,
    host="h",
    registered_at=BEAT,
    heartbeat_at=BEAT,
    stop_wanted=False,
    progress=None,
)


def test_silence_is_counted_from_the_question_to_the_store() -> None:
    """Time that passes for us between asking and looking is no silence of the agent."""
    engine = FakeEngine()
    watch = AgentWatch(engine, lease_seconds=LEASE)
    assert watch.find_loss(AGENT, asked_at=100.0) is None
    assert watch.find_loss(AGENT, asked_at=100.0 + LEASE) is None
    assert watch.find_loss(AGENT, asked_at=101.0 + LEASE) == "no heartbeat for 11 s"
    assert engine.killed == [REF]


def test_any_new_heartbeat_renews_the_lease() -> None:
    """Also one whose time is earlier: clocks of machines differ, and are set."""
    watch = AgentWatch(FakeEngine(), lease_seconds=LEASE)
    watch.find_loss(AGENT, asked_at=0.0)
    earlier = replace(AGENT, heartbeat_at=BEAT - timedelta(hours=1))
    assert watch.find_loss(earlier, asked_at=LEASE + 1) is None


def test_after_an_outage_of_the_store_all_have_a_whole_lease() -> None:
    """They could not be heard."""
    engine = FakeEngine()
    watch = AgentWatch(engine, lease_seconds=LEASE)
    watch.find_loss(AGENT, asked_at=0.0)
    watch.start_anew()
    assert watch.find_loss(AGENT, asked_at=LEASE + 1) is None
    assert engine.killed == []


def test_a_process_that_ended_is_told_at_once() -> None:
    """It is not killed again."""
    engine = FakeEngine(dead={REF})
    assert AgentWatch(engine, lease_seconds=LEASE).find_loss(AGENT, asked_at=0.0) == "agent process 7 ended"
    assert engine.killed == []
