"""Send what is written in one turn of the event loop together: head and body of an answer in one system call."""

import asyncio
from collections.abc import Iterable
from typing import Any

__all__ = ["GatheringTransport"]

GATHERED_BYTES = 16 * 1024
"""Writes up to this size wait for the next one, or for the end of the turn; more is not worth copying."""

Data = bytes | bytearray | memoryview


class GatheringTransport(asyncio.Transport):
    """A transport that holds back one small write until there is a second one or the turn is over.

    A call of send() to a socket on the same machine takes as long as half of the Python of a small answer.
    """

    def __init__(self, inner: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._inner = inner
        self._loop = loop
        self._held: Data | None = None
        self._flush_is_due = False

    def write(self, data: Data) -> None:
        if not data:
            return
        held = self._held
        if held is not None:
            self._held = None
            if len(data) <= GATHERED_BYTES:
                self._inner.write(b"".join((held, data)))
            else:
                self._inner.writelines((held, data))
        elif len(data) <= GATHERED_BYTES:
            self._held = data
            if not self._flush_is_due:
                self._flush_is_due = True
                self._loop.call_soon(self._end_turn)
        else:
            self._inner.write(data)

    def writelines(self, list_of_data: Iterable[Data]) -> None:
        self.flush()
        self._inner.writelines(list_of_data)

    def flush(self) -> None:
        """Hand on what is held back."""
        if self._held is not None:
            held, self._held = self._held, None
            if not self._inner.is_closing():
                self._inner.write(held)

    def _end_turn(self) -> None:
        self._flush_is_due = False
        self.flush()

    def close(self) -> None:
        self.flush()
        self._inner.close()

    def abort(self) -> None:
        self._held = None
        self._inner.abort()

    def get_write_buffer_size(self) -> int:
        return self._inner.get_write_buffer_size() + (0 if self._held is None else len(self._held))

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._inner.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._inner.set_write_buffer_limits(high, low)

    def can_write_eof(self) -> bool:
        return self._inner.can_write_eof()

    def write_eof(self) -> None:
        self.flush()
        self._inner.write_eof()

    def is_closing(self) -> bool:
        return self._inner.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._inner.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._inner.set_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._inner.get_protocol()

    def is_reading(self) -> bool:
        return self._inner.is_reading()

    def pause_reading(self) -> None:
        self._inner.pause_reading()

    def resume_reading(self) -> None:
        self._inner.resume_reading()
