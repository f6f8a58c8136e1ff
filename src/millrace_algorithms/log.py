"""Print log lines as SageMaker's algorithms stamp them."""

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TextIO

__all__ = ["Log"]


@dataclass(frozen=True, slots=True)
class Log:
    """Writes whole lines at once, so that lines of several threads do not mix."""

    stream: TextIO = sys.stdout
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def plain(self, line: str) -> None:
        """Print a line without a stamp, such as a metric line's reader expects."""
        self.stream.write(f"{line}\n")
        self.stream.flush()

    def info(self, text: str) -> None:
        self._stamped("INFO", text)

    def warning(self, text: str) -> None:
        self._stamped("WARNING", text)

    def error(self, text: str) -> None:
        self._stamped("ERROR", text)

    def _stamped(self, level: str, text: str) -> None:
        self.plain(f"[{self.now():%m/%d/%Y %H:%M:%S} {level} {threading.get_ident()}] {text}")
