"""Stand in for an image build where there is no container runtime: the Dockerfile's program becomes a host image.

    python host_image_build.py DATA_DIR TAG FOLDER

It knows no more of Dockerfiles than the examples' need: one COPY of one file, and an ENTRYPOINT that runs it by Python.
"""

import json
import sys
from pathlib import Path


def main() -> None:
    """Append an entry to the data directory's host images."""
    data_dir, tag, folder = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]).resolve()
    lines = (folder / "Dockerfile").read_text("utf-8").splitlines()
    [entry_point] = [line.partition(" ")[2] for line in lines if line.startswith("ENTRYPOINT")]
    words = json.loads(entry_point)
    assert words[:2] == ["python", "-u"]
    command = [sys.executable, "-u", str(folder / Path(words[2]).name)]
    name = tag.rpartition("/")[2].partition(":")[0]
    with (data_dir / "host-images.toml").open("a", encoding="utf-8") as file:
        file.write(f"[[image]]\nmatch = {json.dumps(name + ':*')}\ncommand = {json.dumps(command)}\n")


if __name__ == "__main__":
    main()
