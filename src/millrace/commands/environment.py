"""`millrace env` and `millrace exec`: the environment in which AWS clients find the server."""

import asyncio
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from millrace.clock import SystemClock
from millrace.errors import UsageError
from millrace.names import DEFAULT_REGION
from millrace.ports.keys import AccessKey
from millrace.private_folder import make_private_folder
from millrace.server_addresses import ServerAddress, http_url, reachable_host, read_address, read_addresses
from millrace.settings import Settings, as_environment
from millrace.store.opening import open_database
from millrace.store.sql_keys import SqlKeyStore

__all__ = ["client_environment", "execute", "print_environment"]

START_SECONDS = 30.0
STOP_SECONDS = 60.0
SDK_CONFIG_FILE = "sagemaker-config.yaml"

_DISTURBING = ("AWS_SESSION_TOKEN", "AWS_PROFILE")
"""Variables of another login, which clients would mix with ours."""


def print_environment(settings: Settings, *, proxy: bool) -> int:
    """Print `export` lines for the shell."""
    address = read_address(settings)
    if address is None:
        print(f"millrace env: no server runs on {settings.data_dir}; start `millrace serve`", file=sys.stderr)
        if proxy:
            return 1
    print(f"unset {' '.join(_DISTURBING)}")
    for name, value in client_environment(settings, address, proxy=proxy).items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def client_environment(settings: Settings, address: ServerAddress | None, *, proxy: bool) -> dict[str, str]:
    """Return what makes unmodified AWS clients use this server.

    Source:
        api-surface.md 1.3.
    """
    key = _first_key(settings)
    region = os.environ.get("AWS_DEFAULT_REGION") or os.environ.get("AWS_REGION") or DEFAULT_REGION
    environment = {
        "AWS_ENDPOINT_URL": address.url if address else http_url(reachable_host(settings.host), settings.port),
        "AWS_ACCESS_KEY_ID": key.id,
        "AWS_SECRET_ACCESS_KEY": key.secret,
        "AWS_DEFAULT_REGION": region,
        "AWS_EC2_METADATA_DISABLED": "true",
        "SAGEMAKER_USER_CONFIG_OVERRIDE": str(_write_sdk_config(settings, region)),
        "MILLRACE_DATA_DIR": str(settings.data_dir),
        **_no_proxy(),
    }
    if proxy and address is not None:
        environment |= {
            "HTTPS_PROXY": address.proxy_url,
            "https_proxy": address.proxy_url,
            "AWS_CA_BUNDLE": address.proxy_ca,
            "REQUESTS_CA_BUNDLE": address.proxy_ca,
        }
    return environment


def _no_proxy() -> dict[str, str]:
    """Keep clients behind a proxy of their own from sending it what is for this machine."""
    inherited = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    hosts = [host for host in inherited.split(",") if host]
    hosts += [host for host in ("127.0.0.1", "localhost") if host not in hosts]
    return {"NO_PROXY": ",".join(hosts), "no_proxy": ",".join(hosts)}


def _first_key(settings: Settings) -> AccessKey:
    database = open_database(settings)
    try:
        keys = SqlKeyStore(database, clock=SystemClock(), account=settings.account)
        return asyncio.run(keys.ensure_first_key(role=settings.role_name))
    finally:
        database.close()


def _write_sdk_config(settings: Settings, region: str) -> Path:
    """Write the SDK's configuration file: its default bucket needs no STS then, and it sends no telemetry."""
    path = settings.data_dir / SDK_CONFIG_FILE
    bucket = f"sagemaker-{region}-{settings.account}"
    text = (
        "SchemaVersion: '1.0'\n"
        "SageMaker:\n"
        "  PythonSDK:\n"
        "    Modules:\n"
        "      TelemetryOptOut: true\n"
        "      Session:\n"
        f"        DefaultS3Bucket: {bucket}\n"
    )
    if not path.exists() or path.read_text("utf-8") != text:
        draft = path.with_suffix(f".{os.getpid()}.tmp")
        draft.write_text(text, "utf-8")
        draft.replace(path)
    return path


def execute(settings: Settings | None, command: Sequence[str], load: Callable[[Path], Settings]) -> int:
    """Run a command against the server of a data directory, starting one for its time if none runs.

    Args:
        settings: Of the data directory given, or None for a temporary one.
        command: The command and its arguments.
        load: Makes the settings of a temporary directory.
    """
    if settings is None:
        with tempfile.TemporaryDirectory(prefix="millrace-") as folder:
            print(f"millrace exec: temporary data directory {folder}, removed at the end", file=sys.stderr)
            return _execute(load(Path(folder)), command)
    return _execute(settings, command)


def _execute(settings: Settings, command: Sequence[str]) -> int:
    for number in (signal.SIGTERM, signal.SIGHUP):  # so that the server that we start ends with us
        signal.signal(number, _end)
    address = read_address(settings)
    server = None
    try:
        if address is None:
            server, address = _start_server(settings)
        inherited = {name: value for name, value in os.environ.items() if name not in _DISTURBING}
        environment = {**inherited, **client_environment(settings, address, proxy=True)}
        try:
            return _run(command, environment)
        except OSError as exc:
            print(f"millrace exec: can't run {command[0]!r}: {exc.strerror}", file=sys.stderr)
            return 127
    finally:
        if server is not None:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _end(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def _run(command: Sequence[str], environment: dict[str, str]) -> int:
    process = subprocess.Popen(command, env=environment)
    while True:
        try:
            code = process.wait()
            return 128 - code if code < 0 else code
        except KeyboardInterrupt:
            continue  # the command got the same Ctrl-C and decides what it means
        except SystemExit:
            process.terminate()  # what was sent to us only is meant for the command too
            process.wait()
            raise


def _start_server(settings: Settings) -> tuple[subprocess.Popen[bytes], ServerAddress]:
    log_path = settings.data_dir / "server.log"
    make_private_folder(settings.data_dir, known_by=settings.database_path.name)
    try:
        opened = log_path.open("ab")
    except OSError as exc:
        raise UsageError(f"data directory {settings.data_dir}: {exc.strerror}") from exc
    with opened as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "millrace", "serve", "--port", "0", "--stop-jobs", "--stop-at-eof"],
            env={**os.environ, **as_environment(settings)},
            stdin=subprocess.PIPE,  # closed when we end, however we end
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        for address in read_addresses(settings):
            if address.process_id == server.pid:
                return server, address
        if server.poll() is not None:
            break
        time.sleep(0.02)
    server.kill()
    server.wait()
    raise SystemExit(f"millrace exec: the server did not start:\n{log_path.read_text('utf-8')[-2000:]}")
