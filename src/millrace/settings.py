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


def _setting(variable: str, default: Any, help: str, *, least: float | None = None, most: float | None = None) -> Any:
    metadata = {"variable": variable, "help": help, "least": least, "most": most}
    return field(default=default, metadata=metadata)


def _secret(variable: str, default: str, help: str) -> Any:
    """Declare a setting that may hold a password: it is left out where settings are printed."""
    return field(default=default, repr=False, metadata={"variable": variable, "help": help})


def _default_data_dir() -> Path:
    return Path.home() / ".millrace"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that an operator may set. Each field names its environment variable."""

    data_dir: Path = field(
        default_factory=_default_data_dir,
        metadata={"variable": "MILLRACE_DATA_DIR", "help": "Folder of all state: database, objects, logs, work."},
    )
    database_url: str = _secret(
        "MILLRACE_DATABASE_URL",
        "",
        "PostgreSQL database of the state, postgresql://...; empty for a SQLite file in the data directory.",
    )
    database_connections: int = _setting(
        "MILLRACE_DATABASE_CONNECTIONS",
        8,
        "Connections that a server has to PostgreSQL, besides the one that hears of changes.",
        least=1,
    )
    database_statement_seconds: float = _setting(
        "MILLRACE_DATABASE_STATEMENT_SECONDS",
        30.0,
        "Seconds after which PostgreSQL gives a statement up, also one that waits for a lock.",
        least=0.1,
    )
    database_wait_seconds: float = _setting(
        "MILLRACE_DATABASE_WAIT_SECONDS",
        10.0,
        "Seconds that requests and agents wait for a PostgreSQL server that is away, before they fail.",
        least=0,
    )
    host: str = _setting("MILLRACE_HOST", "127.0.0.1", "Address that the server listens on.")
    port: int = _setting("MILLRACE_PORT", 4600, "TCP port of the server; 0 takes a free one.", least=0, most=65535)
    account: str = _setting("MILLRACE_ACCOUNT", DEFAULT_ACCOUNT, "Account id in ARNs, 12 digits.")
    strict: str = _setting(
        "MILLRACE_STRICT",
        "off",
        "on: refuse what SageMaker refuses for its own reasons: transform jobs of models with ModelDataSource.",
    )
    role_name: str = _setting(
        "MILLRACE_ROLE_NAME", "MillraceExecutionRole", "Name of the execution role that callers appear to have."
    )
    new_buckets: str = _setting(
        "MILLRACE_NEW_BUCKETS",
        "private",
        "S3 buckets whose owner has ruled nothing: private (ACLs off, public access blocked) or open (neither).",
    )
    clock_skew_seconds: int = _setting(
        "MILLRACE_CLOCK_SKEW_SECONDS",
        900,
        "Seconds by which a signature's time may differ from the server's.",
        least=0,
    )
    max_body_bytes: int = _setting(
        "MILLRACE_MAX_BODY_BYTES",
        16 * 1024 * 1024,
        "Bytes of a request body that is held in memory (not S3 objects).",
        least=1,
    )
    max_jobs: int = _setting(
        "MILLRACE_MAX_JOBS", 8, "Jobs that run at a time; further ones wait in order of creation.", least=1
    )
    lease_seconds: float = _setting(
        "MILLRACE_LEASE_SECONDS",
        15.0,
        "Seconds without a heartbeat after which an instance's work is taken over.",
        least=0.1,
    )
    heartbeat_seconds: float = _setting(
        "MILLRACE_HEARTBEAT_SECONDS",
        1.0,
        "Seconds between heartbeats of an agent; progress is reported with each.",
        least=0.01,
    )
    max_instance_attempts: int = _setting(
        "MILLRACE_MAX_INSTANCE_ATTEMPTS",
        5,
        "Times that an instance whose agent died is started before the job fails.",
        least=1,
    )
    ping_window_seconds: float = _setting(
        "MILLRACE_PING_WINDOW_SECONDS",
        1800.0,
        "Seconds in which a batch container must answer /ping with 200.",
        least=0.1,
    )
    stop_grace_seconds: float = _setting(
        "MILLRACE_STOP_GRACE_SECONDS",
        120.0,
        "Seconds between SIGTERM and SIGKILL of a training container.",
        least=0,
    )
    serve_stop_grace_seconds: float = _setting(
        "MILLRACE_SERVE_STOP_GRACE_SECONDS",
        30.0,
        "Seconds between SIGTERM and SIGKILL of a serving container.",
        least=0,
    )
    max_read_chunk_bytes: int = _setting(
        "MILLRACE_MAX_READ_CHUNK_BYTES",
        1024 * 1024,
        "Bytes of an object that are read at a time.",
        least=4096,
    )
    max_inflight_bytes: int = _setting(
        "MILLRACE_MAX_INFLIGHT_BYTES",
        48 * 1024 * 1024,
        "Bytes of payloads and answers that one transform instance holds; one payload and its answer are always let "
        "through.",
        least=1,
    )
    max_answer_bytes: int = _setting(
        "MILLRACE_MAX_ANSWER_BYTES",
        256 * 1024 * 1024,
        "Bytes of the longest answer that a transform job takes; not with MaxPayloadInMB=0, which streams answers.",
        least=1,
    )
    capture_flush_seconds: float = _setting(
        "MILLRACE_CAPTURE_FLUSH_SECONDS",
        5.0,
        "Seconds after which calls captured from endpoints are written to S3 at the latest.",
        least=0.01,
    )
    capture_flush_bytes: int = _setting(
        "MILLRACE_CAPTURE_FLUSH_BYTES",
        1024 * 1024,
        "Bytes of calls captured from endpoints that are written at once, without waiting longer.",
        least=1,
    )
    capture_buffer_bytes: int = _setting(
        "MILLRACE_CAPTURE_BUFFER_BYTES",
        64 * 1024 * 1024,
        "Bytes of calls captured from endpoints that wait in memory; what finds no room is dropped and counted.",
        least=0,
    )
    runtime: str = _setting(
        "MILLRACE_RUNTIME",
        "auto",
        "Which images run: auto (host images as processes, brought images in the sandbox), sandbox (as auto, but of "
        "host images only built-in algorithms) or process (host images only).",
    )
    sandbox_egress: str = _setting(
        "MILLRACE_SANDBOX_EGRESS",
        "auto",
        "Networks that sandboxed containers reach beside the platform's API: auto (all, where slirp4netns works) or "
        "none.",
    )
    container_memory_bytes: int = _setting(
        "MILLRACE_CONTAINER_MEMORY_BYTES",
        0,
        "Bytes of memory above which a sandboxed container is killed; 0 for no limit.",
        least=0,
    )
    container_processes: int = _setting(
        "MILLRACE_CONTAINER_PROCESSES",
        16384,
        "Processes and threads above which a sandboxed container is refused more or killed; 0 for no limit.",
        least=0,
    )
    log_level: str = _setting("MILLRACE_LOG_LEVEL", "info", "Least severe level logged: debug, info, warning, error.")
    log_format: str = _setting(
        "MILLRACE_LOG_FORMAT", "text", "Form of log lines: text (for people) or json (one object a line)."
    )
    access_log: str = _setting(
        "MILLRACE_ACCESS_LOG", "errors", "Requests that get a log line: none, errors (status 400 and above) or all."
    )
    metrics_token: str = _secret(
        "MILLRACE_METRICS_TOKEN", "", "Bearer token that reading /metrics takes; without one only this machine may."
    )
    drain_seconds: float = _setting(
        "MILLRACE_DRAIN_SECONDS", 30.0, "Seconds that requests in progress are given after SIGTERM.", least=0
    )
    gc_interval_hours: float = _setting(
        "MILLRACE_GC_INTERVAL_HOURS", 24.0, "Hours between the server's own runs of gc; 0 for none.", least=0
    )
    keep_jobs_days: float = _setting(
        "MILLRACE_KEEP_JOBS_DAYS", 0.0, "Days that records of ended jobs are kept; 0 for ever.", least=0
    )
    keep_logs_days: float = _setting(
        "MILLRACE_KEEP_LOGS_DAYS",
        0.0,
        "Days that log lines are kept in groups without a retention of their own; 0 for ever.",
        least=0,
    )
    keep_uploads_days: float = _setting(
        "MILLRACE_KEEP_UPLOADS_DAYS",
        30.0,
        "Days that multipart uploads which are not completed are kept; 0 for ever.",
        least=0,
    )
    keep_drafts_hours: float = _setting(
        "MILLRACE_KEEP_DRAFTS_HOURS",
        24.0,
        "Hours that files which a killed writer left half written are kept.",
        least=1,
    )
    keep_unfinished_outputs_days: float = _setting(
        "MILLRACE_KEEP_UNFINISHED_OUTPUTS_DAYS",
        7.0,
        "Days that unfinished outputs of jobs are kept for a later attempt to go on with; 0 for ever.",
        least=0,
    )

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

    @property
    def images_dir(self) -> Path:
        """Images that users brought."""
        return self.data_dir / "images"

    @property
    def sandbox_dir(self) -> Path:
        """What the sandbox keeps of the machine for all containers."""
        return self.data_dir / "sandbox"


_CHOICES: Mapping[str, tuple[str, ...]] = {
    "runtime": ("auto", "sandbox", "process"),
    "sandbox_egress": ("auto", "none"),
    "log_level": ("debug", "info", "warning", "error"),
    "log_format": ("text", "json"),
    "access_log": ("none", "errors", "all"),
    "new_buckets": ("private", "open"),
    "strict": ("off", "on"),
}

_DATABASE_SCHEMES = ("postgresql://", "postgres://")

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
        given = overrides.get(entry.name)
        text = environ.get(variable) if given is None else str(given)
        if text is None:
            continue
        try:
            values[entry.name] = _PARSERS[type_name](text)
        except ValueError:
            problems.append(f"{variable} must be of type {type_name}, got {text!r}")
    for entry in fields(Settings):
        value = values.get(entry.name)
        least, most = entry.metadata.get("least"), entry.metadata.get("most")
        if value is None or ((least is None or value >= least) and (most is None or value <= most)):
            continue
        bounds = f"at least {least}" if most is None else f"between {least} and {most}"
        problems.append(f"{entry.metadata['variable']} must be {bounds}, got {value}")
    scheme = values.get("database_url", "").partition(":")[0]
    if scheme and not values["database_url"].startswith(_DATABASE_SCHEMES):
        # Only the scheme is told: behind it may be a password.
        problems.append(f"MILLRACE_DATABASE_URL must start with postgresql:// or be empty, got {scheme[:20]!r}...")
    lease = values.get("lease_seconds", Settings.lease_seconds)
    heartbeat = values.get("heartbeat_seconds", Settings.heartbeat_seconds)
    if lease < 3 * heartbeat:
        problems.append(f"MILLRACE_LEASE_SECONDS must be at least 3 heartbeats of {heartbeat} s, got {lease}")
    account = values.get("account", DEFAULT_ACCOUNT)
    for name, choices in _CHOICES.items():
        chosen = values.get(name, choices[0])
        if chosen not in choices:
            problems.append(f"MILLRACE_{name.upper()} must be one of {', '.join(choices)}, got {chosen!r}")
    if not (len(account) == 12 and account.isdigit()):
        problems.append(f"MILLRACE_ACCOUNT must be 12 digits, got {account!r}")
    if problems:
        raise BadSettings("; ".join(problems))
    return Settings(**values)


def as_environment(settings: Settings) -> dict[str, str]:
    """Return the variables that give another process the same settings."""
    return {entry.metadata["variable"]: str(getattr(settings, entry.name)) for entry in fields(Settings)}
