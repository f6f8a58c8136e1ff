"""Have a job read and write more than the disk is to hold: a file of holes, and an output made one as it is written.

The input is one line feed behind every 256 KiB of holes, which read as zero bytes. A thread follows the file that the
job writes: it compares what is there with what must be there, and punches a hole where it has looked.
"""

import ctypes
import os
import threading
from pathlib import Path

from bench.turns import OutputDiffers

__all__ = ["Follower", "write_input"]

RECORD_BYTES = 256 * 1024
BEHIND_BYTES = 64 * RECORD_BYTES
"""So much at the end of a file that is being written is left alone."""

LOOK_SECONDS = 0.02

_RECORD = bytes(RECORD_BYTES - 1) + b"\n"
_PUNCH_KEEPING_SIZE = 0x02 | 0x01  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, linux/falloc.h
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


def write_input(path: Path, size: int) -> None:
    """Write whole records until there are about so many bytes."""
    path.parent.mkdir(parents=True)
    with path.open("wb", buffering=0) as file:
        for end in range(RECORD_BYTES, size + 1, RECORD_BYTES):
            os.pwrite(file.fileno(), b"\n", end - 1)
        os.fsync(file.fileno())


class Follower:
    """Follows the only file that appears in a folder until its job has ended; `finish` looks at the rest."""

    def __init__(self, folder: Path, size: int) -> None:
        self._folder = folder
        self._size = size // RECORD_BYTES * RECORD_BYTES
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow)
        self._found = threading.Event()
        self._descriptor = -1
        self._compared = 0
        self._differs = False

    def __enter__(self) -> "Follower":
        self._before = set(self._files())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def wait_until_found(self) -> None:
        """Return once there is a file to follow."""
        self._found.wait()

    def finish(self, target: Path) -> None:
        """Compare what is left of the output. Raises OutputDiffers."""
        self._stop()
        if self._descriptor < 0 or not os.path.samestat(os.fstat(self._descriptor), target.stat()):
            raise OutputDiffers(f"{target.name}: the file that was followed is not the output")
        size = os.fstat(self._descriptor).st_size
        self._compare(size)
        if self._differs or size != self._size:
            raise OutputDiffers(f"{target.name}: {size} bytes of {self._size}, different behind {self._compared}")

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("*"))

    def _stop(self) -> None:
        self._done.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._done.wait(LOOK_SECONDS) and not self._differs:
            if self._descriptor < 0:
                found = [path for path in self._files() if path not in self._before and path.is_file()]
                if not found:
                    continue
                self._descriptor = os.open(found[0], os.O_RDWR)
                self._found.set()
            self._compare(os.fstat(self._descriptor).st_size - BEHIND_BYTES)

    def _compare(self, until: int) -> None:
        """Compare whole records up to a position, and give back the room that they take."""
        begin = self._compared
        while not self._differs and self._compared + RECORD_BYTES <= until:
            if os.pread(self._descriptor, RECORD_BYTES, self._compared) != _RECORD:
                self._differs = True
                return
            self._compared += RECORD_BYTES
        if self._compared > begin:
            _punch(self._descriptor, begin, self._compared - begin)


def _punch(descriptor: int, start: int, length: int) -> None:
    if _libc.fallocate(descriptor, _PUNCH_KEEPING_SIZE, start, length):
        raise OSError(ctypes.get_errno(), "no hole can be punched here")
