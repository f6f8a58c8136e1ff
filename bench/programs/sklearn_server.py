"""A model server in a container's shape: a scikit-learn model behind /ping and /invocations, CSV in, CSV out.

    python sklearn_server.py serve

It follows the container contract for host images: model and address come from the environment. With BENCH_ANSWER set,
every invocation is answered with that and nothing is predicted: what is left is what it takes to ask.
"""

import asyncio
import os
from pathlib import Path
from typing import cast

import httptools
import joblib
import numpy as np
import uvloop

_ANSWER = b"HTTP/1.1 %d OK\r\nContent-Type: text/csv\r\nContent-Length: %d\r\n\r\n%b"


class ModelConnection(asyncio.Protocol):
    """One connection; answers each request as soon as it is complete."""

    def __init__(self, model: object, answer: bytes | None) -> None:
        self._model = model
        self._constant = answer
        self._parser = httptools.HttpRequestParser(self)
        self._pieces: list[bytes] = []
        self._url = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_url(self, url: bytes) -> None:
        self._url = url

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        body = b"".join(self._pieces)
        self._pieces.clear()
        if self._url == b"/invocations":
            self._answer(200, self._predict(body) if self._constant is None else self._constant)
        else:
            self._answer(200 if self._url == b"/ping" else 404, b"")

    def _predict(self, body: bytes) -> bytes:
        rows = np.array([line.split(b",") for line in body.splitlines()], dtype=np.float64)
        labels = self._model.predict(rows)  # type: ignore[attr-defined]
        return b"".join(b"%d\n" % label for label in labels)

    def _answer(self, status: int, body: bytes) -> None:
        self._transport.write(_ANSWER % (status, len(body), body))


async def serve() -> None:
    """Listen until killed."""
    base = Path(os.environ.get("SAGEMAKER_BASE_DIR", "/"))
    model = joblib.load(base / "opt/ml/model/model.joblib")
    host = os.environ.get("SAGEMAKER_BIND_ADDRESS", "127.0.0.1")
    port = int(os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080"))
    answer = os.environ.get("BENCH_ANSWER")
    constant = None if answer is None else answer.encode()
    server = await asyncio.get_running_loop().create_server(lambda: ModelConnection(model, constant), host, port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve())
