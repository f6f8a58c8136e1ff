"""Options of a transform that set keys of its job."""

import argparse
import re

import pytest

from millrace.commands.transform_arguments import add_transform_options, request_of
from millrace.commands.transform_keys import KEY_OPTIONS, KeyOption, Shape, by_option, keyed_environment
from millrace.dataplane.formats.options import FORMAT_VARIABLES, format_options
from millrace.errors import UsageError, ValidationError
from millrace.jobs.transform_options import KEYS, REPORT, RESUME_FROM, job_options

REQUIRED = ("--model", "m", "--input", "i", "--output", "o")


def _environment(*words: str) -> dict[str, str]:
    parser = argparse.ArgumentParser()
    add_transform_options(parser)
    return dict(request_of(parser.parse_args([*REQUIRED, *words])).environment)


def test_every_key_has_an_option() -> None:
    """A report has a folder of its own to go to; without a server there are no jobs to resume."""
    of_jobs = {REPORT, RESUME_FROM}
    assert {option.key for option in KEY_OPTIONS} == {*KEYS, *FORMAT_VARIABLES} - of_jobs


@pytest.mark.parametrize("option", [it for it in KEY_OPTIONS if it.choices], ids=lambda option: option.name)
def test_the_words_of_an_option_are_those_of_its_key(option: KeyOption) -> None:
    """The key takes each of them, and what it takes is named by its refusal."""
    read = format_options if option.key in FORMAT_VARIABLES else job_options
    for word in option.choices:
        read({option.key: word})
    with pytest.raises(ValidationError) as refused:
        read({option.key: "nonsense"})
    told = re.search(r"\[(.*?)\]", str(refused.value))
    assert told is not None
    assert sorted(told[1].split(", ")) == sorted(option.choices)


def test_options_become_variables() -> None:
    """Flags are true, a word that may be left out has its default."""
    assert _environment("--on-error", "skip", "--max-failed-records", "0.5%", "--strict-counts", "--autotune") == {
        "MILLRACE_ON_ERROR": "skip",
        "MILLRACE_MAX_FAILED_RECORDS": "0.5%",
        "MILLRACE_STRICT_COUNTS": "true",
        "MILLRACE_AUTOTUNE": "throughput",
    }
    assert _environment("--range-split", "--scheduling", "modulo") == {
        "MILLRACE_RANGE_SPLIT": "true",
        "MILLRACE_SCHEDULING": "modulo",
    }
    assert _environment("--filters", "extended") == {"MILLRACE_FILTERS": "extended"}
    assert _environment("--range-split", "16") == {"MILLRACE_RANGE_SPLIT": "16"}
    assert _environment("--autotune", "off", "--env", "A=b") == {"MILLRACE_AUTOTUNE": "off", "A": "b"}
    assert _environment() == {}


def test_an_option_and_a_variable_may_not_contradict_each_other() -> None:
    """The error names both; the same value twice is no trouble."""
    given = {"MILLRACE_CSV_HEADER": "skip"}
    assert keyed_environment(given, {"csv_header": "skip"}) == given
    with pytest.raises(UsageError, match=r"--csv-header says 'repeat', but --env says MILLRACE_CSV_HEADER='skip'"):
        keyed_environment(given, {"csv_header": "repeat"})


def test_a_flag_is_written_as_one() -> None:
    """Names in Python have underscores, options have hyphens."""
    flags = [option.flag for option in KEY_OPTIONS if option.shape is Shape.FLAG]
    assert flags == ["--strict-counts"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Environment.MILLRACE_ON_ERROR must be x", "--on-error (MILLRACE_ON_ERROR) must be x"),
        ("MaxPayloadInMB must be x", "MaxPayloadInMB must be x"),
        (
            "Environment.MILLRACE_ONE is no variable; those are [MILLRACE_ON_ERROR]",
            "Environment.MILLRACE_ONE is no variable; those are [MILLRACE_ON_ERROR]",
        ),
    ],
)
def test_refusals_name_the_option(text: str, told: str) -> None:
    """Who gave it need not know the variable that it sets."""
    assert by_option(text) == told
