"""What `millrace transform --explain` expects, and warns of."""

from collections.abc import Sequence

import pytest

from millrace.commands.explain import expected_requests, pitfalls, seems_headed
from millrace.dataplane.plan import InputObject, output_of
from millrace.jobs.transform import AssembleWith, BatchStrategy, SplitType, TransformSpec
from millrace.names import ObjectPrefix, ObjectRef

MIB = 1024 * 1024


def _spec(**members: object) -> TransformSpec:
    given: dict[str, object] = {
        "model": "m",
        "source": ObjectPrefix("shop", "in/"),
        "output": ObjectPrefix("shop", "out"),
        "content_type": "text/csv",
        "accept": "text/csv",
        "split": SplitType.LINE,
        "assemble_with": AssembleWith.LINE,
    }
    return TransformSpec(**{**given, **members})  # type: ignore[arg-type]


def _inputs(*keys: str, size: int = 10) -> list[InputObject]:
    output = ObjectPrefix("shop", "out")
    return [InputObject(ref=ObjectRef("shop", key), size=size, output=output_of(output, key)) for key in keys]


def _warnings(spec: TransformSpec, inputs: Sequence[InputObject] = ()) -> str:
    return "\n".join(pitfalls(spec, inputs or _inputs("in/a.csv")))


@pytest.mark.parametrize(
    ("key", "variables", "text"),
    [
        ("in/a.parquet", {}, "--input-format parquet"),
        ("in/a.feather", {}, "--input-format arrow"),
        ("in/a.parquet", {"MILLRACE_INPUT_FORMAT": "parquet"}, ""),
        ("in/a.csv.GZ", {}, "--input-compression auto"),
        ("in/a.csv.zst", {"MILLRACE_INPUT_COMPRESSION": "auto"}, ""),
    ],
)
def test_names_that_tell_of_another_format_are_warned_of(key: str, variables: dict[str, str], text: str) -> None:
    """Their bytes would be cut at line feeds, and sent."""
    warned = _warnings(_spec(environment=variables), _inputs(key))
    assert text in warned
    assert bool(text) == bool(warned)


def test_an_ordinary_request_has_no_warning() -> None:
    """Warnings that always come are read by nobody."""
    assert _warnings(_spec()) == ""


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"content_type": "application/json"}, "several documents in one body"),
        ({"assemble_with": AssembleWith.NONE}, "rows run together"),
        ({"split": SplitType.NONE, "strategy": BatchStrategy.MULTI_RECORD}, "says nothing without a SplitType"),
        ({"accept": None}, "Accept is not"),
        ({"output": ObjectPrefix("shop", "in/scored")}, "below the input prefix"),
    ],
)
def test_settings_that_are_seldom_meant_are_warned_of(members: dict[str, object], text: str) -> None:
    """Each is allowed, and has cost people their time."""
    assert text in _warnings(_spec(**members))


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (("data/a.csv", "data-old/b.csv"), "it takes data-old/b.csv too; end it with / to take the folder data/ only"),
        (("data/a.csv.out",), "look like outputs of an earlier transform"),
        (("data/_SUCCESS",), "names that start with . or _"),
    ],
)
def test_inputs_that_are_seldom_meant_are_warned_of(keys: tuple[str, ...], text: str) -> None:
    """The first of them is named."""
    assert text in _warnings(_spec(source=ObjectPrefix("shop", "data")), _inputs(*keys))


def test_whole_objects_beyond_the_limit_are_counted() -> None:
    """They fail for sure."""
    told = _warnings(_spec(split=SplitType.NONE), [*_inputs("in/a", size=7 * MIB), *_inputs("in/b")])
    assert "1 of 2 objects are larger than MaxPayloadInMB" in told


def test_requests_are_expected_by_size() -> None:
    """One for each object, or as many as payloads are needed; only records tell for single records."""
    inputs = [*_inputs("in/a", size=13 * MIB), *_inputs("in/b", size=0)]
    assert expected_requests(_spec(split=SplitType.NONE), inputs) == 2
    assert expected_requests(_spec(), inputs) == 3
    assert expected_requests(_spec(max_payload_bytes=MIB), inputs) == 13
    assert expected_requests(_spec(max_payload_bytes=0), inputs) == 2
    assert expected_requests(_spec(strategy=BatchStrategy.SINGLE_RECORD), inputs) is None


@pytest.mark.parametrize(
    ("begin", "headed"),
    [
        (b"age,city\n3,Bonn\n", True),
        (b"1,2\n3,4\n", False),
        (b"a,b\nc,d\n", False),
        (b"age,city\n", False),
        (b"", False),
    ],
)
def test_headers_are_told_by_their_look(begin: bytes, headed: bool) -> None:
    """Names first, numbers then."""
    assert seems_headed(begin) is headed
