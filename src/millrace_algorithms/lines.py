"""Cut a stream of text into blocks of whole lines."""

from collections.abc import Iterable, Iterator

__all__ = ["line_blocks", "with_line_feeds"]

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def line_blocks(chunks: Iterable[bytes], block_bytes: int, *, head: bytes = b"", tail: bytes = b"") -> Iterator[bytes]:
    """Yield blocks of about `block_bytes`, lines separated by LF or CRLF, none at either end.

    Blank lines at the end of the stream are dropped. Others are kept, at the beginning of the next block, because a
    blank line between rows is for the reader of rows to refuse. One line may be longer than a block. Each block stands
    between `head` and `tail`, which here costs no further copy.
    """
    rest = b""
    first = True
    for chunk in chunks:
        if first and chunk:
            chunk = chunk.removeprefix(_BYTE_ORDER_MARK)
            first = False
        if rest and len(rest) + len(chunk) >= block_bytes:
            # One copy for the common case: the rest of the last chunk and most of this one make a block.
            cut = chunk.find(b"\n", block_bytes - len(rest))
            cut = cut if cut >= 0 else chunk.rfind(b"\n", 1)
            if cut > 0 and chunk[cut - 1] not in b"\r\n":
                yield b"".join((head, rest, memoryview(chunk)[:cut], tail))
                rest, start = b"", cut + 1
                text = chunk
            else:
                text, start = rest + chunk, 0
        else:
            text, start = rest + chunk if rest else chunk, 0
        while (cut := _cut(text, start, block_bytes)) >= 0:
            end = cut if text[cut - 1] not in b"\r\n" else start + len(text[start:cut].rstrip(b"\r\n"))
            if end == start:  # blank so far, perhaps to the end of the stream: keep one blank line of them
                start = cut
                continue
            yield b"".join((head, memoryview(text)[start:end], tail))
            ending = text[end:cut]
            if ending in (b"", b"\r"):
                start = cut + 1
            else:
                start = end + (2 if ending.startswith(b"\r\n") else 1)
        rest = text[start:] if start else text
    stripped = rest.rstrip(b"\r\n")
    if stripped:
        yield b"".join((head, stripped, tail))


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
