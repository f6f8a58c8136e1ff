"""The nursery, as a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path


def test_neither_it_nor_its_agents_keep_what_was_inherited(tmp_path: Path) -> None:
    """A pipe that the server's event loop left open would outlive the server in every agent and container."""
    reads, writes = os.pipe()
    os.set_inheritable(writes, True)
    environment = {**os.environ, "MILLRACE_DATA_DIR": str(tmp_path / "data")}
    request = {"ref": [1, 0, 1], "log": str(tmp_path / "log"), "folder": str(tmp_path), "environment": environment}
    with subprocess.Popen(
        [sys.executable, "-m", "millrace.nursery"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        close_fds=False,
    ) as nursery:
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        os.close(writes)
        nursery.stdin.write(json.dumps(request).encode() + b"\n")
        nursery.stdin.flush()
        assert int(nursery.stdout.readline()) > 0
        assert os.read(reads, 1) == b""  # the last that had it open closed it, while the nursery lives
        os.close(reads)
        nursery.stdin.close()
        nursery.stdout.read()  # ends when no agent has the channel's end open
