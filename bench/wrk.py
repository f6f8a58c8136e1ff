"""Run wrk, the fastest HTTP client around, as the limit of what a client can reach."""

import http.client
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.machine import cpu_seconds, pinned
from bench.turns import OutputDiffers, Sample

__all__ = ["ensure_installed", "once", "post", "raw_request", "replay", "version"]

_SCRIPT = """
local file = io.open("{body}", "rb")
wrk.method = "POST"
wrk.body = file:read("*a")
file:close()
wrk.headers["Content-Type"] = "{content_type}"
"""

_REPLAY = """
local file = io.open("{requests}", "rb")
local requests, sent = {{}}, 0
while true do
  local size = file:read("*l")
  if not size then break end
  requests[#requests + 1] = file:read(tonumber(size))
end
file:close()
function request()
  sent = sent + 1
  return requests[(sent - 1) % #requests + 1]
end
function done(summary, latency, requests)
  print(string.format("latency us %d %d", latency:percentile(50), latency:percentile(99)))
end
"""


def ensure_installed() -> None:
    """Install wrk where that needs no question; else say how it is installed.

    Raises:
        SystemExit: wrk is missing and can't be installed from here.
    """
    if shutil.which("wrk"):
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-qq", "--yes", "wrk"]):
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return
    raise SystemExit("this case needs wrk: install it with `sudo apt-get install wrk` (or your system's packages)")


def version() -> str:
    """Return wrk's version."""
    shown = subprocess.run(["wrk", "-v"], check=False, capture_output=True, text=True)
    found = re.search(r"wrk \S+", shown.stdout + shown.stderr)
    return found.group() if found else "wrk"


def post(url: str, body: bytes, *, connections: int, seconds: int, core: int | None, content_type: str) -> Sample:
    """Post a body over and over on one thread, on any core if none is named; the work is the number of requests.

    Raises:
        SystemExit: Some answer was not 2xx, or there was none.
    """
    with tempfile.TemporaryDirectory() as folder:
        body_file, script = Path(folder, "body"), Path(folder, "post.lua")
        body_file.write_bytes(body)
        script.write_text(_SCRIPT.format(body=body_file, content_type=content_type), "utf-8")
        return _run(url, script, connections=connections, seconds=seconds, core=core)


def raw_request(method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """Return a request as it goes over the wire."""
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    if body or method in ("POST", "PUT"):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def replay(url: str, requests: Sequence[bytes], *, connections: int, seconds: int, core: int) -> Sample:
    """Send finished requests over and over on one thread, one after the other; tells p50 and p99 of their times.

    Raises:
        SystemExit: Some answer was not 2xx, or there was none.
    """
    with tempfile.TemporaryDirectory() as folder:
        stored, script = Path(folder, "requests"), Path(folder, "replay.lua")
        with stored.open("wb") as file:
            for request in requests:
                file.write(b"%d\n%b" % (len(request), request))
        script.write_text(_REPLAY.format(requests=stored), "utf-8")
        return _run(url, script, connections=connections, seconds=seconds, core=core)


def once(url: str, request: bytes) -> bytes:
    """Send a finished request as wrk does, but once, and return the body of the answer.

    Raises:
        OutputDiffers: The answer was not 200.
    """
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    method, path, _ = first.split(" ")
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    try:
        connection.request(method, path, body, dict(line.split(": ", 1) for line in lines))
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise OutputDiffers(f"{url}{path} answered {answer.status}: {text[:500]!r}")
    return text


def _run(url: str, script: Path, *, connections: int, seconds: int, core: int | None) -> Sample:
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(script), url]
    before = cpu_seconds(children=True)
    command = ["wrk", *options] if core is None else pinned(["wrk", *options], core)
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    cpu = cpu_seconds(children=True) - before
    total = re.search(r"(\d+) requests in ([0-9.]+)(ms|s|m)", shown)
    if total is None or not int(total[1]) or "Non-2xx" in shown:
        raise SystemExit(f"wrk got no good answers from {url}:\n{shown}")
    taken = float(total[2]) * {"ms": 0.001, "s": 1.0, "m": 60.0}[total[3]]
    latency = re.search(r"latency us (\d+) (\d+)", shown)
    facts = {} if latency is None else {"p50 ms": int(latency[1]) / 1000, "p99 ms": int(latency[2]) / 1000}
    return Sample(seconds=taken, work=int(total[1]), cpu_seconds=cpu, facts=facts)
