"""Say which options `millrace transform` has, and make its request of them."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from millrace.commands.transform_keys import KEY_OPTIONS, KeyOption, Shape, keyed_environment
from millrace.commands.transform_request import TransformRequest
from millrace.errors import UsageError

__all__ = ["add_transform_options", "request_of"]


def add_transform_options(transform: argparse.ArgumentParser) -> None:
    """Add the options to a parser."""
    add = transform.add_argument
    add("--model", required=True, help="model archive or folder, s3 address, or name of a model")
    add("--input", required=True, help="file, folder or s3 prefix of the input")
    add("--output", required=True, help="folder or s3 prefix of the output")
    add("--image", help="image of the model; archives of built-in algorithms know theirs")
    add("--manifest", action="store_true", help="the input is a manifest object")
    add("--split-type", choices=["None", "Line", "RecordIO", "TFRecord"], default="None")
    add("--compression-type", choices=["None", "Gzip"], default="None")
    add("--strategy", choices=["MultiRecord", "SingleRecord"])
    add("--assemble-with", choices=["None", "Line"], default="None")
    add("--join-source", choices=["None", "Input"], default="None")
    add("--input-filter", default="$", metavar="JSONPATH")
    add("--output-filter", default="$", metavar="JSONPATH")
    add("--instances", type=int, default=1, metavar="N", help="models that share the objects, each in a container")
    add("--max-concurrent-transforms", type=int, metavar="N")
    add("--max-payload-in-mb", type=int, metavar="N")
    add("--content-type", metavar="TYPE")
    add("--accept", metavar="TYPE")
    add("--invocations-timeout-in-seconds", type=int, default=600, metavar="N")
    add("--invocations-max-retries", type=int, default=3, metavar="N")
    add("--env", action="append", default=[], metavar="NAME=VALUE", help="variable of the container; repeatable")
    beyond = transform.add_argument_group("beyond SageMaker (each sets a variable of the job)")
    for option in KEY_OPTIONS:
        beyond.add_argument(option.flag, **_parsed_as(option))
    look = transform.add_argument_group("look first, and afterwards")
    only = look.add_mutually_exclusive_group()
    only.add_argument("--explain", action="store_true", help="print what would be done; start nothing")
    only.add_argument(
        "--dry-run",
        action="store_true",
        help="start the model, send one record, show request, answer and output; write nothing",
    )
    look.add_argument("--report", type=Path, metavar="DIR", help="write report.json and report.html into this folder")


def _parsed_as(option: KeyOption) -> Mapping[str, Any]:
    """Return the arguments of `add_argument` for an option."""
    if option.shape is Shape.FLAG:
        return {"action": "store_true", "help": option.help}
    words: dict[str, Any] = {"help": option.help, "metavar": option.metavar}
    if option.choices:
        words["choices"] = option.choices
    if option.shape is Shape.WORD_OR_ALONE:
        words |= {"nargs": "?", "const": option.alone}
    return words


def request_of(options: argparse.Namespace) -> TransformRequest:
    """Return the request that parsed options are."""
    return TransformRequest(
        model=options.model,
        input=options.input,
        output=options.output,
        image=options.image,
        instances=options.instances,
        manifest=options.manifest,
        split_type=options.split_type,
        compression=options.compression_type,
        strategy=options.strategy,
        assemble_with=options.assemble_with,
        join_source=options.join_source,
        input_filter=options.input_filter,
        output_filter=options.output_filter,
        max_concurrent_transforms=options.max_concurrent_transforms,
        max_payload_in_mb=options.max_payload_in_mb,
        content_type=options.content_type,
        accept=options.accept,
        timeout_seconds=options.invocations_timeout_in_seconds,
        max_retries=options.invocations_max_retries,
        environment=keyed_environment(_variables(options.env), vars(options)),
    )


def _variables(pairs: Sequence[str]) -> Mapping[str, str]:
    variables = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name:
            raise UsageError(f"--env must be NAME=VALUE, got {pair!r}")
        variables[name] = value
    return variables
