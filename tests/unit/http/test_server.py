"""The server as an operator runs it."""

import subprocess
import sys
import urllib.request

import pytest

# The slow request ends serving itself, and is answered only after that.
PROGRAM = """
import asyncio, os, signal
from millrace import http

async def main():
    stop = asyncio.Event()

    async def app(scope, receive, send):
        if scope["path"] == "/slow":
            os.kill(os.getpid(), signal.{signal})
            await stop.wait()
        await send({{"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}})
        await send({{"type": "http.response.body", "body": b"ok"}})

    await http.serve(app, "127.0.0.1", 0, lambda host, port: print(port, flush=True), stop=stop)

asyncio.run(main())
print("drained", flush=True)
"""


@pytest.mark.parametrize("signal", ["SIGTERM", "SIGINT"])
def test_a_signal_drains_and_the_process_exits_with_zero(signal: str) -> None:
    """The request in progress is answered, then the process ends with status 0."""
    program = PROGRAM.format(signal=signal)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        for path in ("quick", "slow"):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=20) as answer:
                assert answer.read() == b"ok"
        assert process.stdout.readline() == "drained\n"
        assert process.wait(20) == 0
