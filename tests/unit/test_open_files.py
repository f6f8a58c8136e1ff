"""The limit of open files is raised as far as it may be."""

import resource
import subprocess
import sys

import pytest

PROGRAM = """
import resource
from millrace.open_files import allow_many_files
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
allow_many_files()
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


MUCH = pytest.mark.skipif(
    0 <= resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 70_000, reason="so many files are not allowed here"
)


@pytest.mark.parametrize(
    ("soft", "hard", "raised"),
    [
        (256, 300, 300),
        (300, 300, 300),
        pytest.param(256, 70_000, 65_536, marks=MUCH),
        pytest.param(69_000, 70_000, 69_000, marks=MUCH),
    ],
)
def test_the_limit_is_raised_as_far_as_is_allowed(soft: int, hard: int, raised: int) -> None:
    """Never lowered, and not beyond what is of use; the bound above it stays."""
    program = PROGRAM.format(soft=soft, hard=hard)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == [str(raised), str(hard)]
