"""Post each file of a folder with Ray Data: python ray_small_objects.py STARTED HOST:PORT INPUT_FOLDER OUTPUT SECOND.

As its users do: files are read as bytes, an actor per core posts each batch over connections that it keeps, and the
answers are written as one Parquet dataset.
"""

import http.client
import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import local

import numpy as np
import ray
from timing import report

CORES, CONNECTIONS = 2, 8


class Post:
    """Posts the bytes of a batch and adds the answers; eight connections for each of the two actors."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._own = local()
        self._pool = ThreadPoolExecutor(CONNECTIONS)

    def _post(self, body: bytes) -> bytes:
        connection = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = http.client.HTTPConnection(self._address)
        connection.request("POST", "/invocations", body, {"Content-Type": "application/octet-stream"})
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"status {answer.status}")
        return content

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        answers = list(self._pool.map(self._post, batch["bytes"]))
        return {"path": batch["path"], "answer": np.array(answers, dtype=object)}


def main() -> None:
    """Use both cores; no dashboard, no progress bars."""
    started, address, source, *targets = sys.argv[1:]
    ray.init(include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False

    def transform(folder: str) -> None:
        files = ray.data.read_binary_files(source, include_paths=True)
        pool = ray.data.ActorPoolStrategy(size=CORES)
        posted = files.map_batches(Post, fn_constructor_args=(address,), batch_size=256, compute=pool, num_cpus=0.5)
        posted.write_parquet(folder)

    report(float(started), transform, (targets[0], targets[1]))
    ray.shutdown()


if __name__ == "__main__":
    main()
