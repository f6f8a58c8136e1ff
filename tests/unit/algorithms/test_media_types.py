import pytest

from millrace_algorithms.errors import NotAcceptable
from millrace_algorithms.media_types import CSV, JSON, JSON_LINES, negotiate, parse

SUPPORTED = (JSON, JSON_LINES, CSV)


@pytest.mark.spec("algorithms §3.4")
@pytest.mark.parametrize("text", ["text/csv;label_size=0", "Text/CSV ; Label_Size = 0", ' text/csv; label_size="0"'])
def test_spelling_of_content_types_is_free(text: str) -> None:
    """Spaces, case and quotes don't matter."""
    media_type = parse(text)
    assert (media_type.name, media_type.label_size) == (CSV, 0)


def test_label_size_is_optional_and_a_number() -> None:
    """No label_size is different from 0, and words are refused."""
    assert parse("text/csv; charset=utf-8").label_size is None
    with pytest.raises(ValueError, match="label_size must be an integer of 0 or more, got 'one'"):
        _ = parse("text/csv;label_size=one").label_size


@pytest.mark.parametrize("text", ["application/x-jsonlines", "application/jsonl", "application/jsonlines"])
def test_json_lines_has_three_names(text: str) -> None:
    """All mean the same."""
    assert parse(text).name == JSON_LINES


@pytest.mark.spec("algorithms §3.7")
@pytest.mark.parametrize(
    ("accept", "name"),
    [
        (None, JSON),
        ("", JSON),
        ("*/*", JSON),
        ("text/*", CSV),
        ("Application/JSONLines", JSON_LINES),
        ("image/png, text/csv;q=0.5, application/jsonlines;q=0.4", CSV),
    ],
)
def test_the_answers_type_follows_the_request(accept: str | None, name: str) -> None:
    """Without a wish the algorithm's default is taken."""
    assert negotiate(accept, supported=SUPPORTED, default=JSON).name == name


@pytest.mark.spec("algorithms §3.7")
def test_options_are_compared_without_regard_to_case() -> None:
    """verbose=true is an option of the answer."""
    assert negotiate("application/json; Verbose=True", supported=SUPPORTED, default=JSON).verbose
    assert negotiate(None, supported=SUPPORTED, default="application/jsonlines; verbose=true").verbose
    assert not negotiate("application/json", supported=SUPPORTED, default=JSON).verbose


def test_a_type_that_cannot_be_written_is_refused_by_name() -> None:
    """The message lists what can."""
    with pytest.raises(NotAcceptable, match=r"Accept type image/png is not supported\. Please use .*text/csv"):
        negotiate("image/png", supported=SUPPORTED, default=JSON)
    with pytest.raises(NotAcceptable, match="image/png"):
        negotiate(None, supported=SUPPORTED, default="image/png")
