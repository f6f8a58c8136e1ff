"""Keep bytes in a file that has no name, so that it is gone when it is closed, or the process ends."""

import os
import tempfile
from io import RawIOBase
from pathlib import Path
from threading import Lock

__all__ = ["NamelessFile"]


class NamelessFile:
    """A file in `folder`, which is made with the first byte, if need be; threads may use it at a time.

    It is closed under the lock that it is used under: a thread that nobody waits for any more, and that came too late,
    would else write into whatever file has got the number meanwhile.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: RawIOBase | None = None
        self._closed = False
        self._lock = Lock()
        self.end = 0
        """Bytes that were appended."""

    def append(self, text: bytes) -> None:
        """Write behind the end.

        Raises:
            OSError: The disk is full, say; what was there before still is.
            ValueError: The file is closed.
        """
        with self._lock:
            descriptor = self._opened()
            written = 0
            while written < len(text):
                written += os.pwrite(descriptor, text[written:], self.end + written)
            self.end += len(text)

    def read(self, start: int, length: int) -> bytes:
        """Return bytes that were appended; raises OSError, and ValueError once the file is closed."""
        with self._lock:
            return os.pread(self._opened(), length, start)

    def begin_anew(self) -> None:
        """Have what is appended next take the room of what was before."""
        self.end = 0

    def _opened(self) -> int:
        if self._closed:
            raise ValueError("the file is closed")
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            # Without a buffer, which is written when the file is closed: that may fail whoever is done with it.
            self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115 - closed by its owner
        return self._file.fileno()

    def close(self) -> None:
        """Drop the file; harmless a second time."""
        with self._lock:
            self._closed = True
            if self._file is not None:
                self._file.close()
