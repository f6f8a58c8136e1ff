"""Formats of objects beyond bytes and lines, all of them asked for by variables of a job's Environment."""
