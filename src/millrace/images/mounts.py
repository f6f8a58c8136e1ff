"""Read RUN --mount: caches and tmpfs are empty folders of one command; the other types are refused with a hint."""

from millrace.images.problems import StepFailed

__all__ = ["BadMount", "parse_mount"]

_HINTS = {
    "bind": "COPY what the command needs; without a type, a mount is of this one",
    "secret": "fetch what needs it beforehand and COPY it; pip finds packages with the settings of the building user",
    "ssh": "fetch what needs it beforehand and COPY it",
}
_TARGETS = ("target", "dst", "destination")
_WITHOUT_EFFECT = ("id", "sharing", "size", "rw", "readwrite")


class BadMount(StepFailed):
    """A mount that RUN does not take; the message says why."""


def parse_mount(text: str) -> str:
    """Return the target of a cache or tmpfs mount, as written. Raises BadMount.

    Source:
        The Dockerfile reference, "RUN --mount".
    """
    options = {name: value for name, _, value in (part.partition("=") for part in text.split(","))}
    kind = options.pop("type", "bind")
    if kind not in ("cache", "tmpfs"):
        hint = _HINTS.get(kind, "the type must be cache or tmpfs")
        raise BadMount(f"RUN --mount of type {kind} is not supported: {hint}")
    targets = [options.pop(name) for name in _TARGETS if name in options]
    if len(targets) != 1 or not targets[0].strip("/"):
        raise BadMount(f"RUN --mount needs one target, which is not /, got {text!r}")
    unknown = sorted(set(options) - set(_WITHOUT_EFFECT))
    if unknown:
        raise BadMount(f"RUN --mount of type {kind} does not take {', '.join(unknown)}, got {text!r}")
    return targets[0]
