"""The lines by which SageMaker's algorithms report metrics; tools find values in them by regular expressions."""

from dataclasses import dataclass
from enum import Enum

__all__ = ["Goal", "MetricLines"]


class Goal(Enum):
    """Whether a metric is to be made small or large."""

    LOSS = "loss"
    SCORE = "score"


@dataclass(frozen=True, slots=True)
class MetricLines:
    """Words the metric lines of one host."""

    host: str = "algo-1"

    def quality(
        self, channel: str, name: str, value: float, goal: Goal, *, epoch: int | None = None, batch: int | None = None
    ) -> str:
        """Return a quality line: final without an epoch, else of that epoch, or of one mini-batch of it."""
        when = "" if epoch is None else f"epoch={epoch}, "
        if batch is not None:
            when += f"batch={batch} "  # no comma after the batch number, as observed
        return f"#quality_metric: host={self.host}, {when}{channel} {name} <{goal.value}>={value!r}"

    def score(self, channel: str, name: str, value: float) -> str:
        """Return a `#test_score` line, printed before the quality line of the same metric."""
        return f"#{channel}_score ({self.host}) : ({name!r}, {value!r})"

    def progress(self, percent: float) -> str:
        return f"#progress_metric: host={self.host}, completed {percent:.1f} % of epochs"

    def throughput(self, records_per_second: float) -> str:
        return f"#throughput_metric: host={self.host}, train throughput={records_per_second!r} records/second"
