"""Parse the filters of a job in the syntax that it asks for."""

from millrace.dataplane.jsonpath import Filter, parse_filter
from millrace.jobs.transform import TransformSpec
from millrace.jobs.transform_options import Filters, filters_of

__all__ = ["input_filter", "output_filter"]


def input_filter(spec: TransformSpec) -> Filter:
    """Return a job's InputFilter; raises InvalidFilter, and ValidationError if there is no such syntax."""
    extended = filters_of(spec.environment) is Filters.EXTENDED
    text, media_type = spec.processing.input_filter, spec.content_type or ""
    return parse_filter(text, media_type, member="InputFilter", extended=extended)


def output_filter(spec: TransformSpec) -> Filter:
    """Return a job's OutputFilter; raises as `input_filter`."""
    extended = filters_of(spec.environment) is Filters.EXTENDED
    text, media_type = spec.processing.output_filter, spec.accept or ""
    return parse_filter(text, media_type, member="OutputFilter", extended=extended)
