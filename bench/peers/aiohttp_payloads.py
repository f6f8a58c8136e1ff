"""The loop that one would write with aiohttp for payloads of many lines, as large as they may be.

    python aiohttp_payloads.py URL INPUT OUTPUT CONCURRENCY CONTENT_TYPE PAYLOAD_BYTES

Prints its figures as JSON.
"""

import json
import resource
import sys
import time
from pathlib import Path

import uvloop
from aiohttp_loop import post_all


def payloads(text: bytes, limit: int) -> list[bytes]:
    """Cut text behind the last line feed before each limit."""
    found = []
    start = 0
    while start < len(text):
        end = len(text) if len(text) - start <= limit else text.rindex(b"\n", start, start + limit) + 1
        found.append(text[start:end])
        start = end
    return found


def main() -> None:
    """Run and print seconds and processor seconds, start of the interpreter and imports left out."""
    url, source, target, concurrency, content_type, limit = sys.argv[1:]
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    bodies = payloads(Path(source).read_bytes(), int(limit))
    answers = uvloop.run(post_all(url, bodies, int(concurrency), content_type))
    Path(target).write_bytes(b"".join(answers))
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu}))


if __name__ == "__main__":
    main()
