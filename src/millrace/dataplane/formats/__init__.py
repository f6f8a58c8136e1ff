"""Formats of objects beyond bytes and lines, all of them asked for by variables of a job's Environment."""

from millrace.dataplane.formats.checks import check_formats
from millrace.dataplane.formats.job import JobFormats
from millrace.dataplane.formats.options import FORMAT_VARIABLES, FormatOptions, format_options
from millrace.dataplane.formats.unreadable import UNREADABLE, UnfitFormat

__all__ = [
    "FORMAT_VARIABLES",
    "UNREADABLE",
    "FormatOptions",
    "JobFormats",
    "UnfitFormat",
    "check_formats",
    "format_options",
]
