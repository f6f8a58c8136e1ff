"""Write, read and search log events."""

import asyncio
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from millrace.ports.logs import LogEvent, LogPage, LogStore, NoSuchLogStream
from millrace.protocol.message import Context, Handler, Params, Result
from millrace.services.logs.faults import InvalidParameter, LogResourceMissing, group_name
from millrace.services.logs.filter_pattern import parse_filter_pattern
from millrace.services.logs.merging import MergedPage, decode_positions, encode_positions, merge_page

__all__ = ["EventHandlers"]

_MAX_EVENTS = 10_000
_MAX_SCANNED = 200_000
"""Events that one FilterLogEvents looks at: a search through a long log goes on with the token."""

_MERGE_EVENTS = 500
"""Events of each stream that are read ahead when streams are merged."""

_TOKEN = re.compile(r"([fb])/([0-9]{1,18})")


class EventHandlers:
    """The operations on log events."""

    def __init__(self, log_store: LogStore) -> None:
        self._log_store = log_store

    def table(self) -> Mapping[str, Handler]:
        """Return the handlers by operation."""
        return {
            "FilterLogEvents": self.filter_events,
            "GetLogEvents": self.get_events,
            "PutLogEvents": self.put_events,
        }

    async def put_events(self, ctx: Context, params: Params) -> Result:
        """Append events to a stream that exists."""
        group, stream = params["logGroupName"], params["logStreamName"]
        events = [LogEvent(event["timestamp"], event["message"]) for event in params["logEvents"]]
        if any(later.timestamp_ms < earlier.timestamp_ms for earlier, later in pairwise(events)):
            raise InvalidParameter("Log events in a single PutLogEvents request must be in chronological order.")
        try:
            await asyncio.to_thread(self._log_store.read, group, stream, limit=1)
        except NoSuchLogStream:
            raise await self._missing(group) from None
        await asyncio.to_thread(self._log_store.append, group, stream, events)
        return {"nextSequenceToken": "0"}  # "sequence tokens are now ignored"; older clients insist on one

    async def get_events(self, ctx: Context, params: Params) -> Result:
        """Read a stream forwards or backwards.

        A token is the byte offset where reading goes on. At the end the answer has no events and the token that was
        sent, by which clients know that there is no more for now.
        """
        group, stream = group_name(params), params["logStreamName"]
        reading: dict[str, Any] = {
            "limit": params.get("limit") or _MAX_EVENTS,
            "start_ms": params.get("startTime"),
            "end_ms": params.get("endTime"),
        }
        forwards, offset = _parse_token(params.get("nextToken"), from_head=bool(params.get("startFromHead")))

        def read() -> LogPage:
            if forwards:
                return self._log_store.read(group, stream, offset=offset or 0, **reading)
            return self._log_store.read_back(group, stream, offset=offset, **reading)

        try:
            page = await asyncio.to_thread(read)
        except NoSuchLogStream:
            raise await self._missing(group) from None
        return {
            "events": [
                # Events are stored as they come: their own time is the best known for their arrival.
                {"timestamp": event.timestamp_ms, "message": event.message, "ingestionTime": event.timestamp_ms}
                for event in page.events
            ],
            "nextForwardToken": f"f/{page.end_offset}",
            "nextBackwardToken": f"b/{page.start_offset}",
        }

    async def filter_events(self, ctx: Context, params: Params) -> Result:
        """Search the streams of a group, by time."""
        group = group_name(params)
        names, prefix = params.get("logStreamNames"), params.get("logStreamNamePrefix")
        if names and prefix:
            raise InvalidParameter("logStreamNames and logStreamNamePrefix are mutually exclusive, got both")
        pattern = parse_filter_pattern(params.get("filterPattern") or "")
        positions = decode_positions(params.get("nextToken"))
        start_ms, end_ms = params.get("startTime"), params.get("endTime")

        def search() -> MergedPage:
            try:
                found = self._log_store.list_streams(group, prefix or "")
            except NoSuchLogStream:
                raise LogResourceMissing("The specified log group does not exist.") from None
            if names and not {stream.name for stream in found}.issuperset(names):
                raise LogResourceMissing("The specified log stream does not exist.")
            chosen = [stream.name for stream in found if not names or stream.name in names]
            return merge_page(
                chosen,
                positions,
                lambda stream, offset: self._log_store.read(
                    group, stream, offset=offset, limit=_MERGE_EVENTS, start_ms=start_ms, end_ms=end_ms
                ),
                matches=pattern.matches,
                limit=params.get("limit") or _MAX_EVENTS,
                max_scanned=_MAX_SCANNED,
            )

        page = await asyncio.to_thread(search)
        return {
            "events": [
                {
                    "logStreamName": found.stream,
                    "timestamp": found.event.timestamp_ms,
                    "message": found.event.message,
                    "ingestionTime": found.event.timestamp_ms,
                    "eventId": found.id,
                }
                for found in page.events
            ],
            "searchedLogStreams": [],  # "this field is always empty" since 2019
            "nextToken": None if page.positions is None else encode_positions(page.positions),
        }

    async def _missing(self, group: str) -> LogResourceMissing:
        """Return the error for a stream that is not there: perhaps its whole group is not."""
        groups = await asyncio.to_thread(self._log_store.list_groups, group)
        what = "stream" if any(found.name == group for found in groups) else "group"
        return LogResourceMissing(f"The specified log {what} does not exist.")


def _parse_token(token: str | None, *, from_head: bool) -> tuple[bool, int | None]:
    """Return whether to read forwards, and from where; without a token, from the head or back from the end."""
    if token is None:
        return (True, 0) if from_head else (False, None)
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise InvalidParameter(f"The specified nextToken is invalid: {token!r}")
    return match[1] == "f", int(match[2])
