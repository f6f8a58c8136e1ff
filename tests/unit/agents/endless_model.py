"""A model whose archive never ends, for tests of what breaks its unpacking off."""

import asyncio
import gzip
import io
import os
import tarfile
import threading
from pathlib import Path
from typing import Any

from millrace.jobs.endpoint import ModelData
from millrace.names import ObjectRef
from millrace.store.filesystem import FilesystemObjects

PIECES_BEFORE_IT_IS_UNDER_WAY = 400
"""More than the pipe and all buffers behind it hold: some were unpacked."""


class EndlessModel(FilesystemObjects):
    """A store each of whose objects is such an archive; it has one member, again and again."""

    data = ModelData(uri="s3://shop/model.tar.gz", is_prefix=False, is_gzip=True)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.under_way = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._written = threading.Thread(target=lambda: None)

    async def open_local(self, ref: ObjectRef) -> Any:
        read_end, write_end = os.pipe()
        self._written = threading.Thread(target=self._write, args=(write_end,))
        self._written.start()
        return None, None, read_end

    def _write(self, descriptor: int) -> None:
        member = tarfile.TarInfo("weights.bin")
        member.size = 1024 * 1024
        piece = gzip.compress(member.tobuf() + bytes(member.size))
        written = 0
        try:
            with io.FileIO(descriptor, "w") as pipe:
                while True:
                    pipe.write(piece)
                    written += 1
                    if written == PIECES_BEFORE_IT_IS_UNDER_WAY:
                        self._loop.call_soon_threadsafe(self.under_way.set)
        except BrokenPipeError:
            return

    async def closed(self) -> None:
        """Return once nobody reads the archive any more."""
        await asyncio.to_thread(self._written.join)
