"""CloudWatch Logs' handlers: parameters in wire names in, results in wire names out."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from millrace.errors import ApiError
from millrace.ports.logs import LogEvent
from millrace.protocol.bodies import MemoryBody
from millrace.protocol.message import Context, Reply, Request
from millrace.services import logs
from millrace.services.logs.faults import InvalidParameter, LogResourceExists, LogResourceMissing
from millrace.services.logs.filter_pattern import parse_filter_pattern
from millrace.store.log_files import LogFiles

GROUP = "/aws/sagemaker/TrainingJobs"

Call = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture
def store(tmp_path: Path) -> LogFiles:
    """Logs in files."""
    return LogFiles(tmp_path / "logs")


@pytest.fixture
def call(store: LogFiles) -> Call:
    """Call an operation; members that are None are left out, as on the wire."""
    table = logs.handlers(store, account="123456789012")

    async def call(operation: str, **params: Any) -> dict[str, Any]:
        context = Context(
            request_id="r",
            service="logs",
            operation=operation,
            region="eu-west-1",
            account="123456789012",
            principal=None,
            base_url="http://127.0.0.1:4600",
            request=Request(method="POST", path=b"/", query=b"", headers=(), body=MemoryBody()),
        )
        answer = await table[operation](context, params)
        assert not isinstance(answer, Reply)
        return {name: value for name, value in (answer or {}).items() if value is not None}

    return call


async def refused(kind: type[ApiError], answer: Awaitable[object]) -> None:
    """Expect an error of that kind."""
    with pytest.raises(kind):
        await answer


def fill(store: LogFiles, stream: str, *events: tuple[int, str]) -> None:
    store.append(GROUP, stream, [LogEvent(time, text) for time, text in events])


async def test_the_sdk_reads_a_log_to_its_end(call: Call, store: LogFiles) -> None:
    """The SDK's loop ends: an answer without events has the token that was sent, and later events follow it."""
    fill(store, "job/algo-1-17", *((n, f"line {n}") for n in range(10)))
    seen, token = [], None
    while True:
        more: dict[str, Any] = {"nextToken": token} if token else {}
        page = await call(
            "GetLogEvents", logGroupName=GROUP, logStreamName="job/algo-1-17", startFromHead=True, limit=4, **more
        )
        if not page["events"]:
            break
        seen += [event["message"] for event in page["events"]]
        token = page["nextForwardToken"]
    assert seen == [f"line {n}" for n in range(10)]
    assert page["nextForwardToken"] == token
    fill(store, "job/algo-1-17", (11, "late"))
    page = await call("GetLogEvents", logGroupName=GROUP, logStreamName="job/algo-1-17", nextToken=token)
    assert [event["message"] for event in page["events"]] == ["late"]


async def test_the_start_is_inclusive(call: Call, store: LogFiles) -> None:
    """Events of the start time are told again, in the same order: the SDK skips them by count."""
    fill(store, "s", (1, "a"), (2, "b"), (2, "c"), (3, "d"))
    page = await call("GetLogEvents", logGroupName=GROUP, logStreamName="s", startTime=2, endTime=3, startFromHead=True)
    assert [event["message"] for event in page["events"]] == ["b", "c"]


async def test_the_tail_comes_first_without_a_head(call: Call, store: LogFiles) -> None:
    """Without startFromHead the last events are told, and the backward token goes on before them."""
    fill(store, "s", *((n, str(n)) for n in range(5)))
    page = await call("GetLogEvents", logGroupName=GROUP, logStreamName="s", limit=2)
    assert [event["message"] for event in page["events"]] == ["3", "4"]
    page = await call("GetLogEvents", logGroupName=GROUP, logStreamName="s", nextToken=page["nextBackwardToken"])
    assert [event["message"] for event in page["events"]] == ["0", "1", "2"]
    await refused(InvalidParameter, call("GetLogEvents", logGroupName=GROUP, logStreamName="s", nextToken="x/1"))


async def test_a_token_means_there_is_more(call: Call, store: LogFiles) -> None:
    """DescribeLogStreams gives a token only if streams are left, else the SDK would ask for ever."""
    for n in (1, 2, 3):
        fill(store, f"job/algo-{n}", (n, "x"))
    fill(store, "other", (9, "x"))
    names = {"logGroupName": GROUP, "logStreamNamePrefix": "job/", "orderBy": "LogStreamName"}
    page = await call("DescribeLogStreams", **names, limit=3)
    assert [found["logStreamName"] for found in page["logStreams"]] == ["job/algo-1", "job/algo-2", "job/algo-3"]
    assert "nextToken" not in page
    page = await call("DescribeLogStreams", **names, limit=2)
    rest = await call("DescribeLogStreams", **names, limit=2, nextToken=page["nextToken"])
    assert [found["logStreamName"] for found in rest["logStreams"]] == ["job/algo-3"]
    assert "nextToken" not in rest


async def test_streams_are_ordered_as_asked(call: Call, store: LogFiles) -> None:
    """By name or by last event, up or down, with pages in each order."""
    for time, name in ((3, "a"), (1, "b"), (2, "c")):
        fill(store, name, (time, "x"))

    async def order(**params: Any) -> list[str]:
        names: list[str] = []
        more: dict[str, Any] = {}
        while True:
            page = await call("DescribeLogStreams", logGroupName=GROUP, limit=2, **params, **more)
            names += [found["logStreamName"] for found in page["logStreams"]]
            if "nextToken" not in page:
                return names
            more = {"nextToken": page["nextToken"]}

    assert await order() == ["a", "b", "c"]
    assert await order(descending=True) == ["c", "b", "a"]
    assert await order(orderBy="LastEventTime") == ["b", "c", "a"]
    assert await order(orderBy="LastEventTime", descending=True) == ["a", "c", "b"]
    prefixed = call("DescribeLogStreams", logGroupName=GROUP, orderBy="LastEventTime", logStreamNamePrefix="a")
    await refused(InvalidParameter, prefixed)


async def test_streams_are_searched_by_time(call: Call, store: LogFiles) -> None:
    """Events of several streams are interleaved by time, in pages of any size, each with an id of its own."""
    fill(store, "a", (1, "a1"), (3, "a3"), (3, "a3"), (6, "a6"))
    fill(store, "b", (2, "b2"), (4, "b4 ERROR"), (5, "b5"))
    for limit in (1, 2, 3, 100):
        seen: list[str] = []
        ids: set[str] = set()
        more: dict[str, Any] = {}
        while True:
            page = await call("FilterLogEvents", logGroupName=GROUP, limit=limit, **more)
            assert len(page["events"]) <= limit
            seen += [event["message"] for event in page["events"]]
            ids |= {event["eventId"] for event in page["events"]}
            if "nextToken" not in page:
                break
            more = {"nextToken": page["nextToken"]}
        assert seen == ["a1", "b2", "a3", "a3", "b4 ERROR", "b5", "a6"]
        assert len(ids) == 7


async def test_a_search_may_be_narrowed(call: Call, store: LogFiles) -> None:
    """By stream, prefix, time and pattern."""
    fill(store, "a/1", (1, "one"), (2, "two"))
    fill(store, "b/1", (1, "one b"))

    async def search(**params: Any) -> list[str]:
        page = await call("FilterLogEvents", logGroupName=GROUP, **params)
        return [event["message"] for event in page["events"]]

    assert await search(logStreamNames=["b/1"]) == ["one b"]
    assert await search(logStreamNamePrefix="a/") == ["one", "two"]
    assert await search(startTime=2) == ["two"]
    assert await search(filterPattern="one -b") == ["one"]
    arn = f"arn:aws:logs:eu-west-1:123456789012:log-group:{GROUP}"
    page = await call("FilterLogEvents", logGroupIdentifier=arn, filterPattern="two")
    assert len(page["events"]) == 1
    await refused(LogResourceMissing, search(logStreamNames=["none"]))
    await refused(InvalidParameter, search(logStreamNames=["a/1"], logStreamNamePrefix="a"))
    await refused(InvalidParameter, search(nextToken="???"))


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("", "anything", None),
        ("ERROR time", "a time of ERROR", "ERROR"),
        ('"two words"', "say two words", "two more words"),
        ("?ERROR ?WARN", "WARN", "INFO"),
        ("ERROR -DEBUG", "ERROR", "ERROR DEBUG"),
        ('-"two words" x', "x", "x two words"),
        ('"a \\"b\\""', 'a "b"', "a b"),
        ("error", "error", "ERROR"),
        ("[1,mpirank]", None, None),
        ("{ $.x = 1 }", None, None),
        ('"open', None, None),
    ],
)
def test_patterns_match_terms(pattern: str, matching: str | None, other: str | None) -> None:
    """Terms, phrases, alternatives and exclusions match; other kinds of patterns are refused by name."""
    if matching is None:
        with pytest.raises(InvalidParameter):
            parse_filter_pattern(pattern)
        return
    parsed = parse_filter_pattern(pattern)
    assert parsed.matches(matching)
    assert other is None or not parsed.matches(other)


async def test_users_write_logs_of_their_own(call: Call) -> None:
    """A group, a stream and events can be made, in order of time only."""
    stream = {"logGroupName": "/mine", "logStreamName": "s"}
    await refused(LogResourceMissing, call("CreateLogStream", **stream))
    await call("CreateLogGroup", logGroupName="/mine", tags={"k": "v"})
    await refused(LogResourceExists, call("CreateLogGroup", logGroupName="/mine"))
    await refused(LogResourceMissing, call("PutLogEvents", **stream, logEvents=[{"timestamp": 1, "message": "x"}]))
    await call("CreateLogStream", **stream)
    await refused(LogResourceExists, call("CreateLogStream", **stream))
    events = [{"timestamp": 1, "message": "one\ntwo"}, {"timestamp": 2, "message": "three"}]
    assert "nextSequenceToken" in await call("PutLogEvents", **stream, logEvents=events)
    await refused(InvalidParameter, call("PutLogEvents", **stream, logEvents=events[::-1]))
    page = await call("GetLogEvents", **stream, startFromHead=True)
    assert [event["message"] for event in page["events"]] == ["one\ntwo", "three"]
    await call("DeleteLogStream", **stream)
    await refused(LogResourceMissing, call("DeleteLogStream", **stream))
    await call("DeleteLogGroup", logGroupName="/mine")
    await refused(LogResourceMissing, call("DeleteLogGroup", logGroupName="/mine"))


async def test_what_is_said_about_a_group_is_kept(call: Call) -> None:
    """Retention and tags come back; a retention that the service does not know is refused."""
    await call("CreateLogGroup", logGroupName="/mine", tags={"k": "v"})
    await call("PutRetentionPolicy", logGroupName="/mine", retentionInDays=7)
    await refused(InvalidParameter, call("PutRetentionPolicy", logGroupName="/mine", retentionInDays=8))
    group = (await call("DescribeLogGroups", logGroupNamePrefix="/mi"))["logGroups"][0]
    assert (group["retentionInDays"], group["logGroupName"]) == (7, "/mine")
    assert group["arn"] == "arn:aws:logs:eu-west-1:123456789012:log-group:/mine:*"
    arn = group["logGroupArn"]
    await call("TagResource", resourceArn=arn, tags={"l": "w"})
    await call("UntagResource", resourceArn=arn, tagKeys=["k"])
    assert (await call("ListTagsForResource", resourceArn=arn))["tags"] == {"l": "w"}
    await call("DeleteRetentionPolicy", logGroupName="/mine")
    group = (await call("DescribeLogGroups"))["logGroups"][0]
    assert group["retentionInDays"] is None
    assert (await call("ListTagsForResource", resourceArn=arn))["tags"] == {"l": "w"}


async def test_missing_groups_are_waited_for(call: Call, store: LogFiles) -> None:
    """A missing group or stream is ResourceNotFoundException, which the SDK's loop expects before the first line."""
    await refused(LogResourceMissing, call("DescribeLogStreams", logGroupName=GROUP))
    await refused(LogResourceMissing, call("GetLogEvents", logGroupName=GROUP, logStreamName="s"))
    await refused(LogResourceMissing, call("FilterLogEvents", logGroupName=GROUP))
    await refused(InvalidParameter, call("FilterLogEvents"))
    store.create(GROUP)
    with pytest.raises(LogResourceMissing, match="log stream does not exist"):
        await call("GetLogEvents", logGroupName=GROUP, logStreamName="s")
    assert LogResourceMissing.code == "ResourceNotFoundException"
