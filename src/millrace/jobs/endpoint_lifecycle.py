"""The lifecycle of endpoints.

    create -> CREATING -- all instances READY --> IN_SERVICE <--------------------------+
                 |                                  |  ^  |                              |
       an instance fails                     update |  |  | InstanceLost: started again, |
                 v                                  v  |  | the endpoint stays in service|
              FAILED                             UPDATING -- all READY: new spec, old instances stopped
                 |                                    \\-- a new one fails: new ones stopped, old spec stays
                 +---- delete (from any status) --> DELETING -- all instances gone --> record deleted

Traffic follows `generation`: the router uses READY instances of the generation in service only, so an update never
shows a half-made spec and an update that fails was never seen.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from millrace.jobs.endpoint import EndpointSpec, Variant
from millrace.jobs.job import (
    Command,
    DeleteRequested,
    EndpointJob,
    Event,
    ForgetJob,
    IllegalTransition,
    Instance,
    InstanceFinished,
    InstanceLost,
    InstanceReady,
    InstanceStarted,
    InstanceState,
    JobStatus,
    RemoveWork,
    Scheduled,
    StartInstance,
    StopInstance,
    UpdateRequested,
    WeightsRequested,
)

__all__ = ["advance", "serving_instances"]

Moved = tuple[EndpointJob, Sequence[Command]]


def advance(job: EndpointJob, event: Event) -> Moved:
    """Return the endpoint after an event, and what is to be done."""
    try:
        move = _MOVES[job.status, type(event)]
    except KeyError:
        raise IllegalTransition(job, event) from None
    return move(job, event)


def serving_instances(job: EndpointJob) -> list[Instance]:
    """Return the instances that may get traffic."""
    return [
        instance
        for instance in job.instances
        if instance.generation == job.generation and instance.state is InstanceState.READY and instance.address
    ]


def _schedule(job: EndpointJob, event: Scheduled) -> Moved:
    if job.instances:
        return job, ()
    moved, starts = _add_instances(job, job.spec, generation=job.generation)
    return replace(moved, started_at=event.at, modified_at=event.at), starts


def _add_instances(
    job: EndpointJob, spec: EndpointSpec, *, generation: int, counts: dict[str, int] | None = None
) -> tuple[EndpointJob, list[Command]]:
    """Give each variant its instances (or `counts` more of them) under fresh indexes."""
    added: list[Instance] = []
    for variant in spec.variants:
        number = variant.instance_count if counts is None else counts.get(variant.name, 0)
        for _ in range(number):
            added.append(_instance(variant, job.next_index + len(added), generation))
    starts: list[Command] = [StartInstance(index=instance.index, attempt=1) for instance in added]
    return replace(job, instances=(*job.instances, *added), next_index=job.next_index + len(added)), starts


def _instance(variant: Variant, index: int, generation: int) -> Instance:
    return Instance(
        index=index,
        state=InstanceState.STARTING,
        attempt=1,
        variant=variant.name,
        generation=generation,
        containers=variant.containers,
        startup_timeout_seconds=variant.startup_timeout_seconds,
        download_timeout_seconds=variant.download_timeout_seconds,
    )


def _instance_started(job: EndpointJob, event: InstanceStarted) -> Moved:
    instance = _current(job, event)
    if instance is None or instance.state is not InstanceState.STARTING:
        return job, ()
    return _with_instance(job, replace(instance, state=InstanceState.RUNNING)), ()


def _instance_ready(job: EndpointJob, event: InstanceReady) -> Moved:
    instance = _current(job, event)
    if instance is None or instance.state is InstanceState.STOPPING:
        return job, ()
    moved = _with_instance(job, replace(instance, state=InstanceState.READY, address=event.address, failures=0))
    return _settle(replace(moved, modified_at=event.at))


def _settle(job: EndpointJob) -> Moved:
    """Enter service once everything that was asked for is ready."""
    if job.status not in (JobStatus.CREATING, JobStatus.UPDATING):
        return job, ()
    generation = job.generation + 1 if job.target is not None else job.generation
    wanted = [entry for entry in job.instances if entry.generation == generation]
    if any(entry.state is not InstanceState.READY for entry in wanted if entry.state is not InstanceState.STOPPING):
        return job, ()
    spec = job.target or job.spec
    retired = [entry for entry in job.instances if entry.generation != generation]
    for variant in spec.variants:  # what a smaller count leaves over goes only now: a change that fails takes none away
        retired += _of_variant(job, variant.name, generation)[variant.instance_count :]
    moved = replace(
        job,
        status=JobStatus.IN_SERVICE,
        spec=spec,
        target=None,
        generation=generation,
        failure_reason=None,
        scaled_from=None,
        added=(),
    )
    return _stop_instances(moved, retired)


def _stop_instances(job: EndpointJob, instances: Sequence[Instance]) -> Moved:
    moved = job
    for instance in instances:
        moved = _with_instance(moved, replace(instance, state=InstanceState.STOPPING))
    return moved, [StopInstance(index=instance.index) for instance in instances]


def _instance_gone(job: EndpointJob, event: InstanceFinished | InstanceLost) -> Moved:
    instance = _current(job, event)
    if instance is None:
        return job, ()
    if instance.state is InstanceState.STOPPING:
        return _drop(job, instance, event)
    if job.status is JobStatus.CREATING and _is_verdict(event):
        failed = replace(job, status=JobStatus.FAILED, failure_reason=_reason(event), modified_at=event.at)
        return _stop_rest(failed, instance)
    if job.status is JobStatus.UPDATING and instance.index in _new_indexes(job) and _is_verdict(event):
        return _roll_back(job, instance, event)
    again = replace(
        instance,
        state=InstanceState.STARTING,
        attempt=instance.attempt + 1,
        failures=instance.failures + 1,
        address=None,
    )
    return _with_instance(job, again), [StartInstance(index=again.index, attempt=again.attempt)]


def _new_indexes(job: EndpointJob) -> frozenset[int]:
    """Return the instances that an update under way brings up."""
    if job.target is None:
        return frozenset(job.added)
    return frozenset(entry.index for entry in job.instances if entry.generation != job.generation)


def _roll_back(job: EndpointJob, gone: Instance, event: InstanceFinished | InstanceLost) -> Moved:
    """Give an update up: stop what it brought, serve what was served; an endpoint that served nothing has Failed."""
    new = _new_indexes(job)
    old = [it for it in job.instances if it.index not in new and it.state is not InstanceState.STOPPING]
    kept = replace(
        job,
        status=JobStatus.IN_SERVICE if old else JobStatus.FAILED,
        spec=job.scaled_from or job.spec,
        target=None,
        scaled_from=None,
        added=(),
        failure_reason=_reason(event),
        modified_at=event.at,
    )
    return _stop_rest(kept, gone, new)


def _is_verdict(event: InstanceFinished | InstanceLost) -> bool:
    """Whether the container itself failed; an agent that was killed is just started again."""
    return isinstance(event, InstanceFinished) or event.final


def _reason(event: InstanceFinished | InstanceLost) -> str:
    if isinstance(event, InstanceFinished):
        return event.failure_reason or "The container ended before it was in service."
    return f"The instance's agent was lost. {event.detail}".strip()


def _stop_rest(job: EndpointJob, gone: Instance, indexes: frozenset[int] | None = None) -> Moved:
    """Drop one instance and stop the others (of a set)."""
    left = replace(job, instances=tuple(entry for entry in job.instances if entry.index != gone.index))
    rest = [entry for entry in left.instances if indexes is None or entry.index in indexes]
    moved, stops = _stop_instances(left, rest)
    return moved, [*stops, RemoveWork(index=gone.index)]


def _drop(job: EndpointJob, instance: Instance, event: InstanceFinished | InstanceLost) -> Moved:
    left = tuple(entry for entry in job.instances if entry.index != instance.index)
    moved = replace(job, instances=left, modified_at=event.at)
    if moved.status is JobStatus.DELETING and not left:
        return moved, [RemoveWork(), ForgetJob()]
    return moved, [RemoveWork(index=instance.index)]


def _delete(job: EndpointJob, event: DeleteRequested) -> Moved:
    moved = replace(job, status=JobStatus.DELETING, modified_at=event.at)
    if not moved.instances:
        return moved, [RemoveWork(), ForgetJob()]
    return _stop_instances(moved, moved.instances)


def _update(job: EndpointJob, event: UpdateRequested) -> Moved:
    moved = replace(job, status=JobStatus.UPDATING, target=event.spec, modified_at=event.at)
    return _add_instances(moved, event.spec, generation=job.generation + 1)


def _reweigh(job: EndpointJob, event: WeightsRequested) -> Moved:
    variants = tuple(
        replace(
            variant,
            weight=event.weights.get(variant.name, variant.weight),
            instance_count=event.counts.get(variant.name, variant.instance_count),
        )
        for variant in job.spec.variants
    )
    more = {
        variant.name: max(0, variant.instance_count - len(_of_variant(job, variant.name, job.generation)))
        for variant in variants
    }
    spec = replace(job.spec, variants=variants)
    moved = replace(job, status=JobStatus.UPDATING, spec=spec, scaled_from=job.spec, modified_at=event.at)
    moved, starts = _add_instances(moved, spec, generation=job.generation, counts=more)
    moved = replace(moved, added=tuple(range(job.next_index, moved.next_index)))
    settled, further = _settle(moved)
    return settled, [*starts, *further]


def _of_variant(job: EndpointJob, name: str, generation: int) -> list[Instance]:
    """Return a variant's instances of one generation, without those that are on their way out."""
    return [
        it
        for it in job.instances
        if it.variant == name and it.generation == generation and it.state is not InstanceState.STOPPING
    ]


def _current(
    job: EndpointJob, event: InstanceStarted | InstanceReady | InstanceFinished | InstanceLost
) -> Instance | None:
    instance = job.instance(event.index)
    return instance if instance is not None and instance.attempt == event.attempt else None


def _with_instance(job: EndpointJob, instance: Instance) -> EndpointJob:
    return replace(job, instances=tuple(instance if it.index == instance.index else it for it in job.instances))


def _ignore(job: EndpointJob, event: Event) -> Moved:
    return job, ()


_ALIVE = (JobStatus.CREATING, JobStatus.UPDATING, JobStatus.IN_SERVICE, JobStatus.FAILED, JobStatus.DELETING)

_MOVES: dict[tuple[JobStatus, type], Callable[..., Moved]] = {
    **{(status, Scheduled): _ignore for status in _ALIVE},
    (JobStatus.CREATING, Scheduled): _schedule,
    **{(status, InstanceStarted): _instance_started for status in _ALIVE},
    **{(status, InstanceReady): _instance_ready for status in _ALIVE},
    **{(status, InstanceFinished): _instance_gone for status in _ALIVE},
    **{(status, InstanceLost): _instance_gone for status in _ALIVE},
    **{(status, DeleteRequested): _delete for status in _ALIVE},
    (JobStatus.IN_SERVICE, UpdateRequested): _update,
    (JobStatus.FAILED, UpdateRequested): _update,
    (JobStatus.IN_SERVICE, WeightsRequested): _reweigh,
}
