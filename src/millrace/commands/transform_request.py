"""Hold what `millrace transform` and `millrace.transform` are asked to do."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["TransformRequest"]


@dataclass(frozen=True, kw_only=True)
class TransformRequest:
    """The options of one transform; `environment` has what is beyond SageMaker as the keys of a job."""

    model: str
    input: str
    output: str
    image: str | None = None
    instances: int = 1
    manifest: bool = False
    split_type: str = "None"
    compression: str = "None"
    strategy: str | None = None
    assemble_with: str = "None"
    join_source: str = "None"
    input_filter: str = "$"
    output_filter: str = "$"
    max_concurrent_transforms: int | None = None
    max_payload_in_mb: int | None = None
    content_type: str | None = None
    accept: str | None = None
    timeout_seconds: int = 600
    max_retries: int = 3
    environment: Mapping[str, str]
