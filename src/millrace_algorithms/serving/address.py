"""Where a model server listens."""

import socket
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Address"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """Where to listen: a Unix socket if there is a path, else host and port."""

    host: str = "0.0.0.0"
    port: int = 8080
    path: str | None = None

    def listen(self, backlog: int) -> socket.socket:
        """Return a listening socket that does not block."""
        if self.path is not None:
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            Path(self.path).unlink(missing_ok=True)  # left by a server that was killed
            listener.bind(self.path)
        else:
            listener = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self.host, self.port))
        listener.listen(backlog)
        listener.setblocking(False)
        return listener
