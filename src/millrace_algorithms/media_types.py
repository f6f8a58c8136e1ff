"""Parse content types and choose what to answer with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from millrace_algorithms.errors import NotAcceptable

__all__ = [
    "CSV",
    "JSON",
    "JSON_LINES",
    "RECORDIO_PROTOBUF",
    "MediaType",
    "negotiate",
    "parse",
]

RECORDIO_PROTOBUF = "application/x-recordio-protobuf"
CSV = "text/csv"
JSON = "application/json"
JSON_LINES = "application/jsonlines"

_SYNONYMS = {"application/x-jsonlines": JSON_LINES, "application/jsonl": JSON_LINES}


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaType:
    """A media type in lower case with its parameters: keys in lower case, values without quotes."""

    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def verbose(self) -> bool:
        """Whether the caller asks for all that the algorithm knows."""
        return self.parameters.get("verbose", "").lower() == "true"

    @property
    def label_size(self) -> int | None:
        """How many leading CSV columns are label; None if it does not say. Raises ValueError for a bad number."""
        text = self.parameters.get("label_size")
        if text is None:
            return None
        if not (text.isascii() and text.isdigit()):
            raise ValueError(f"label_size must be an integer of 0 or more, got {text!r}")
        return int(text)


def parse(text: str) -> MediaType:
    """Parse `text/csv; label_size=0` in any case, with spaces wherever public notebooks put them."""
    name, *parameters = text.split(";")
    pairs = (part.partition("=") for part in parameters)
    name = name.strip().lower()
    return MediaType(
        name=_SYNONYMS.get(name, name),
        parameters={key.strip().lower(): value.strip().strip('"') for key, _, value in pairs if key.strip()},
    )


def _quality(media_type: MediaType) -> float:
    try:
        return float(media_type.parameters.get("q", "1"))
    except ValueError:
        return 0.0


def negotiate(accept: str | None, *, supported: Sequence[str], default: str) -> MediaType:
    """Return the media type to answer with, the options of the request kept as its parameters.

    Args:
        accept: The request's header; missing, empty or `*/*` means the default.
        supported: What the algorithm writes.
        default: The algorithm's own.

    Raises:
        NotAcceptable: Nothing asked for is supported.
    """
    asked = [parse(part) for part in accept.split(",")] if accept and accept.strip() else [MediaType(name="*/*")]
    for candidate in sorted(asked, key=_quality, reverse=True):
        if candidate.name in supported:
            return candidate
        if candidate.name == "*/*":
            chosen = parse(default)
            if chosen.name not in supported:
                raise NotAcceptable(default, supported)
            return MediaType(name=chosen.name, parameters={**chosen.parameters, **candidate.parameters})
        kind, _, subtype = candidate.name.partition("/")
        matching = next((s for s in supported if subtype == "*" and s.startswith(f"{kind}/")), None)
        if matching is not None:
            return MediaType(name=matching, parameters=candidate.parameters)
    raise NotAcceptable(accept or "*/*", supported)
