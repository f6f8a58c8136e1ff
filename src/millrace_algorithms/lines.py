"""Cut a stream of text into blocks of whole lines."""

from collections.abc import Iterable, Iterator

__all__ = ["line_blocks", "with_line_feeds"]

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def line_blocks(chunks: Iterable[bytes], block_bytes: int) -> Iterator[bytes]:
    """Yield blocks of about `block_bytes`, lines separated by LF or CRLF, none at either end.

    Blank lines at the end of the stream are dropped. Others are kept, at the beginning of the next block, because a
    blank line between rows is for the reader of rows to refuse. One line may be longer than a block.
    """
    rest = b""
    first = True
    for chunk in chunks:
        if first and chunk:
            chunk = chunk.removeprefix(_BYTE_ORDER_MARK)
            first = False
        text = rest + chunk if rest else chunk
        start = 0
        while (cut := _cut(text, start, block_bytes)) >= 0:
            block = text[start:cut]
            stripped = block.rstrip(b"\r\n")
            if not stripped:  # blank so far, perhaps to the end of the stream: keep one blank line of them
                start = cut
                continue
            yield stripped
            ending = block[len(stripped) :]
            if ending in (b"", b"\r"):
                start = cut + 1
            else:
                start += len(stripped) + (2 if ending.startswith(b"\r\n") else 1)
        rest = text[start:] if start else text
    stripped = rest.rstrip(b"\r\n")
    if stripped:
        yield stripped


def _cut(text: bytes, start: int, block_bytes: int) -> int:
    """Return where a block ends that begins at `start`; -1 if more text is needed."""
    cut = text.find(b"\n", start + block_bytes)
    if cut < 0 and 2 * (len(text) - start) >= block_bytes:
        # Nearly a block is better than one that begins with a chunk's end: nothing but a part of a line is copied then.
        cut = text.rfind(b"\n", start + 1)
    return cut


def with_line_feeds(block: bytes) -> bytes:
    """Return the block with LF for CRLF."""
    return block.replace(b"\r\n", b"\n") if b"\r" in block else block
