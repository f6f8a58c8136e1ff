"""Find the virtual environments of the peers, whose pins would not go together with ours or with each other's."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DAFT", "LIGHT", "LOCAL_MODE", "MLSERVER", "RAY", "SPARK", "Environment"]

_ROOT = Path(__file__).parent.parent
_VERSIONS = (
    "import json, platform, sys; from importlib.metadata import version; "
    "print(json.dumps({'Python': platform.python_version()} | {name: version(name) for name in sys.argv[1:]}))"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """One virtual environment, made by the Makefile from bench/requirements/NAME.txt."""

    name: str
    target: str
    """What `make` is asked for to have it."""
    distributions: tuple[str, ...]
    """Those whose versions are told."""

    @property
    def folder(self) -> Path:
        return _ROOT / f".venv-{self.name}"

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def absence(self) -> str | None:
        """Return why it can't be used, or None."""
        failure = self.folder / "failed.txt"
        if failure.exists():
            return f"pip could not install it here: {failure.read_text('utf-8').strip().splitlines()[-1]}"
        if not (self.folder / ".installed").exists():
            return f"not installed; make {self.target} installs it"
        return None

    def versions(self) -> str:
        """Return the versions of what matters in it, or nothing if it is not there."""
        if self.absence() is not None:
            return ""
        command = [str(self.python), "-c", _VERSIONS, *self.distributions]
        shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return ", ".join(f"{name} {version}" for name, version in json.loads(shown).items())

    def variables(self) -> dict[str, str]:
        """Return the environment variables of its programs, whose own commands come first in PATH."""
        return {**os.environ, "PATH": f"{self.python.parent}{os.pathsep}{os.environ['PATH']}"}


LIGHT = Environment(
    name="bench",
    target="bench",
    distributions=("moto", "werkzeug", "aiohttp", "uvloop", "flask", "gunicorn", "pandas"),
)
LOCAL_MODE = Environment(name="peers-local-mode", target="bench-peers", distributions=("sagemaker", "urllib3"))
RAY = Environment(name="peers-ray", target="bench-peers", distributions=("ray", "pandas", "pyarrow", "numpy"))
SPARK = Environment(name="peers-spark", target="bench-peers", distributions=("pyspark", "pandas", "pyarrow", "numpy"))
DAFT = Environment(name="peers-daft", target="bench-peers", distributions=("daft", "pyarrow", "numpy"))
MLSERVER = Environment(
    name="peers-mlserver", target="bench-peers", distributions=("mlserver", "mlserver-sklearn", "scikit-learn")
)
