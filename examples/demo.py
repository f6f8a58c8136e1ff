"""Run the examples with the unmodified SageMaker SDK against a server of their own, and tell what was checked.

`make demo` calls it. The server gets a fresh data directory below the output folder and is stopped at the end; what
the examples made stays there as plain files. The exit code is 0 only if every example checked its results and every
check held.
"""

import argparse
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent
NAMES = ("movie_clusters", "text_join", "iris_knn", "digits_pca")
"""The longest first: they run side by side, as most of their time is the SDK's own waiting (30 s in each deploy)."""

START_SECONDS = 60.0
STOP_SECONDS = 60.0
EXAMPLE_SECONDS = 600.0
LINE_LIMIT = 160
"""Characters of a line that are shown; the log file has all."""

CHECK = re.compile(r"check: .* \.\.\. (ok|FAILED)\b")
CHATTER = ("sagemaker.config INFO", "INFO:botocore.")
"""Lines that only tell where the SDK found its settings: in the log file, not on the screen."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How one example ended."""

    name: str
    exit_code: int
    held: int
    failed: int
    seconds: float

    @property
    def is_good(self) -> bool:
        """Whether the example ended well and did check something."""
        return self.exit_code == 0 and self.held > 0 and self.failed == 0


class Console:
    """Prints whole lines from several threads, each with the time since the start and who says it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started = time.monotonic()

    def say(self, text: str, *, who: str = "demo") -> None:
        """Print one line."""
        shown = text if len(text) <= LINE_LIMIT else text[: LINE_LIMIT - 1] + "…"
        with self._lock:
            print(f"{self.elapsed():6.1f} s  {who:<14} | {shown}", flush=True)

    def elapsed(self) -> float:
        """Return seconds since the start."""
        return time.monotonic() - self._started


def main() -> int:
    """Run the demo and return its exit code."""
    options = _parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    output, data_dir = options.output, options.output / "data"
    console = Console()
    _make_fresh(output, data_dir, options.millrace)
    console.say(f"starting millrace serve on {data_dir}")
    with _server(options.millrace, data_dir, output / "server.log", console) as environment:
        console.say(f"ready on {environment['AWS_ENDPOINT_URL']}; running {', '.join(NAMES)} side by side")
        environment["IMAGE_BUILD"] = _image_build(options.millrace, data_dir)
        outcomes = _run_examples(options.sdk_python, environment, output, console)
    console.say("server stopped")
    _print_summary(outcomes, data_dir, options.millrace, options.sdk_python, console)
    return 0 if all(outcome.is_good for outcome in outcomes) else 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--millrace", type=Path, required=True, help="the millrace command")
    parser.add_argument("--sdk-python", type=Path, required=True, help="the Python that has the SageMaker SDK")
    parser.add_argument("--output", type=Path, default=Path("demo-output"), help="folder of all that the demo makes")
    options = parser.parse_args()
    for program in (options.millrace, options.sdk_python):
        if shutil.which(program) is None:
            parser.error(f"{program} is no program that can be run; `make setup sdk` makes it")
    return options


def _image_build(millrace: Path, data_dir: Path) -> str:
    """Return the command that stands for the notebooks' build_and_push.sh."""
    return f"{shlex.quote(str(millrace))} image build --data-dir {shlex.quote(str(data_dir))} --tag {{tag}} {{dir}}"


def _make_fresh(output: Path, data_dir: Path, millrace: Path) -> None:
    """Remove what an earlier demo left, unless somebody uses it."""
    if data_dir.exists():
        if _client_environment(millrace, data_dir, must_run=True) is not None:
            raise SystemExit(f"demo: a server runs on {data_dir}; stop it first, or give another folder by --output")
        if not (data_dir / "state.db").exists() and any(data_dir.iterdir()):
            raise SystemExit(f"demo: {data_dir} holds something else than a data directory; give another --output")
        shutil.rmtree(data_dir)
    data_dir.mkdir(parents=True)


def _client_environment(millrace: Path, data_dir: Path, *, must_run: bool = False) -> dict[str, str] | None:
    """Return the variables that `millrace env` prints; None if no server runs, though one must."""
    # Only with --proxy does `millrace env` insist on a running server: without one it gives the address-to-be.
    command: list[str | Path] = [millrace, "env", "--data-dir", data_dir]
    if must_run:
        command.append("--proxy")
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        if must_run:
            return None
        raise SystemExit(f"demo: millrace env failed:\n{result.stderr}")
    words = (shlex.split(line) for line in result.stdout.splitlines())
    return dict(word.split("=", 1) for line in words if line[:1] == ["export"] for word in line[1:])


@contextmanager
def _server(millrace: Path, data_dir: Path, log_path: Path, console: Console) -> Iterator[dict[str, str]]:
    """Run a server while the block runs, and yield the environment of its clients."""
    with log_path.open("wb") as log:
        # In a session of its own: Ctrl-C is for the demo, which then stops the server in order.
        server = subprocess.Popen(
            [millrace, "serve", "--port", "0", "--data-dir", data_dir, "--stop-jobs"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield _await_ready(server, millrace, data_dir, log_path)
        console.say("stopping the server")
        server.send_signal(signal.SIGTERM)
        exit_code = server.wait(STOP_SECONDS)
        if exit_code:
            raise SystemExit(f"demo: the server ended with exit code {exit_code}:\n{_tail(log_path)}")
    finally:
        if server.poll() is None:
            server.terminate()
            try:
                server.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _await_ready(server: subprocess.Popen[bytes], millrace: Path, data_dir: Path, log_path: Path) -> dict[str, str]:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        if _client_environment(millrace, data_dir, must_run=True) is not None:
            environment = _client_environment(millrace, data_dir)
            assert environment is not None
            if _is_healthy(environment["AWS_ENDPOINT_URL"]):
                return environment
        time.sleep(0.1)
    raise SystemExit(f"demo: the server did not start:\n{_tail(log_path)}")


def _is_healthy(url: str) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy leads to this machine
    try:
        with direct.open(f"{url}/_millrace/health", timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, TimeoutError):
        return False


def _tail(path: Path) -> str:
    return path.read_text("utf-8", "replace")[-2000:]


def _run_examples(python: Path, environment: Mapping[str, str], output: Path, console: Console) -> Sequence[Outcome]:
    variables = _example_environment(environment)
    processes = {
        name: subprocess.Popen(
            [python, EXAMPLES / name / f"{name}.py"],
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        for name in NAMES
    }
    limit = threading.Timer(EXAMPLE_SECONDS, lambda: _kill(processes.values()))
    limit.start()
    with ThreadPoolExecutor(len(processes)) as threads:
        try:
            follow = [
                threads.submit(_follow, name, process, output / f"{name}.log", console)
                for name, process in processes.items()
            ]
            return [each.result() for each in follow]
        finally:
            # Before the pool waits for its threads: after Ctrl-C or SIGTERM they would follow to the examples' end.
            limit.cancel()
            _kill(processes.values())


def _kill(processes: "Iterable[subprocess.Popen[str]]") -> None:
    for process in processes:
        if process.poll() is None:
            process.kill()


def _example_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of an example: what `millrace env` gives, and nothing that leads to a real account."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    local = "127.0.0.1,localhost"
    outside = inherited.get("no_proxy") or inherited.get("NO_PROXY")
    no_proxy = f"{outside},{local}" if outside else local
    return {
        **inherited,
        **environment,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
        "PYTHONUNBUFFERED": "1",
        "SAGEMAKER_SUPPRESS_V2_WARNING": "1",
    }


def _follow(name: str, process: "subprocess.Popen[str]", log_path: Path, console: Console) -> Outcome:
    """Show an example's lines as they come, count its checks and wait for its end."""
    started = console.elapsed()
    held = failed = 0
    assert process.stdout is not None
    with log_path.open("w", encoding="utf-8") as log:
        for line in process.stdout:
            log.write(line)
            found = CHECK.search(line)
            if found is not None:
                held, failed = held + (found[1] == "ok"), failed + (found[1] != "ok")
            if line.strip() and not line.startswith(CHATTER):
                console.say(line.rstrip(), who=name)
    exit_code = process.wait()
    seconds = console.elapsed() - started
    console.say(f"ended with exit code {exit_code} after {seconds:.0f} s; its whole output: {log_path}", who=name)
    return Outcome(name=name, exit_code=exit_code, held=held, failed=failed, seconds=seconds)


def _print_summary(
    outcomes: Sequence[Outcome], data_dir: Path, millrace: Path, sdk_python: Path, console: Console
) -> None:
    print(f"\n{'example':<16}{'checks ok':>10}{'failed':>8}{'exit code':>11}{'seconds':>9}")
    for outcome in outcomes:
        print(
            f"{outcome.name:<16}{outcome.held:>10}{outcome.failed:>8}{outcome.exit_code:>11}{outcome.seconds:>9.1f}"
            f"  {'ok' if outcome.is_good else 'FAILED'}"
        )
    print(f"{'all':<16}{sum(it.held for it in outcomes):>10}{sum(it.failed for it in outcomes):>8}", end="")
    print(f"{'':>11}{console.elapsed():>9.1f}")
    print("\nThe outputs are plain files:")
    for bucket in sorted((data_dir / "objects").glob("sagemaker-*")):
        for path in sorted(
            it for it in bucket.rglob("*") if it.is_file() and it.name.endswith((".out", ".tar.gz", ".png"))
        ):
            print(f"  {path}  {path.stat().st_size:,} bytes")
    print(
        f"""
To go on with this data directory, start the server in one shell and use any AWS client in another:
  {millrace} serve --data-dir {data_dir}

  eval "$({millrace} env --data-dir {data_dir})"
  {sdk_python} {os.path.relpath(EXAMPLES)}/iris_knn/iris_knn.py
  {millrace} jobs list --data-dir {data_dir}
"""
    )
    failed = [it.name for it in outcomes if not it.is_good]
    if failed:
        print(f"demo: FAILED: {', '.join(failed)}; see the lines above and {data_dir.parent}/*.log")
    else:
        print(f"demo: all {sum(it.held for it in outcomes)} checks held")


if __name__ == "__main__":
    sys.exit(main())
