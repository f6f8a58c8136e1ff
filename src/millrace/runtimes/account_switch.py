"""Become an image's user where bubblewrap stays root: by a program of the container."""

from collections.abc import Sequence

from millrace.runtimes.accounts import Account

__all__ = ["SWITCH_FAILED", "switch_account"]

_PROGRAM = "/usr/bin/setpriv"
"""By its place: an image's PATH may not lead there."""

SWITCH_FAILED = "setpriv: failed to execute "
"""What it says, with status 127, before the name of a program that it can't become."""


def switch_account(account: Account) -> Sequence[str]:
    """Return the words to put before a command so that it runs as the account, without capabilities; none for root."""
    if (account.user, account.group) == (0, 0):
        return ()
    return (_PROGRAM, f"--reuid={account.user}", f"--regid={account.group}", "--clear-groups", "--inh-caps=-all", "--")
