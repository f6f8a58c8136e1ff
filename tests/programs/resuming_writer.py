"""Write an output with checkpoints, telling on standard output what it is about to do and has done, line by line.

Arguments: the folder of objects, the bytes to go on at, the bytes of the whole output.
"""

import asyncio
import sys
from pathlib import Path

from millrace.names import ObjectRef
from millrace.store.filesystem import FilesystemObjects

PIECE_BYTES = 10_007


def pattern(start: int, end: int) -> bytes:
    """Return a part of a text that is another one at each place."""
    first = start // 8
    text = b"".join(b"%07d\n" % number for number in range(first, end // 8 + 1))
    return text[start - 8 * first : end - 8 * first]


async def main(folder: Path, at: int, size: int) -> None:
    """Go on with the output to its end."""
    store = FilesystemObjects(folder, chunk_bytes=30_000, cached_output_bytes=65_536, output_block_bytes=65_536)
    writer = await store.open_resumable(ObjectRef("shop", "out"), draft="job", at=at)
    print("open", flush=True)
    while at < size:
        for _ in range(5):
            piece = pattern(at, min(at + PIECE_BYTES, size))
            await writer.write(piece)
            at += len(piece)
        print("checkpointing", flush=True)
        print(await writer.checkpoint(), flush=True)
    print("committing", flush=True)
    await writer.commit(origin="job")
    print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
