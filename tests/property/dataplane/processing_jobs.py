"""Make jobs whose records are filtered and joined."""

from millrace.jobs.transform import AssembleWith, BatchStrategy, DataProcessing, JoinSource, SplitType, TransformSpec
from millrace.names import ObjectPrefix

__all__ = ["processing_job"]


def processing_job(
    content_type: str,
    *,
    split: SplitType = SplitType.LINE,
    input_filter: str = "$",
    output_filter: str = "$",
    join: bool = True,
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
    )
