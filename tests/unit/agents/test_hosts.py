"""Tests of how the end of a container is worded."""

import pytest

from millrace.agents.hosts import exit_reason
from millrace.ports.runtime import ExitStatus


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (ExitStatus(code=3), "AlgorithmError: it broke, exit code: 3"),
        (
            ExitStatus(code=137),
            "AlgorithmError: it broke (killed by signal 9 (SIGKILL), perhaps by the kernel for want of memory), "
            "exit code: 137",
        ),
        (
            ExitStatus(code=137, limit="memory limit of 8 bytes"),
            "AlgorithmError: it broke (killed: memory limit of 8 bytes), exit code: 137",
        ),
    ],
)
def test_a_killed_container_is_told_as_far_as_it_is_known(status: ExitStatus, told: str) -> None:
    """Which limit it was killed for is told if there was one; nobody knows who else sent a signal."""
    assert exit_reason("it broke \n", status, label="AlgorithmError") == told


def test_control_characters_of_a_program_are_escaped() -> None:
    """What a terminal would obey is shown instead."""
    assert exit_reason("a\x1b[2J", ExitStatus(code=1), label="AlgorithmError") == (
        "AlgorithmError: a\\x1b[2J, exit code: 1"
    )
