"""Deal the input of a job out to its instances, from file to files."""

import asyncio
from array import array
from collections.abc import Sequence

from millrace.dataplane.input_file import InputFile
from millrace.dataplane.input_lines import line_sizes
from millrace.dataplane.plan import owners
from millrace.jobs.transform_options import Scheduling

__all__ = ["deal_out"]


async def deal_out(whole: InputFile, count: int, scheduling: Scheduling) -> list[InputFile]:
    """Return what each of `count` instances takes, each in key order and to be closed; see `owners`.

    The file of the whole input is closed, unless it is the share of the one instance. A million objects take 20 MB
    while it is found out who takes which, and 4 MB then.
    """
    if count == 1:
        return [whole]
    shares = [whole.another() for _ in range(count)]
    try:
        with whole:
            owner = await asyncio.to_thread(_owners, whole, count, scheduling)
            start = 0
            for block in whole.blocks():
                lines = block.splitlines(keepends=True)
                await asyncio.to_thread(_deal, lines, owner[start : start + len(lines)], shares)
                start += len(lines)
    except BaseException:
        for share in shares:
            share.close()
        raise
    return shares


def _owners(whole: InputFile, count: int, scheduling: Scheduling) -> Sequence[int]:
    sizes = array("q")
    for block in whole.blocks():
        sizes.extend(line_sizes(block.splitlines()))
    return owners(sizes, count, scheduling)


def _deal(lines: Sequence[bytes], owner: Sequence[int], shares: Sequence[InputFile]) -> None:
    dealt: list[list[bytes]] = [[] for _ in shares]
    for line, index in zip(lines, owner, strict=True):
        dealt[index].append(line)
    for share, taken in zip(shares, dealt, strict=True):
        share.add_lines(taken)
