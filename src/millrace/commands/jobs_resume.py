"""`millrace jobs resume`: start a transform job that goes on with what another one left undone."""

import asyncio
import re
from collections.abc import Iterator, Mapping
from typing import Any

from millrace.commands.environment import client_environment
from millrace.commands.open_jobs import OpenJobs
from millrace.commands.watch import watch_jobs
from millrace.jobs.job import JobKind, JobStatus, TransformJob
from millrace.jobs.transform_options import ON_ERROR, RESUME_FROM, OnError
from millrace.names import DEFAULT_REGION
from millrace.server_addresses import ServerAddress, read_address
from millrace.settings import Settings

__all__ = ["resume_job", "resumed_names"]

MAX_NAME = 63
TRIES = 1000
"""Names that are tried until one is free."""

_SUFFIX = re.compile(r"-resume-\d+$")


def resume_job(
    settings: Settings, name: str, *, region: str | None, new_name: str | None, quarantines: bool, wait: bool
) -> int:
    """Make a job that resumes another one, print its name, and (`wait`) follow it to its end.

    With `quarantines` it leaves bad records out, and tells of them.

    Returns:
        0, or with `wait` what `millrace jobs watch` returns.
    """
    place = region or DEFAULT_REGION
    with OpenJobs(settings) as jobs:
        kind, job = asyncio.run(jobs.find(name, place))
        if not isinstance(job, TransformJob):
            raise SystemExit(f"millrace jobs: {name} is a {kind.value}; only transform jobs can be resumed")
        if not job.is_terminal:
            raise SystemExit(f"millrace jobs: {name} is {job.status.value}; it can be resumed once it has ended")
        if job.status is JobStatus.COMPLETED:
            raise SystemExit(f"millrace jobs: {name} is Completed: nothing is left to resume")
        _, request = asyncio.run(jobs.store.get_with_request(kind, job.region, job.name))
    address = read_address(settings)
    if address is None:
        raise SystemExit(f"millrace jobs: no server runs on {settings.data_dir}; start `millrace serve`")
    client = _client(settings, address, place)
    changed = {RESUME_FROM: job.name, **({ON_ERROR: OnError.QUARANTINE.value} if quarantines else {})}
    request = {**request, "Environment": {**(request.get("Environment") or {}), **changed}}
    made = _create(client, job, request, [new_name] if new_name else resumed_names(job.name))
    print(made, flush=True)
    return watch_jobs(settings, f"{JobKind.TRANSFORM}/{made}", region=place, as_json=False) if wait else 0


def resumed_names(name: str) -> Iterator[str]:
    """Yield names for a job that resumes the one of that name, in the order in which they are tried."""
    stem = _SUFFIX.sub("", name)
    for number in range(1, TRIES + 1):
        suffix = f"-resume-{number}"
        yield f"{stem[: MAX_NAME - len(suffix)].rstrip('-')}{suffix}"


def _client(settings: Settings, address: ServerAddress, region: str) -> Any:
    from botocore.session import Session  # takes 0.1 s: only where it is needed

    environment = client_environment(settings, address, proxy=False)
    return Session().create_client(
        "sagemaker",
        region_name=region,
        endpoint_url=address.url,
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )


def _create(client: Any, job: TransformJob, request: Mapping[str, Any], names: "Iterator[str] | list[str]") -> str:
    """Create the job under the first of the names that is free, and return it."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        tags = client.list_tags(ResourceArn=str(job.arn))["Tags"]
        members = {**request, **({"Tags": tags} if tags else {})}
        last: ClientError | None = None
        for name in names:
            try:
                client.create_transform_job(**{**members, "TransformJobName": name})
            except ClientError as exc:
                if exc.response["Error"]["Code"] != "ResourceInUse":
                    raise
                last = exc
            else:
                return name
        assert last is not None, "there is at least one name"
        raise last
    except (ClientError, BotoCoreError) as exc:
        raise SystemExit(f"millrace jobs: {_reason(exc)}") from exc


def _reason(error: Exception) -> str:
    response: Mapping[str, Any] = getattr(error, "response", {})
    return str(response.get("Error", {}).get("Message") or error)
