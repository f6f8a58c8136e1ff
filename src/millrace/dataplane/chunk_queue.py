"""Hold chunks as they were read, and cut them into runs of any size without copying."""

from collections import deque

__all__ = ["ChunkQueue"]


class ChunkQueue:
    """Takes chunks at its end, gives views on bytes from its beginning."""

    def __init__(self) -> None:
        self._chunks: deque[bytes | memoryview] = deque()
        self._start = 0
        """Where the first chunk's unused bytes begin."""
        self.size = 0
        """Bytes that were added and not taken."""

    def add(self, chunk: bytes | memoryview) -> None:
        """Add a chunk at the end."""
        if chunk:
            self._chunks.append(chunk)
            self.size += len(chunk)

    def cut(self, size: int) -> list[bytes | memoryview]:
        """Take the first `size` bytes, which must be there."""
        parts: list[bytes | memoryview] = []
        self.size -= size
        while size:
            chunk, start = self._chunks[0], self._start
            end = min(len(chunk), start + size)
            parts.append(chunk if end - start == len(chunk) else memoryview(chunk)[start:end])
            size -= end - start
            self._start = end
            if end == len(chunk):
                self._chunks.popleft()
                self._start = 0
        return parts
