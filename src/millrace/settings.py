"""Settings, read once from the environment; nothing else reads it."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from millrace.names import DEFAULT_ACCOUNT

__all__ = ["BadSettings", "Settings", "as_environment", "load"]


class BadSettings(ValueError):
    """One or more settings do not parse; the message lists them all."""


def _setting(variable: str, default: Any, help: str) -> Any:
    return field(default=default, metadata={"variable": variable, "help": help})


def _default_data_dir() -> Path:
    return Path.home() / ".millrace"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that an operator may set. Each field names its environment variable."""

    data_dir: Path = field(
        default_factory=_default_data_dir,
        metadata={"variable": "MILLRACE_DATA_DIR", "help": "Folder of all state: database, objects, logs, work."},
    )
    host: str = _setting("MILLRACE_HOST", "127.0.0.1", "Address that the server listens on.")
    port: int = _setting("MILLRACE_PORT", 4600, "TCP port of the server; 0 takes a free one.")
    account: str = _setting("MILLRACE_ACCOUNT", DEFAULT_ACCOUNT, "Account id in ARNs, 12 digits.")
    role_name: str = _setting(
        "MILLRACE_ROLE_NAME", "MillraceExecutionRole", "Name of the execution role that callers appear to have."
    )
    clock_skew_seconds: int = _setting(
        "MILLRACE_CLOCK_SKEW_SECONDS", 900, "Seconds by which a signature's time may differ from the server's."
    )
    max_body_bytes: int = _setting(
        "MILLRACE_MAX_BODY_BYTES", 16 * 1024 * 1024, "Bytes of a request body that is held in memory (not S3 objects)."
    )
    max_jobs: int = _setting("MILLRACE_MAX_JOBS", 8, "Jobs that run at a time; further ones wait in order of creation.")
    lease_seconds: float = _setting(
        "MILLRACE_LEASE_SECONDS", 15.0, "Seconds without a heartbeat after which an instance's work is taken over."
    )
    heartbeat_seconds: float = _setting(
        "MILLRACE_HEARTBEAT_SECONDS", 1.0, "Seconds between heartbeats of an agent; progress is reported with each."
    )
    max_instance_attempts: int = _setting(
        "MILLRACE_MAX_INSTANCE_ATTEMPTS", 5, "Times that an instance whose agent died is started before the job fails."
    )
    ping_window_seconds: float = _setting(
        "MILLRACE_PING_WINDOW_SECONDS", 1800.0, "Seconds in which a batch container must answer /ping with 200."
    )
    stop_grace_seconds: float = _setting(
        "MILLRACE_STOP_GRACE_SECONDS", 120.0, "Seconds between SIGTERM and SIGKILL of a training container."
    )
    serve_stop_grace_seconds: float = _setting(
        "MILLRACE_SERVE_STOP_GRACE_SECONDS", 30.0, "Seconds between SIGTERM and SIGKILL of a serving container."
    )
    max_read_chunk_bytes: int = _setting(
        "MILLRACE_MAX_READ_CHUNK_BYTES", 1024 * 1024, "Bytes of an object that are read at a time."
    )
    max_inflight_bytes: int = _setting(
        "MILLRACE_MAX_INFLIGHT_BYTES",
        48 * 1024 * 1024,
        "Bytes of payloads and answers that one transform instance holds; one payload is always let through.",
    )
    log_level: str = _setting("MILLRACE_LOG_LEVEL", "info", "Least severe level logged: debug, info, warning, error.")

    @property
    def database_path(self) -> Path:
        return self.data_dir / "state.db"

    @property
    def objects_dir(self) -> Path:
        return self.data_dir / "objects"

    @property
    def logs_dir(self) -> Path:
        return self.data_dir / "logs"

    @property
    def work_dir(self) -> Path:
        return self.data_dir / "work"

    @property
    def run_dir(self) -> Path:
        """Sockets, locks and the server's address: facts about running processes."""
        return self.data_dir / "run"


_PARSERS: dict[str, Callable[[str], Any]] = {
    "Path": lambda text: Path(text).expanduser().absolute(),
    "str": str,
    "int": int,
    "float": float,
}


def load(environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Read the settings from the environment; a keyword argument that is not None wins.

    Raises:
        BadSettings: All settings that do not parse, each with its value.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    problems = []
    for entry in fields(Settings):
        variable = entry.metadata["variable"]
        type_name = entry.type if isinstance(entry.type, str) else entry.type.__name__
        if overrides.get(entry.name) is not None:
            values[entry.name] = _PARSERS[type_name](str(overrides[entry.name]))
        elif variable in environ:
            try:
                values[entry.name] = _PARSERS[type_name](environ[variable])
            except ValueError:
                problems.append(f"{variable} must be of type {type_name}, got {environ[variable]!r}")
    account = values.get("account", DEFAULT_ACCOUNT)
    if not (len(account) == 12 and account.isdigit()):
        problems.append(f"MILLRACE_ACCOUNT must be 12 digits, got {account!r}")
    if problems:
        raise BadSettings("; ".join(problems))
    return Settings(**values)


def as_environment(settings: Settings) -> dict[str, str]:
    """Return the variables that give another process the same settings."""
    return {entry.metadata["variable"]: str(getattr(settings, entry.name)) for entry in fields(Settings)}
