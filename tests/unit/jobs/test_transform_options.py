"""Tests of what a job asks for in its Environment."""

import pytest

from millrace.errors import ValidationError
from millrace.jobs.transform_options import job_options


@pytest.mark.parametrize("text", ["\uff15", "\u0665%", "101%", "1" * 16, "0.1234567%", "1.5", "-1", " 1", ""])
def test_a_threshold_that_is_none_is_refused_with_the_rule(text: str) -> None:
    """The error names the variable, all of what the rule allows, and the value."""
    with pytest.raises(ValidationError) as raised:
        job_options({"MILLRACE_ON_ERROR": "skip", "MILLRACE_MAX_FAILED_RECORDS": text})
    assert str(raised.value) == (
        'Environment.MILLRACE_MAX_FAILED_RECORDS must be a count such as "10" of at most 15 digits, or a share of all '
        f'records such as "0.5%", at most 100% with at most 6 decimals. Got "{text}" instead.'
    )


def test_digits_of_other_scripts_are_no_length_of_a_range() -> None:
    """Settings are told back as they are written: numbers are those of ASCII."""
    with pytest.raises(ValidationError, match="MILLRACE_RANGE_SPLIT must be"):
        job_options({"MILLRACE_RANGE_SPLIT": "1\u0666"})
