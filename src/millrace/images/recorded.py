"""Check what EXPOSE and STOPSIGNAL record, although it has no effect here: other builders refuse it too."""

import re
import signal

__all__ = ["BadRecord", "check_port", "check_signal"]

MAX_PORT = 65535
_PROTOCOLS = ("tcp", "udp", "sctp")
_PORT = re.compile(r"(?P<first>[0-9]{1,9})(?:-(?P<last>[0-9]{1,9}))?(?:/(?P<protocol>.*))?", re.DOTALL)
_REAL_TIME = re.compile(r"RTMIN(?:\+[0-9]+)?|RTMAX(?:-[0-9]+)?")


class BadRecord(ValueError):
    """A port or signal is none; the message says why."""


def check_port(text: str) -> None:
    """Accept `port`, `first-last`, each with `/tcp`, `/udp` or `/sctp`. Raises BadRecord.

    Source:
        The Dockerfile reference, EXPOSE.
    """
    match = _PORT.fullmatch(text)
    if match is None:
        raise BadRecord(f"EXPOSE takes ports such as 8080, 8080/udp or 8000-8010, got {text!r}")
    protocol = match["protocol"]
    if protocol is not None and protocol.lower() not in _PROTOCOLS:
        raise BadRecord(f"EXPOSE: the protocol must be tcp, udp or sctp, got {text!r}")
    first = int(match["first"])
    if not 0 < first <= int(match["last"] or first) <= MAX_PORT:
        raise BadRecord(f"EXPOSE: ports must be between 1 and {MAX_PORT}, a range's lower one first, got {text!r}")


def check_signal(text: str) -> None:
    """Accept a signal's number or name, with SIG before it or not, in any case. Raises BadRecord.

    Source:
        The Dockerfile reference, STOPSIGNAL.
    """
    if re.fullmatch("[0-9]{1,3}", text) and 0 < int(text) < signal.NSIG:
        return
    name = text.upper().removeprefix("SIG")
    if f"SIG{name}" not in signal.Signals.__members__ and not _REAL_TIME.fullmatch(name):
        raise BadRecord(
            f"STOPSIGNAL takes a signal's name such as SIGTERM or its number below {signal.NSIG}, got {text!r}"
        )
