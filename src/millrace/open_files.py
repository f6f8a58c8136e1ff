"""Let a process have as many files and connections open as the system allows it."""

import resource

__all__ = ["MOST_FILES", "allow_many_files"]

MOST_FILES = 65_536
"""More is not asked for: programs that we start inherit the limit, and some go through all numbers up to it."""


def allow_many_files() -> None:
    """Raise the limit of open files to what the process may raise it to.

    The usual one, 1,024 or 256, is that low for the sake of select(2), which nobody here uses. A server at its limit
    takes no more connections, and leaves clients waiting; an agent fails its job.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
