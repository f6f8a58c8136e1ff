"""Connect a run to its autotuner: what it counts, and what the run does with what the tuner finds."""

import os
from collections.abc import Callable

from millrace.dataplane.autotune import Autotuner
from millrace.dataplane.autotune_measure import Totals
from millrace.dataplane.autotune_settings import AutotuneSettings
from millrace.dataplane.execution_parameters import EffectiveSettings
from millrace.dataplane.limits import Limits
from millrace.dataplane.payload import Payload
from millrace.dataplane.retry import AttemptFailure
from millrace.jobs.transform import BatchStrategy, SplitType, TransformSpec, TuningOutcome, TuningPoint

__all__ = ["Tuning", "tuning_settings"]

TOO_LARGE = 413
_REFUSALS = (429, 503)
_DEFAULTS = AutotuneSettings()


def tuning_settings(spec: TransformSpec, effective: EffectiveSettings, limits: Limits) -> AutotuneSettings:
    """Return the bounds of the search: what the client stated holds, else the product's own limits."""
    stated = spec.max_concurrent_transforms
    most = stated or _DEFAULTS.max_concurrency
    wished = effective.max_concurrent_transforms
    first = wished if wished > 1 else os.cpu_count() or 2
    largest = effective.max_payload_bytes or limits.inflight_bytes // 2
    return AutotuneSettings(
        tunes_payload=spec.split is not SplitType.NONE
        and effective.strategy is BatchStrategy.MULTI_RECORD
        and effective.max_payload_bytes > 0,
        max_concurrency=most,
        max_payload_bytes=largest,
        inflight_bytes=limits.inflight_bytes,
        reserve_bytes=min(limits.read_ahead_chunks * limits.chunk_bytes, limits.inflight_bytes // 4),
        first_concurrency=min(first, most),
        first_payload_bytes=min(largest, _DEFAULTS.first_payload_bytes),
        longest_request_seconds=min(spec.invocation_timeout_seconds / 4, _DEFAULTS.longest_request_seconds),
    )


class Tuning:
    """The autotuner of one run, told of good answers and of refusals."""

    def __init__(
        self,
        settings: AutotuneSettings,
        *,
        in_flight: Callable[[], int],
        remaining_bytes: Callable[[], int | None],
    ) -> None:
        self._tuner = Autotuner(settings)
        self._in_flight = in_flight
        self._remaining_bytes = remaining_bytes
        self._pause = settings.slice_seconds / 4
        self._next_look = 0.0
        self._answers = self._records = self._sent_bytes = self._answer_bytes = 0
        self._latency_seconds = 0.0
        self.tunes_payload = settings.tunes_payload

    @property
    def concurrency(self) -> int:
        return self._tuner.concurrency

    @property
    def payload_bytes(self) -> int:
        return self._tuner.payload_bytes

    def holds(self, now: float) -> bool:
        """Return whether payloads that back off hold their slots."""
        return self._tuner.holds(now)

    def cuts(self, payload: Payload) -> bool:
        """Return whether a payload that is to be sent again is to be cut first."""
        return self._tuner.cuts(payload.size)

    @property
    def chosen(self) -> str:
        return self._tuner.chosen

    def outcome(self, *, keep: int) -> TuningOutcome:
        """Return what was found, with the last `keep` measurements."""
        tuner = self._tuner
        return TuningOutcome(
            chosen=tuner.chosen,
            concurrency=tuner.setting.concurrency,
            payload_bytes=tuner.setting.payload_bytes if self.tunes_payload else None,
            curve=tuple(
                TuningPoint(
                    at_seconds=point.at_seconds,
                    concurrency=point.concurrency,
                    payload_bytes=point.payload_bytes,
                    verdict=str(point.verdict.value),
                    records_per_second=point.records_per_second,
                    megabytes_per_second=point.megabytes_per_second,
                    mean_latency_seconds=point.mean_latency_seconds,
                )
                for point in tuner.curve[-keep:]
            ),
        )

    def answered(self, now: float, started: float, payload: Payload, answer_bytes: int) -> None:
        """Count a good answer."""
        self._answers += 1
        self._records += payload.records
        self._sent_bytes += payload.size
        self._answer_bytes += answer_bytes
        self._latency_seconds += now - started
        if now >= self._next_look:
            self.look(now)

    def look(self, now: float) -> None:
        """Have the tuner look at the counters."""
        self._next_look = now + self._pause
        totals = Totals(
            answers=self._answers,
            records=self._records,
            sent_bytes=self._sent_bytes,
            answer_bytes=self._answer_bytes,
            latency_seconds=self._latency_seconds,
            in_flight=self._in_flight(),
            remaining_bytes=self._remaining_bytes(),
        )
        self._tuner.observe(now, totals)

    def failed(self, now: float, payload: Payload, failure: AttemptFailure) -> bool:
        """Tell of an attempt that failed: refused, or without an answer; return whether the search brought it about."""
        if failure.status == TOO_LARGE:
            self._tuner.too_large(now, payload.size)
        elif failure.status in _REFUSALS or (failure.status is None and failure.may_retry):
            return self._tuner.refused(now, payload.sent_at, payload.size, under_way=self._in_flight())
        return False
