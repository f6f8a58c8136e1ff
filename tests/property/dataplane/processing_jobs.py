"""Make jobs whose records are filtered and joined, and see what becomes of payloads."""

from collections.abc import Mapping

from millrace.dataplane.answer_text import AnswerBody, whole_text
from millrace.dataplane.payload import Payload
from millrace.dataplane.processing import Processing, RecordError
from millrace.jobs.transform import AssembleWith, BatchStrategy, DataProcessing, JoinSource, SplitType, TransformSpec
from millrace.names import ObjectPrefix

__all__ = ["outcome", "processing_job"]


def processing_job(
    content_type: str,
    *,
    split: SplitType = SplitType.LINE,
    input_filter: str = "$",
    output_filter: str = "$",
    join: bool = True,
    environment: Mapping[str, str] | None = None,
) -> TransformSpec:
    """Return a job whose input and answers are of one media type."""
    return TransformSpec(
        model="m",
        source=ObjectPrefix("b", ""),
        output=ObjectPrefix("b", "o"),
        split=split,
        assemble_with=AssembleWith.LINE,
        strategy=BatchStrategy.MULTI_RECORD,
        content_type=content_type,
        accept=content_type,
        processing=DataProcessing(
            input_filter=input_filter,
            output_filter=output_filter,
            join_source=JoinSource.INPUT if join else JoinSource.NONE,
        ),
        environment=environment or {},
    )


def outcome(processing: Processing, body: bytes, answer_text: AnswerBody) -> list[object]:
    """Return all that becomes of a payload and its answer."""
    payload = Payload(body, len(body), 1, 0, body.count(b"\n") or 1)
    told: list[object] = []
    try:
        told.append(processing.prepare(payload))
        told += (payload.joined(), payload.sent_size, payload.dropped)
        if processing.rewrites_answers:
            told.append(whole_text(processing.complete(payload, answer_text)))
    except RecordError as exc:
        told += (str(exc), exc.position)
    return told
