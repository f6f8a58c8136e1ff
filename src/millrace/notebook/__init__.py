"""Batch transforms from Python, without a server: what `import millrace; millrace.transform(...)` is."""

from millrace.notebook.handle import TransformHandle, TransformResult
from millrace.notebook.start import transform

__all__ = ["TransformHandle", "TransformResult", "transform"]
