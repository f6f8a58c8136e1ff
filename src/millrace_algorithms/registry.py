"""Which built-in algorithms there are, and which image names mean them; imports no numerical library."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["ALGORITHMS", "AlgorithmInfo", "find"]

_PROTOBUF = "application/x-recordio-protobuf"
_CSV = "text/csv"


@dataclass(frozen=True, kw_only=True, slots=True)
class AlgorithmInfo:
    """What the platform must know of an algorithm without loading it."""

    name: str
    """As in `sagemaker.image_uris.retrieve(name, region)` and `python -m millrace_algorithms <name>`."""
    repository: str
    """The whole repository path of its image."""
    description: str
    module: str
    """Module with `ALGORITHM`; imported only by the program itself."""
    required_channels: tuple[str, ...]
    optional_channels: tuple[str, ...]
    content_types: tuple[str, ...]
    """Media types of training channels."""
    metric_definitions: tuple[tuple[str, str], ...]
    """(name, regular expression) pairs attached to every training job of it."""
    tags: frozenset[str] = frozenset({"1", "latest"})
    """Image tags that mean it; no tag and a digest are always accepted."""
    default_content_type: str = _PROTOBUF
    """Content type of a training channel that names none."""
    input_modes: tuple[str, ...] = ("File", "FastFile", "Pipe")
    multiple_instances: bool = True
    """Whether a job may ask for more than one instance; one process reads all shards then."""

    @property
    def channels(self) -> tuple[str, ...]:
        """Every channel it reads, the required ones first."""
        return self.required_channels + self.optional_channels


def _metrics(*final: tuple[str, str, str]) -> tuple[tuple[str, str], ...]:
    """Return the definitions for (channel, name, loss | score) triples, with progress and throughput of training."""
    definitions = [
        (f"{channel}:{name}", rf"#quality_metric: host=\S+, {channel} {name} <{kind}>=(\S+)")
        for channel, name, kind in final
    ]
    return (
        *definitions,
        ("train:progress", r"#progress_metric: host=\S+, completed (\S+) %"),
        ("train:throughput", r"#throughput_metric: host=\S+, train throughput=(\S+) records/second"),
    )


ALGORITHMS: Mapping[str, AlgorithmInfo] = MappingProxyType(
    {
        info.name: info
        for info in (
            AlgorithmInfo(
                name="pca",
                repository="pca",
                description="Principal component analysis: projects rows onto their directions of largest variance",
                module="millrace_algorithms.pca",
                required_channels=("train",),
                optional_channels=("test",),
                content_types=(_PROTOBUF, _CSV),
                metric_definitions=_metrics(("test", "reconstruction_error", "loss")),
            ),
            AlgorithmInfo(
                name="knn",
                repository="knn",
                description="k-nearest neighbours: classifies or regresses by the most similar training rows",
                module="millrace_algorithms.knn",
                required_channels=("train",),
                optional_channels=("test",),
                content_types=(_PROTOBUF, _CSV),
                metric_definitions=_metrics(
                    ("test", "accuracy", "score"), ("test", "macro_f_1.000", "score"), ("test", "mse", "loss")
                ),
            ),
        )
    }
)

_BY_REPOSITORY = {info.repository: info for info in ALGORITHMS.values()}


def find(image_uri: str) -> AlgorithmInfo | None:
    """Return the algorithm that an image name means, or None.

    The whole repository path must match: `123.dkr.ecr.us-east-1.amazonaws.com/my/pca:1` is a user's own image. Accounts
    and regions differ for each algorithm and carry no meaning. A digest is taken as the repository's only version.
    """
    name, _, digest = image_uri.strip().partition("@")
    host, slash, path = name.partition("/")
    # As Docker does: a first part with a dot or a port, or "localhost", is a registry, else part of the repository.
    repository_and_tag = path if slash and ("." in host or ":" in host or host == "localhost") else name
    repository, colon, tag = repository_and_tag.partition(":")
    info = _BY_REPOSITORY.get(repository)
    if info is None or (not digest and colon and tag not in info.tags):
        return None
    return info
