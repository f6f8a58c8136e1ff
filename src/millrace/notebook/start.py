"""Start a transform in the background of a Python program, with the options of the command line."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from millrace import settings
from millrace.commands.transform_keys import keyed_environment
from millrace.commands.transform_request import TransformRequest
from millrace.errors import UsageError
from millrace.notebook.handle import TransformHandle

__all__ = ["transform"]

Place = str | os.PathLike[str]


def transform(
    *,
    model: Place,
    input: Place,
    output: Place,
    image: str | None = None,
    data_dir: Place | None = None,
    manifest: bool = False,
    split_type: Literal["None", "Line", "RecordIO", "TFRecord"] = "None",
    compression_type: Literal["None", "Gzip"] = "None",
    strategy: Literal["MultiRecord", "SingleRecord"] | None = None,
    assemble_with: Literal["None", "Line"] = "None",
    join_source: Literal["None", "Input"] = "None",
    input_filter: str = "$",
    output_filter: str = "$",
    instances: int = 1,
    max_concurrent_transforms: int | None = None,
    max_payload_in_mb: int | None = None,
    content_type: str | None = None,
    accept: str | None = None,
    invocations_timeout_in_seconds: int = 600,
    invocations_max_retries: int = 3,
    env: Mapping[str, str] | None = None,
    on_error: Literal["fail", "skip", "quarantine"] | None = None,
    max_failed_records: int | str | None = None,
    strict_counts: bool = False,
    autotune: bool | Literal["off", "throughput"] | None = None,
    range_split: bool | int | None = None,
    scheduling: Literal["balanced", "modulo"] | None = None,
    filters: Literal["sagemaker", "extended"] | None = None,
    input_format: Literal["parquet", "arrow"] | None = None,
    input_columns: str | None = None,
    input_compression: Literal["gzip", "zstd", "auto"] | None = None,
    csv_header: Literal["skip", "repeat"] | None = None,
    csv_records: Literal["lines", "rfc4180"] | None = None,
    output_format: Literal["parquet", "arrow"] | None = None,
    output_columns: str | None = None,
    output_compression: Literal["gzip", "zstd"] | None = None,
) -> TransformHandle:
    """Start a transform in a thread of its own, and return what shows how it goes and gives its results.

    Everything means what it means to `millrace transform`; `env` are the variables of the container. It runs beside
    whatever event loop the caller has.

    Raises:
        UsageError, ValidationError: The request makes no sense; nothing was started.
    """
    keyed = {
        "on_error": on_error,
        "max_failed_records": max_failed_records,
        "strict_counts": strict_counts,
        "autotune": autotune,
        "range_split": range_split,
        "scheduling": scheduling,
        "filters": filters,
        "input_format": input_format,
        "input_columns": input_columns,
        "input_compression": input_compression,
        "csv_header": csv_header,
        "csv_records": csv_records,
        "output_format": output_format,
        "output_columns": output_columns,
        "output_compression": output_compression,
    }
    _check_numbers(
        instances=instances,
        max_concurrent_transforms=max_concurrent_transforms,
        max_payload_in_mb=max_payload_in_mb,
        invocations_timeout_in_seconds=invocations_timeout_in_seconds,
        invocations_max_retries=invocations_max_retries,
    )
    request = TransformRequest(
        model=os.fspath(model),
        input=os.fspath(input),
        output=os.fspath(output),
        image=image,
        instances=instances,
        manifest=manifest,
        split_type=split_type,
        compression=compression_type,
        strategy=strategy,
        assemble_with=assemble_with,
        join_source=join_source,
        input_filter=input_filter,
        output_filter=output_filter,
        max_concurrent_transforms=max_concurrent_transforms,
        max_payload_in_mb=max_payload_in_mb,
        content_type=content_type,
        accept=accept,
        timeout_seconds=invocations_timeout_in_seconds,
        max_retries=invocations_max_retries,
        environment=keyed_environment(env or {}, keyed),
    )
    loaded = settings.load(data_dir=None if data_dir is None else Path(data_dir))
    return TransformHandle(loaded, request)


def _check_numbers(**numbers: object) -> None:
    """Raise UsageError for what is no whole number where one is needed; the command line checks that itself."""
    for name, number in numbers.items():
        if number is not None and (not isinstance(number, int) or isinstance(number, bool)):
            raise UsageError(f"{name} must be a whole number, got {number!r}")
