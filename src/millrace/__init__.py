"""Amazon SageMaker's batch inference and ML job platform, self-hosted."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Give `millrace.transform`: what it needs is imported only when it is asked for.

    By its name as text, since every module is below this one: an import statement would close a circle.
    """
    if name == "transform":
        from importlib import import_module

        return import_module("millrace.notebook").transform
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
