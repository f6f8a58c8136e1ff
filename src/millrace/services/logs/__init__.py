"""Amazon CloudWatch Logs over a LogStore: what jobs wrote, by group and stream."""

from collections.abc import Mapping

from millrace.ports.logs import LogStore
from millrace.protocol.message import Handler
from millrace.services.logs.events import EventHandlers
from millrace.services.logs.groups import GroupHandlers
from millrace.services.logs.streams import StreamHandlers

__all__ = ["handlers"]


def handlers(log_store: LogStore, *, account: str) -> Mapping[str, Handler]:
    """Return the service's handlers by operation."""
    return {
        **GroupHandlers(log_store, account=account).table(),
        **StreamHandlers(log_store, account=account).table(),
        **EventHandlers(log_store).table(),
    }
