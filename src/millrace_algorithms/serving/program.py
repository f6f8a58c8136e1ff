"""Load a model and serve it as the container contract asks."""

import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import orjson

from millrace_algorithms.errors import ModelError, RequestError
from millrace_algorithms.serving.address import Address
from millrace_algorithms.serving.http_server import HttpServer
from millrace_algorithms.serving.invocation import Answer, Invocation, Model
from millrace_algorithms.serving.limits import Limits
from millrace_algorithms.serving.memory import keep_freed_memory
from millrace_algorithms.serving.workers import fork_workers

__all__ = ["read_address", "read_limits", "run"]

_MEBIBYTE = 1024 * 1024
_DEFAULT_PAYLOAD_MB = 6


def read_address(environ: Mapping[str, str]) -> Address:
    """Return where to listen: MILLRACE_BIND_UNIX, or SAGEMAKER_BIND_ADDRESS and SAGEMAKER_BIND_TO_PORT."""
    port = environ.get("SAGEMAKER_BIND_TO_PORT") or environ.get("SAGEMAKER_HTTP_PORT") or "8080"
    return Address(
        host=environ.get("SAGEMAKER_BIND_ADDRESS") or "0.0.0.0",
        port=_read_count("SAGEMAKER_BIND_TO_PORT", port, 65535),
        path=environ.get("MILLRACE_BIND_UNIX") or None,
    )


def read_limits(environ: Mapping[str, str]) -> Limits:
    """Return the limits; SAGEMAKER_MAX_PAYLOAD_IN_MB bounds the body, and 0 means the default bound."""
    megabytes = _read_count("SAGEMAKER_MAX_PAYLOAD_IN_MB", environ.get("SAGEMAKER_MAX_PAYLOAD_IN_MB") or "0", 4096)
    return Limits(body_bytes=megabytes * _MEBIBYTE) if megabytes else Limits()


def _read_count(name: str, text: str, maximum: int) -> int:
    if not text.isdigit() or int(text) > maximum:
        raise ModelError(f"{name} must be an integer from 0 to {maximum}, got {text!r}")
    return int(text)


def run(load: Callable[[Path], Model], model_dir: Path, environ: Mapping[str, str]) -> int:
    """Serve until SIGTERM and return the exit code. Nothing listens before the model is loaded."""
    try:
        address, limits = read_address(environ), read_limits(environ)
        processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        given = environ.get("SAGEMAKER_MODEL_SERVER_WORKERS") or str(processors)
        count = _read_count("SAGEMAKER_MODEL_SERVER_WORKERS", given, 1024)
        model = load(model_dir)
    except ModelError as exc:
        print(f"Customer Error: {exc}", file=sys.stderr, flush=True)
        return 1
    keep_freed_memory()
    invoke = answering(model, default_accept=environ.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT"))
    workers = fork_workers(count, limits, invoke) if count > 1 else []
    server = HttpServer(
        address.listen(limits.backlog),
        invoke,
        workers=workers,
        parameters=Answer(
            body=orjson.dumps(
                {
                    "MaxConcurrentTransforms": max(1, count),
                    "BatchStrategy": "MULTI_RECORD",
                    "MaxPayloadInMB": _DEFAULT_PAYLOAD_MB,
                }
            ),
            content_type="application/json",
        ),
        limits=limits,
    )
    signal.signal(signal.SIGTERM, lambda *_: server.stop())
    signal.signal(signal.SIGINT, lambda *_: server.stop())
    try:
        return 0 if server.run() else 1
    finally:
        server.close()
        if address.path is not None:
            Path(address.path).unlink(missing_ok=True)


def answering(model: Model, *, default_accept: str | None = None) -> Callable[[Invocation], Answer]:
    """Return the model's `invoke` with every exception turned into an answer.

    `default_accept` stands in where a request names no type of answer, before the algorithm's own default.
    """

    def invoke(invocation: Invocation) -> Answer:
        if default_accept and (invocation.accept or "*/*").strip() in ("", "*/*"):
            invocation = replace(invocation, accept=default_accept)
        try:
            return model.invoke(invocation)
        except RequestError as exc:
            return Answer(status=exc.status, body=str(exc).encode())
        except Exception as exc:  # noqa: BLE001 - one request's fault must not end the server
            traceback.print_exc()
            return Answer(status=500, body=f"{type(exc).__name__}: {exc}".encode())

    return invoke
