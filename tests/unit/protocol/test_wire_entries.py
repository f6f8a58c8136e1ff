"""Lists whose entries handlers tell in the wire's own terms."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.moments import from_micros
from millrace.protocol.message import WireEntries
from millrace.protocol.models import WireProtocol
from millrace.protocol.operations import service
from millrace.protocol.timestamps import TimestampFormat, format_timestamp, told_micros

MOMENT = datetime(2026, 3, 4, 5, 6, 7, 890000, tzinfo=UTC)
MEMBERS = {"TransformJobName": "one", "TransformJobArn": "arn:<1>", "TransformJobStatus": "Completed"}


@pytest.mark.parametrize("protocol", [WireProtocol.JSON, WireProtocol.QUERY])
def test_entries_in_wire_terms_are_written_as_others_are(protocol: WireProtocol) -> None:
    """Times as epoch seconds and members without None come out as datetimes and absent members do, in each protocol."""
    operation = service("sagemaker").operation("ListTransformJobs", protocol)
    micros = round(MOMENT.timestamp() * 1_000_000)
    plain = [{**MEMBERS, "CreationTime": MOMENT, "FailureReason": None}]
    ready = WireEntries([{**MEMBERS, "CreationTime": told_micros(micros)}])
    expected = operation.serialize({"TransformJobSummaries": plain}, "id")
    assert operation.serialize({"TransformJobSummaries": ready}, "id") == expected


@given(st.integers(0, 4_000_000_000_000_000).filter(lambda micros: micros % 1000 != 500))
def test_stored_times_are_told_as_datetimes_are(micros: int) -> None:
    """A listing and a Describe of the same job tell the same times."""
    assert told_micros(micros) == format_timestamp(from_micros(micros), TimestampFormat.EPOCH)
