"""A transform job's FailureReason."""

import pytest

from millrace.errors import FAILURE_REASON_LIMIT
from millrace.jobs.transform import InstanceOutcome, ObjectFailure, Progress, transform_failure_reason
from millrace.jobs.transform_options import FailuresAllowed


def failure(key: str, label: str = "ClientError", **more: object) -> ObjectFailure:
    return ObjectFailure(key=key, label=label, message="it broke", **more)  # type: ignore[arg-type]


def outcome(total: int, *failures: ObjectFailure) -> InstanceOutcome:
    progress = Progress(objects_total=total)
    return InstanceOutcome(progress=progress, failures=failures, failure_count=len(failures))


def test_the_algorithm_s_fault_is_told_first() -> None:
    """AlgorithmError wins over ClientError, and the first object told is one of that class."""
    reason = transform_failure_reason([outcome(9, failure("a"), failure("b", "AlgorithmError"))])
    assert reason == "AlgorithmError: See job logs for more information. 2 of 9 objects failed; first: b: it broke"


def test_a_reason_names_record_offset_and_answer() -> None:
    """Record number, byte offset and the container's words follow the key, on one line."""
    told = transform_failure_reason([outcome(1, failure("a", record=3, offset=24, answer="no\n good"))])
    assert told is not None
    assert told.endswith("1 of 1 object failed; first: a, record 3 at byte 24: it broke: no good")


def test_failures_are_counted_over_all_instances() -> None:
    """The first object by key is told, whichever instance had it."""
    reason = transform_failure_reason([outcome(3, failure("b")), outcome(2), outcome(2, failure("a"))])
    assert reason == "ClientError: See job logs for more information. 2 of 7 objects failed; first: a: it broke"


def test_a_reason_is_cut_at_the_limit() -> None:
    """FailureReason holds 1,024 characters."""
    reason = transform_failure_reason([outcome(1, failure("a", answer="x" * 5000))])
    assert reason is not None
    assert len(reason) == FAILURE_REASON_LIMIT


@pytest.mark.parametrize(("by_algorithm", "label"), [((0, 0), "ClientError"), ((0, 1), "AlgorithmError")])
def test_too_many_bad_records_are_the_fault_of_whoever_made_them(by_algorithm: tuple[int, int], label: str) -> None:
    """A share of all records is known at the end only; of bad records, too, AlgorithmError wins over ClientError."""
    outcomes = [
        InstanceOutcome(progress=Progress(records=40, records_failed=5, records_failed_by_algorithm=count))
        for count in by_algorithm
    ]
    allowed = FailuresAllowed(share=0.1, text="10%")
    assert transform_failure_reason(outcomes, allowed) == (
        f"{label}: See job logs for more information. 10 of 90 records failed, more than 10% "
        "(MILLRACE_MAX_FAILED_RECORDS)"
    )
    assert transform_failure_reason(outcomes, FailuresAllowed(share=0.2, text="20%")) is None


def test_without_failures_there_is_no_reason() -> None:
    """A job whose objects all have their output did not fail."""
    assert transform_failure_reason([outcome(2), outcome(0)]) is None
