"""Map options of a transform to the `MILLRACE_*` keys of a job's Environment that mean the same.

The words that a key takes stand here once more, since a command that only prints its help must not import the data
plane; a test compares them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from millrace.errors import UsageError
from millrace.jobs.transform_options import (
    AUTOTUNE,
    FILTERS,
    MAX_FAILED_RECORDS,
    ON_ERROR,
    RANGE_SPLIT,
    SCHEDULING,
    STRICT_COUNTS,
)

__all__ = ["KEY_OPTIONS", "KeyOption", "Shape", "by_option", "keyed_environment"]


class Shape(Enum):
    """How an option is written."""

    VALUE = "--option VALUE"
    FLAG = "--option"
    WORD_OR_ALONE = "--option [WORD]"


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyOption:
    """One option, and the key that it sets. One without `choices` takes any text; `alone` is what it means alone."""

    name: str
    key: str
    help: str
    choices: tuple[str, ...] = ()
    shape: Shape = Shape.VALUE
    alone: str = "true"
    metavar: str | None = None

    @property
    def flag(self) -> str:
        """The option as it is typed."""
        return "--" + self.name.replace("_", "-")


KEY_OPTIONS = (
    KeyOption(
        name="on_error",
        key=ON_ERROR,
        choices=("fail", "skip", "quarantine"),
        help="what becomes of an object with a bad record (default: fail)",
    ),
    KeyOption(
        name="max_failed_records",
        key=MAX_FAILED_RECORDS,
        metavar="N|P%",
        help="how many records may be bad, or which share of all, before the transform fails",
    ),
    KeyOption(
        name="strict_counts",
        key=STRICT_COUNTS,
        shape=Shape.FLAG,
        help="each answer must have a row for each of its records",
    ),
    KeyOption(
        name="autotune",
        key=AUTOTUNE,
        choices=("off", "throughput"),
        shape=Shape.WORD_OR_ALONE,
        alone="throughput",
        help="find concurrency and size of payloads by measuring",
    ),
    KeyOption(
        name="range_split",
        key=RANGE_SPLIT,
        shape=Shape.WORD_OR_ALONE,
        metavar="MB",
        help="cut objects into ranges of at most so many MB (alone: 64), which instances share",
    ),
    KeyOption(
        name="scheduling",
        key=SCHEDULING,
        choices=("balanced", "modulo"),
        help="how objects are shared out: by their sizes, or in turn as on SageMaker (default: balanced)",
    ),
    KeyOption(
        name="filters",
        key=FILTERS,
        choices=("sagemaker", "extended"),
        help="what filters may be: as on SageMaker, or any names and several ranges (default: sagemaker)",
    ),
    KeyOption(
        name="input_format",
        key="MILLRACE_INPUT_FORMAT",
        choices=("parquet", "arrow"),
        help="the input is tables of this format",
    ),
    KeyOption(
        name="input_columns",
        key="MILLRACE_INPUT_COLUMNS",
        metavar="COLUMNS",
        help="columns of the tables that become records (default: all)",
    ),
    KeyOption(
        name="input_compression",
        key="MILLRACE_INPUT_COMPRESSION",
        choices=("gzip", "zstd", "auto"),
        help="how the input is compressed; auto goes by the end of each name",
    ),
    KeyOption(
        name="csv_header",
        key="MILLRACE_CSV_HEADER",
        choices=("skip", "repeat"),
        help="CSV begins with a header: leave it out, or repeat it in each request",
    ),
    KeyOption(
        name="csv_records",
        key="MILLRACE_CSV_RECORDS",
        choices=("lines", "rfc4180"),
        help="whether a line feed between quotes ends a record of CSV (default: lines, where it does)",
    ),
    KeyOption(
        name="output_format",
        key="MILLRACE_OUTPUT_FORMAT",
        choices=("parquet", "arrow"),
        help="write tables of this format",
    ),
    KeyOption(
        name="output_columns",
        key="MILLRACE_OUTPUT_COLUMNS",
        metavar="COLUMNS",
        help="names, and types where wanted, of the columns of the output",
    ),
    KeyOption(
        name="output_compression",
        key="MILLRACE_OUTPUT_COMPRESSION",
        choices=("gzip", "zstd"),
        help="compress the output",
    ),
)
"""Every option of this kind, in the order of the help."""


def keyed_environment(environment: Mapping[str, str], options: Mapping[str, object]) -> dict[str, str]:
    """Return the variables together with the keys that options set.

    Args:
        environment: What `--env` says.
        options: Values by option name; None where one was not given, True for a flag.

    Raises:
        UsageError: An option and a variable say different things.
    """
    merged = dict(environment)
    for option in KEY_OPTIONS:
        given = options.get(option.name)
        if given is None or given is False:
            continue
        value = option.alone if given is True else str(given)
        other = merged.get(option.key)
        if other is not None and other != value:
            raise UsageError(f"{option.flag} says {value!r}, but --env says {option.key}={other!r}; give one of them")
        merged[option.key] = value
    return merged


def by_option(text: str) -> str:
    """Return the words of a refusal with the names of options before those of the variables that mean the same."""
    if "is no variable" in text:  # it lists all that are
        return text
    return _KEYS.sub(lambda found: f"{_FLAGS[found[1]]} ({found[1]})" if found[1] in _FLAGS else found[0], text)


_FLAGS = {option.key: option.flag for option in KEY_OPTIONS}
_KEYS = re.compile(r"(?:Environment\.)?\b(MILLRACE_[A-Z_]+)\b")
