"""Settle concurrency, payload limit and batch strategy: the request's value, else the container's, else the default."""

from collections.abc import Mapping

import orjson

from millrace.dataplane.client import Client, ClientError
from millrace.jobs.transform import DEFAULT_MAX_PAYLOAD_BYTES, MIB, BatchStrategy, EffectiveSettings, TransformSpec

__all__ = ["EffectiveSettings", "container_environment", "effective_settings", "settle"]

MAX_CONCURRENT_TRANSFORMS = 100
ANSWER_SECONDS = 10.0
"""Time in which /execution-parameters must answer; the toolkits answer at once, with the settings or with 404."""

MAX_ANSWER_BYTES = 1024 * 1024
"""Longest answer to /execution-parameters; a longer one counts as none."""

_WIRE_NAMES = {BatchStrategy.MULTI_RECORD: "MULTI_RECORD", BatchStrategy.SINGLE_RECORD: "SINGLE_RECORD"}
_STRATEGIES = {wire: strategy for strategy, wire in _WIRE_NAMES.items()}


def settle(spec: TransformSpec, suggested: object) -> EffectiveSettings:
    """Return the effective settings, given the JSON value that /execution-parameters answered (None: nothing).

    Source:
        batch-transform.md 4.1: members may be missing; unknown values are ignored.
    """
    members = suggested if isinstance(suggested, dict) else {}
    concurrency = spec.max_concurrent_transforms or _integer(
        members.get("MaxConcurrentTransforms"), 1, MAX_CONCURRENT_TRANSFORMS
    )
    payload = spec.max_payload_bytes
    if payload is None:
        megabytes = _integer(members.get("MaxPayloadInMB"), 0, None)
        payload = DEFAULT_MAX_PAYLOAD_BYTES if megabytes is None else megabytes * MIB
    strategy = spec.strategy or _STRATEGIES.get(str(members.get("BatchStrategy")))
    return EffectiveSettings(
        max_concurrent_transforms=concurrency or 1,
        max_payload_bytes=payload,
        strategy=strategy or BatchStrategy.MULTI_RECORD,
    )


def _integer(value: object, least: int, most: int | None) -> int | None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least or (most is not None and value > most):
        return None
    return value


async def effective_settings(client: Client, spec: TransformSpec) -> EffectiveSettings:
    """Ask the container for its settings, once, and return what the instance runs with.

    Any status other than 200, any other body than a JSON object and no answer at all count as no wishes.
    """
    try:
        answer = await client.invoke(
            "GET",
            "/execution-parameters",
            (("Connection", "close"),),
            timeout_seconds=ANSWER_SECONDS,
            max_answer_bytes=MAX_ANSWER_BYTES,
        )
        suggested = orjson.loads(answer.body) if answer.status == 200 else None
    except (ClientError, ValueError):
        suggested = None
    return settle(spec, suggested)


def container_environment(spec: TransformSpec, model_environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a batch container gets of the model and the job.

    Source:
        batch-transform.md 4.4: three of the platform's variables are there only if the request set the member; the
        job's Environment wins over the model's.
    """
    environment = {"SAGEMAKER_BATCH": "true"}
    if spec.max_payload_bytes is not None:
        environment["SAGEMAKER_MAX_PAYLOAD_IN_MB"] = str(spec.max_payload_bytes // MIB)
    if spec.strategy is not None:
        environment["SAGEMAKER_BATCH_STRATEGY"] = _WIRE_NAMES[spec.strategy]
    if spec.max_concurrent_transforms is not None:
        environment["SAGEMAKER_MAX_CONCURRENT_TRANSFORMS"] = str(spec.max_concurrent_transforms)
    return {**environment, **model_environment, **spec.environment}
