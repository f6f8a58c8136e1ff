"""The models' Java patterns in Python."""

import pytest

from millrace.protocol.models import service_model
from millrace.protocol.patterns import compile_pattern


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        (r"[\p{L}\p{Z}\p{N}_.:/=+\-@]*", "Schlüssel 名 1_.:/=+-@😀", "a\tb"),
        (r"\p{ASCII}*", "plain", "ümlaut"),
        (r"\A\S[\p{Print}]*\z", "id 1", " id"),
        (r"arn:[\p{Alnum}\-]+:x", "arn:aws-cn:x", "arn:äws:x"),
        (r"\P{Lu}+", "abc", "ABC"),
        (r"[a-z]++\d", "abc1", "abc"),
    ],
)
def test_java_classes_are_translated(pattern: str, good: str, bad: str) -> None:
    """Unicode categories and POSIX classes match as they do in Java."""
    compiled = compile_pattern(pattern)
    assert compiled is not None
    assert compiled.fullmatch(good)
    assert not compiled.fullmatch(bad)


@pytest.mark.parametrize("pattern", [r"[a&&[b]]", r"[\P{L}x]", r"\p{NoSuchClass}", r"(unclosed", r"[\w-_]*"])
def test_what_python_cannot_say_is_not_checked(pattern: str) -> None:
    """A pattern without a counterpart gives none, rather than another meaning."""
    assert compile_pattern(pattern) is None


def test_nearly_all_patterns_of_the_models_are_checked() -> None:
    """Of SageMaker's patterns only those with surrogate ranges, and a misprint (`${1,128}`), are left out."""
    model = service_model("sagemaker")
    patterns = {p for name in model.shape_names if (p := model.shape_for(name).metadata.get("pattern"))}
    assert len(patterns) > 200
    unchecked = [pattern for pattern in patterns if compile_pattern(pattern) is None]
    assert [pattern for pattern in unchecked if "uD800" not in pattern and "${" not in pattern] == []
