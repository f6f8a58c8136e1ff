"""The batch loop that one would write with aiohttp: a bounded number of requests at a time, answers in input order.

    python aiohttp_loop.py URL INPUT OUTPUT CONCURRENCY CONTENT_TYPE

Prints its figures as JSON. It runs on uvloop, on which aiohttp is fastest.
"""

import asyncio
import json
import resource
import sys
import time
from pathlib import Path

import aiohttp
import uvloop


async def post_all(url: str, lines: list[bytes], concurrency: int, content_type: str) -> list[bytes]:
    """Return the answers in the order of the lines."""
    answers: list[bytes] = [b""] * len(lines)
    numbers = iter(range(len(lines)))
    headers = {"Content-Type": content_type}
    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def work() -> None:
            for number in numbers:
                async with session.post(url, data=lines[number]) as answer:
                    answer.raise_for_status()
                    answers[number] = await answer.read()

        await asyncio.gather(*(work() for _ in range(concurrency)))
    return answers


def main() -> None:
    """Run and print seconds and processor seconds, start of the interpreter and imports left out."""
    url, source, target, concurrency, content_type = sys.argv[1:]
    before = resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    lines = Path(source).read_bytes().splitlines(keepends=True)
    answers = uvloop.run(post_all(url, lines, int(concurrency), content_type))
    Path(target).write_bytes(b"".join(answers))
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu}))


if __name__ == "__main__":
    main()
