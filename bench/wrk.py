"""Run wrk, the fastest HTTP client around, as the limit of what a client can reach."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from bench.machine import cpu_seconds, pinned
from bench.turns import Sample

__all__ = ["ensure_installed", "post", "version"]

_SCRIPT = """
local file = io.open("{body}", "rb")
wrk.method = "POST"
wrk.body = file:read("*a")
file:close()
wrk.headers["Content-Type"] = "{content_type}"
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


def post(url: str, body: bytes, *, connections: int, seconds: int, core: int, content_type: str) -> Sample:
    """Post a body over and over on one thread; the work is the number of requests.

    Raises:
        SystemExit: Some answer was not 2xx, or there was none.
    """
    with tempfile.TemporaryDirectory() as folder:
        body_file, script = Path(folder, "body"), Path(folder, "post.lua")
        body_file.write_bytes(body)
        script.write_text(_SCRIPT.format(body=body_file, content_type=content_type), "utf-8")
        options = ["-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), url]
        before = cpu_seconds(children=True)
        shown = subprocess.run(pinned(["wrk", *options], core), check=True, capture_output=True, text=True).stdout
        cpu = cpu_seconds(children=True) - before
    total = re.search(r"(\d+) requests in ([0-9.]+)(ms|s|m)", shown)
    if total is None or not int(total[1]) or "Non-2xx" in shown:
        raise SystemExit(f"wrk got no good answers from {url}:\n{shown}")
    taken = float(total[2]) * {"ms": 0.001, "s": 1.0, "m": 60.0}[total[3]]
    return Sample(seconds=taken, work=int(total[1]), cpu_seconds=cpu)
